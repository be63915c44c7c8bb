"""Tests of a rule that is one file in a user's folder, from the watchlist to the rows in the database.

The file and its row in the watchlist are the examples in docs/STRATEGIES.md.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ema_assets.config.watchlist import parse
from ema_assets.model.errors import ConfigurationError
from ema_assets.refresh.graph import Graph, build
from ema_assets.store.database import Database
from ema_assets.strategies import watchlist_rows
from ema_assets.strategies.rule import Rule
from ema_assets.strategies.rule_discovery import discover
from ema_assets.strategies.simulator.simulation import simulate
from ema_assets.strategies.variant import Variant
from ema_assets_tests.core import CORE_TEXT
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, rows_of, utc, watch
from ema_assets_tests.strategies.market import NOTHING, RULES, bars_from, frame_of
from ema_assets_tests.timeframes import D1, M5, ORDER

REPOSITORY = Path(__file__).parents[2]
DOCS = (REPOSITORY / "docs/STRATEGIES.md").read_text(encoding="utf-8")
(RULE,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
(ROW,) = re.findall(r"```toml\n([^`]*strong_close[^`]*)```", DOCS)
WATCHLIST = f'{CORE_TEXT}\n{ROW}\n[[group]]\ncalendar = "24/7"\nsymbols = ["BTC-USD", "ETH-USD"]\n'
STRENGTH = 0.8
ALL_RULES = ", ".join(sorted([*RULES, "strong_close"]))

WATCHED = watch({"BTC-USD": "24/7", "ETH-USD": "24/7"}, m5_days=5, d1_days=140, timeframes=ORDER)
FIRST = {M5: date(2026, 11, 12), D1: date(2026, 7, 1)}
NOW, LATER = utc("2026-11-18 15:00"), utc("2026-11-18 15:20")


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """The graph of a user who has saved the rule in a folder."""
    (tmp_path / "strong.py").write_text(RULE, encoding="utf-8")
    return build(parse(WATCHLIST), strategies_folder=tmp_path)


def exchange() -> MemoryExchange:
    return MemoryExchange(
        *(
            bars_on("24/7", symbol, timeframe, FIRST[timeframe], NOW.date(), seed)
            for seed, symbol in enumerate(WATCHED.symbols)
            for timeframe in FIRST
        )
    )


def expected(bars: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Trades that buy at the open after a strong close and sell at the open after a close in the lower half."""
    trades: list[list[Any]] = []
    buys = sells = False
    for bar in bars:
        if sells:
            trades[-1][2:] = [bar["ts"], bar["open"]]
        if buys:
            trades.append([bar["ts"], bar["open"], None, None])
        is_open = bool(trades) and trades[-1][2] is None
        distance = (bar["close"] - bar["low"]) - (bar["high"] - bar["close"])
        sells = is_open and distance < 0
        buys = not is_open and distance > 0 and distance >= STRENGTH * (bar["high"] - bar["low"])
    return [tuple(trade) for trade in trades]


def trades_in(frame: pl.DataFrame, symbol: str) -> list[tuple[Any, ...]]:
    return frame.filter(symbol=symbol).select("entry_ts", "entry_price", "exit_ts", "exit_price").rows()


def test_a_rule_in_the_watchlist_becomes_an_asset_that_trades(graph: Graph) -> None:
    node = graph.nodes["strategy_strong"]
    assert node.reads == {"ohlc": ("open", "high", "low", "close"), "ema_trend": ("spread_pct", "bar_number")}
    assert node.code_version == "3 fill=next_open rule=strong_close strength=0.8"
    assert node.description.startswith("Trades of the strong close strategy, one row per trade. Enters at a close near")
    assert "costs of 0 basis points per side, strength 0.8." in node.description
    bars = frame_of({"A": bars_from(7, 400), "B": bars_from(8, 300)})
    trades = simulate(bars, NOTHING, node.variant.on(M5)).trades
    for symbol, rows in (("A", bars_from(7, 400)), ("B", bars_from(8, 300))):
        assert len(trades_in(trades, symbol)) > 10
        assert trades_in(trades, symbol) == expected(rows)
    assert set(trades["entry_reason"]) == {"strong_close"}
    assert set(trades["exit_reason"].drop_nulls()) == {"lower_half"}


def test_a_rule_trades_in_a_database_that_was_filled_without_it(graph: Graph, database: Database) -> None:
    refresh(database, WATCHED, exchange(), NOW)
    first, later = (
        {
            name
            for (name, _), outcome in refresh(database, WATCHED, exchange(), now, graph=graph).items()
            if outcome.done
        }
        for now in (NOW, LATER)
    )
    assert first == {"strategy_strong"}
    assert "strategy_strong" in later
    with database.transaction() as transaction:
        stored = transaction.query("SELECT * FROM market.strategy_strong ORDER BY symbol, timeframe, entry_ts")
        bars = transaction.query("SELECT * FROM market.ohlc ORDER BY symbol, timeframe, ts")
    assert {"5m", "15m", "30m", "1h", "4h"} <= set(stored["timeframe"])
    for (symbol, timeframe), rows in bars.group_by("symbol", "timeframe"):
        assert trades_in(stored.filter(timeframe=timeframe), str(symbol)) == expected(rows.rows(named=True)), timeframe
    known = rows_of(database, "SELECT DISTINCT code_version FROM market.series_state WHERE asset = 'strategy_strong'")
    assert known == [("3 fill=next_open rule=strong_close strength=0.8",)]
    shown = rows_of(database, "SELECT count(*) FROM results.trades WHERE strategy = 'strategy_strong'")
    assert shown == [(stored.height,)]


@pytest.mark.broad
def test_only_a_rule_that_reads_other_bars_fails_and_its_error_states_why(database: Database, tmp_path: Path) -> None:
    looking = RULE.replace("leave_long=distance < 0", 'leave_long=pl.col("close") < pl.col("close").shift(1)')
    assert looking != RULE
    (tmp_path / "strong.py").write_text(looking, encoding="utf-8")
    graph = build(parse(WATCHLIST), strategies_folder=tmp_path)
    outcomes = refresh(database, WATCHED, exchange(), NOW, timeframes=[M5], graph=graph)
    assert {name for (name, _), outcome in outcomes.items() if outcome.errors} == {"strategy_strong"}
    refused = outcomes["strategy_strong", M5]
    assert sorted(refused.errors) == ["BTC-USD", "ETH-USD"]
    for said in refused.errors.values():
        where = re.escape(str(tmp_path / "strong.py"))
        wanted = (
            f"UnsoundRule: rule 'strong_close' in {where}, line 8: `evaluate` must use only the row of each bar, but "
            f"`leave_long` of BTC-USD at 2026-11-.* UTC changes when bars around it are left out; what looks back is "
            r"a signal's business \(docs/SIGNALS.md\)"
        )
        assert re.fullmatch(wanted, said), said
    assert rows_of(database, "SELECT count(*) FROM market.strategy_strong") == [(0,)]
    assert rows_of(database, "SELECT count(*) > 0 FROM market.strategy_9_30_ema") == [(True,)]


# --- errors ---


@pytest.fixture
def rule(tmp_path: Path) -> Rule:
    """The rule in docs/STRATEGIES.md."""
    (tmp_path / "strong.py").write_text(RULE, encoding="utf-8")
    return discover(tmp_path)["strong_close"]


def refused(monkeypatch: pytest.MonkeyPatch, rule: Rule, watchlist: str) -> str:
    monkeypatch.setattr(watchlist_rows, "discover", lambda folder: dict(sorted({**RULES, rule.name: rule}.items())))
    with pytest.raises(ConfigurationError) as caught:
        build(parse(watchlist))
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("strength = 0.8", "strenght = 0.8", "strategy 'strong': unknown key `strenght`, .*; did you mean `strength`?"),
        ("strength = 0.8", "strength = 2", "strategy 'strong': `strength` must be a number from 0 to 1, received 2"),
        ('"strong_close"', '"strong_clse"', f"strategy 'strong': `rule` must be one of {ALL_RULES}, received 'strong_clse'; did you mean `strong_close`?"),
        ('rule = "strong_close"', 'rule = "crossover"', "strategy 'strong', rule 'crossover': unknown key `strength`, allowed are name, rule, .*"),
    ],
)  # fmt: skip
def test_an_error_in_the_row_of_a_rule_is_named(
    monkeypatch: pytest.MonkeyPatch, rule: Rule, old: str, new: str, message: str
) -> None:
    assert old in WATCHLIST
    received = refused(monkeypatch, rule, WATCHLIST.replace(old, new))
    assert re.fullmatch(f"watchlist: {message.replace('?', '[?]')}", received), received


@pytest.mark.parametrize(
    ("reads", "message"),
    [
        ({"ema_trnd": ("trend",)}, "`reads` must name assets among ohlc, .*, received 'ema_trnd'; did you mean `ema_trend`?"),
        ({"rsi": ("rsj",)}, "`rsi` has no column 'rsj' to read; it has rsi, .*; did you mean `rsi`?"),
        ({"ema_signals": ("bar_number",)}, "column 'bar_number' is read twice; names must differ between assets"),
    ],
)  # fmt: skip
def test_an_invalid_asset_or_column_that_a_rule_reads_is_named(
    monkeypatch: pytest.MonkeyPatch, rule: Rule, reads: dict[str, tuple[str, ...]], message: str
) -> None:
    received = refused(monkeypatch, replace(rule, reads=reads), WATCHLIST)
    wanted = f"watchlist: strategy_strong, rule `strong_close` in .*[.]py, line [0-9]+: {message.replace('?', '[?]')}"
    assert re.fullmatch(wanted, received), received


def test_the_check_of_a_rule_can_refuse_its_parameters(monkeypatch: pytest.MonkeyPatch, rule: Rule) -> None:
    received = refused(
        monkeypatch, replace(rule, check=lambda params: f"{params['strength']:g} is too much"), WATCHLIST
    )
    assert received == "watchlist: strategy 'strong': 0.8 is too much"


def test_a_rule_cannot_read_a_signal_that_is_switched_off(monkeypatch: pytest.MonkeyPatch, rule: Rule) -> None:
    received = refused(monkeypatch, replace(rule, reads={"rsi": ("rsi",)}), WATCHLIST)
    assert "rsi cannot be switched off while strategy_strong reads it" in received


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda bars, _: None, "a polars frame, received NoneType"),
        (
            lambda bars, _: bars.select(enter_long=pl.col("close").max() > 0),
            "one row per bar, received fewer rows than bars",
        ),
        (lambda bars, _: bars.select(enter=pl.col("close") > 0), "columns among enter_long, .*, received 'enter'"),
        (lambda bars, _: bars.select(enter_long="close"), "true or false in `enter_long`, received Float64"),
        (lambda bars, _: bars.select(stop_long="symbol"), "prices in `stop_long`, received String"),
    ],
)
def test_an_evaluation_of_the_wrong_size_or_type_is_refused(rule: Rule, made: Any, message: str) -> None:
    bars = frame_of({"A": bars_from(7, 20)})
    with pytest.raises(ValueError, match=rf"rule 'strong_close' in .*\.py, line \d+: `evaluate` must return {message}"):
        simulate(bars, NOTHING, Variant("x", replace(rule, evaluate=made)))


def test_the_module_in_the_docs_passes_the_linter(graph: Graph, tmp_path: Path) -> None:
    ours = 'lint.isort.known-first-party = ["ema_assets"]'
    config = ["--no-cache", "--config", str(REPOSITORY / "pyproject.toml"), "--config", ours]
    for command in ("check", "format --check"):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command.split(), *config, "strong.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
