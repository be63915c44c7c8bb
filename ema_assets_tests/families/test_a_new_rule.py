"""A rule that is one new file in a copy of the package trades: from the watchlist to the rows in the database.

The file is the example of docs/STRATEGIES.md, and so is its row in the watchlist.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ema_assets.config.watchlist import parse
from ema_assets.model.errors import ConfigurationError
from ema_assets.refresh.graph import build
from ema_assets.store.database import Database
from ema_assets.strategies import watchlist_rows
from ema_assets.strategies.rule import Evaluation, Rule
from ema_assets.strategies.simulator.simulation import simulate
from ema_assets.strategies.variant import Variant
from ema_assets_tests.core import CORE_TEXT
from ema_assets_tests.families.package import package_with, run_python
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

# For a process that imports the copy and has the text of a watchlist in its environment.
GRAPH = """
import json, os
from ema_assets.config.watchlist import parse
from ema_assets.refresh.graph import build

graph = build(parse(os.environ["WATCHLIST"]))
"""
SIMULATE = """
from ema_assets.strategies.simulator.simulation import simulate
from ema_assets_tests.strategies.market import NOTHING, bars_from, frame_of
from ema_assets_tests.timeframes import M5

node = graph.nodes["strategy_9_30_strong"]
bars = frame_of({"A": bars_from(7, 400), "B": bars_from(8, 300)})
simulate(bars, NOTHING, node.variant.on(M5)).trades.write_parquet("trades.parquet")
print(json.dumps({"reads": dict(node.reads), "version": node.code_version, "description": node.description}))
"""
REFRESH = """
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import refresh
from ema_assets_tests.families.test_a_new_rule import LATER, NOW, WATCHED, exchange

with Database(os.environ["URL"]) as database:
    outcomes = [refresh(database, WATCHED, exchange(), now, graph=graph) for now in (NOW, LATER)]
print(json.dumps([sorted({name for (name, _), outcome in each.items() if outcome.done}) for each in outcomes]))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The folder of a copy of the package with one file more."""
    return package_with(tmp_path, new={"strategies/rules/strong_close.py": RULE})


def exchange() -> MemoryExchange:
    return MemoryExchange(
        *(
            bars_on("24/7", symbol, timeframe, FIRST[timeframe], NOW.date(), seed)
            for seed, symbol in enumerate(WATCHED.symbols)
            for timeframe in FIRST
        )
    )


def expected(bars: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """A trader who buys at the open after a strong close and sells at the open after a close in the lower half."""
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


def test_it_trades_through_the_graph_of_a_watchlist_that_names_it(copy: Path) -> None:
    node = json.loads(run_python(copy, GRAPH + SIMULATE, WATCHLIST=WATCHLIST))
    assert node["reads"] == {"ohlc": ["open", "high", "low", "close"], "ema_trend": ["spread_pct", "bar_number"]}
    assert node["version"] == "3 fill=next_open rule=strong_close strength=0.8"
    assert node["description"].startswith(
        "Trades of the strong close strategy, one row per trade. Enters at a close near"
    )
    assert "costs of 0 basis points per side, strength 0.8." in node["description"]
    trades = pl.read_parquet(copy / "trades.parquet")
    for symbol, bars in (("A", bars_from(7, 400)), ("B", bars_from(8, 300))):
        assert len(trades_in(trades, symbol)) > 10
        assert trades_in(trades, symbol) == expected(bars)
    assert set(trades["entry_reason"]) == {"strong_close"}
    assert set(trades["exit_reason"].drop_nulls()) == {"lower_half"}


def test_it_trades_in_a_database_that_was_made_without_it(copy: Path, database: Database, database_url: str) -> None:
    refresh(database, WATCHED, exchange(), NOW)
    first, later = json.loads(run_python(copy, GRAPH + REFRESH, WATCHLIST=WATCHLIST, URL=database_url))
    assert first == ["strategy_9_30_strong"]
    assert "strategy_9_30_strong" in later
    with database.transaction() as transaction:
        stored = transaction.query("SELECT * FROM market.strategy_9_30_strong ORDER BY symbol, timeframe, entry_ts")
        bars = transaction.query("SELECT * FROM market.ohlc ORDER BY symbol, timeframe, ts")
    assert {"5m", "15m", "30m", "1h", "4h"} <= set(stored["timeframe"])
    for (symbol, timeframe), rows in bars.group_by("symbol", "timeframe"):
        assert trades_in(stored.filter(timeframe=timeframe), str(symbol)) == expected(rows.rows(named=True)), timeframe
    known = rows_of(
        database, "SELECT DISTINCT code_version FROM market.series_state WHERE asset = 'strategy_9_30_strong'"
    )
    assert known == [("3 fill=next_open rule=strong_close strength=0.8",)]
    shown = rows_of(database, "SELECT count(*) FROM results.trades WHERE strategy = 'strategy_9_30_strong'")
    assert shown == [(stored.height,)]


# --- errors ---


@pytest.fixture
def rule() -> Rule:
    """The rule of the docs, in this process."""
    module: dict[str, Any] = {}
    exec(RULE, module)
    return module["RULE"]


def refused(monkeypatch: pytest.MonkeyPatch, rule: Rule, watchlist: str) -> str:
    monkeypatch.setattr(watchlist_rows, "discover", lambda: dict(sorted({**RULES, rule.name: rule}.items())))
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
def test_an_error_in_its_row_is_named(
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
def test_an_asset_or_column_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, rule: Rule, reads: dict[str, tuple[str, ...]], message: str
) -> None:
    received = refused(monkeypatch, replace(rule, reads=reads), WATCHLIST)
    wanted = f"watchlist: strategy strategy_9_30_strong, rule `strong_close`: {message.replace('?', '[?]')}"
    assert re.fullmatch(wanted, received), received


def test_its_parameters_are_checked_together(monkeypatch: pytest.MonkeyPatch, rule: Rule) -> None:
    received = refused(
        monkeypatch, replace(rule, check=lambda params: f"{params['strength']:g} is too much"), WATCHLIST
    )
    assert received == "watchlist: strategy 'strong': 0.8 is too much"


def test_it_cannot_read_a_signal_that_is_switched_off(monkeypatch: pytest.MonkeyPatch, rule: Rule) -> None:
    received = refused(monkeypatch, replace(rule, reads={"rsi": ("rsi",)}), WATCHLIST)
    assert "rsi cannot be switched off while strategy_9_30_strong reads it" in received


def test_an_evaluation_of_the_wrong_size_or_type_is_refused(rule: Rule) -> None:
    bars = frame_of({"A": bars_from(7, 20)})
    for made, received in (
        (lambda bars, _: Evaluation(np.zeros(3, np.int8), np.zeros(3, np.int8)), r"shape \(3,\) of int8"),
        (lambda bars, _: Evaluation(np.zeros(bars.height), np.zeros(bars.height)), r"shape \(20,\) of float64"),
    ):
        with pytest.raises(ValueError, match=f"rule 'strong_close': `direction` of its evaluation .* {received}"):
            simulate(bars, NOTHING, Variant("x", replace(rule, evaluate=made)))


def test_the_module_in_the_docs_passes_the_linter(copy: Path) -> None:
    config = ["--no-cache", "--config", str(REPOSITORY / "pyproject.toml")]
    for command in ("check", "format --check"):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command.split(), *config, "ema_assets/strategies/rules/strong_close.py"],
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
