"""Tests of `ema-assets screen`, and of `read` for signals, strategies, the screener and pages of rows."""

import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import click
import polars as pl
import pytest
from click.testing import CliRunner, Result

from ema_assets import read
from ema_assets.cli import main
from ema_assets.cli import screen as screen_command
from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist, parse
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.prices import price_text
from ema_assets.model.symbols import Instrument
from ema_assets.refresh.graph import build
from ema_assets.reports.screen import SORTS, screen
from ema_assets.store.database import Database
from ema_assets.store.results import refresh_performance
from ema_assets_tests.conftest import Databases
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, utc
from ema_assets_tests.timeframes import FETCHED, M5, ORDER

SYMBOLS = ("AAPL", "MSFT", "JPM", "XOM")
WATCHED = Watchlist(tuple(Instrument(symbol) for symbol in SYMBOLS), dict(zip(FETCHED, (12, 60), strict=True)))
FILE = f"[[group]]\nsymbols = {json.dumps(SYMBOLS)}\n"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def stored(databases: Databases) -> Iterator[str]:
    """A database with everything computed for four symbols. Tests only read it."""
    url = databases.make()
    market = MemoryExchange(
        *(
            bars_on("XNYS", symbol, frame, date(2026, 11, 10) if frame is M5 else date(2026, 10, 1),
                    date(2026, 11, 20), seed)
            for seed, symbol in enumerate(SYMBOLS)
            for frame in FETCHED
        )
    )  # fmt: skip
    with Database(url) as database:
        refresh(database, WATCHED, market, utc("2026-11-20 22:00"))
        with database.transaction() as transaction:
            refresh_performance(transaction)
    yield url
    databases.drop(url)


@pytest.fixture
def home(stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "watchlist.toml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMA_HOME", str(tmp_path))
    monkeypatch.setenv("EMA_DATABASE_URL", stored)
    return tmp_path


@pytest.fixture
def run(home: Path) -> Run:
    return lambda *arguments: CliRunner().invoke(main, ["screen", *arguments], prog_name="ema-assets")


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, list)
    return found


def test_the_screener_has_one_row_per_symbol_in_the_requested_order(run: Run) -> None:
    found = rows(run("--timeframe", "15m", "--sort", "rsi", "--json"))
    assert {row["symbol"] for row in found} == set(SYMBOLS)
    assert {row["timeframe"] for row in found} == {"15m"}
    values = [row["rsi"] for row in found]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(SYMBOLS)
    again = rows(run("--timeframe", "15m", "--sort", "rsi", "--reverse", "--limit", "2", "--json"))
    assert [row["symbol"] for row in again] == [row["symbol"] for row in reversed(found)][:2]


def test_the_order_cross_puts_the_smallest_move_to_a_crossover_first(run: Run) -> None:
    moves = [abs(float(str(row["cross_distance_pct"]))) for row in rows(run("--sort", "cross", "--json"))]
    assert moves == sorted(moves)
    assert len(set(moves)) == len(SYMBOLS)


def test_the_screener_shows_the_open_trades_of_the_requested_strategy_with_their_current_stops(
    run: Run, stored: str
) -> None:
    name = "strategy_9_30_pullback"
    with Database(stored) as database, database.transaction() as transaction:
        trades = transaction.query(f"SELECT * FROM market.{name} WHERE status = 'open'").to_dicts()
    assert any(trade["stop_now"] != trade["stop_price"] for trade in trades), "no stop was trailed"
    opened = {(trade["symbol"], trade["timeframe"]): trade for trade in trades}
    shown = 0
    for timeframe in ORDER:
        default = rows(run("--timeframe", timeframe.key, "--sort", "symbol", "--json"))
        found = rows(run("--timeframe", timeframe.key, "--sort", "symbol", "--strategy", name, "--json"))
        assert [row.keys() for row in found] == [row.keys() for row in default]
        for row in found:
            trade = opened.get((row["symbol"], timeframe.key), {})
            assert (row["trade_side"], row["trade_price"]) == (trade.get("side"), trade.get("entry_price"))
            assert row["stop_price"] == trade.get("stop_now")
            if trade:
                shown += 1
                assert row["stop_distance_pct"] == pytest.approx((row["close"] / trade["stop_now"] - 1) * 100)
                line = run("--timeframe", timeframe.key, "--strategy", name, "--symbol", str(row["symbol"])).stdout
                assert f"{price_text(trade['stop_now'])} ({row['stop_distance_pct']:+.2f} %)" in line
        same = run("--timeframe", timeframe.key, "--sort", "symbol", "--strategy", "strategy_9_30_ema", "--json")
        assert rows(same) == default
    assert shown == len(opened)


@pytest.mark.parametrize("trend", ["up", "down"])
def test_the_option_trend_keeps_only_symbols_with_that_trend(run: Run, trend: str) -> None:
    everyone = rows(run("--timeframe", "5m", "--json"))
    assert trend in {row["trend"] for row in everyone}
    found = rows(run("--timeframe", "5m", "--trend", trend, "--json"))
    assert [row["symbol"] for row in found] == [row["symbol"] for row in everyone if row["trend"] == trend]


def test_the_option_crossed_within_keeps_only_symbols_with_a_recent_crossover(run: Run) -> None:
    everyone = rows(run("--timeframe", "5m", "--json"))
    ages = sorted({row["bars_since_cross"] for row in everyone})
    assert len(ages) > 1
    young = rows(run("--timeframe", "5m", "--crossed-within", str(ages[0]), "--json"))
    assert {row["symbol"] for row in young} == {row["symbol"] for row in everyone if row["bars_since_cross"] == ages[0]}


def test_the_table_shows_the_trend_on_every_timeframe(run: Run) -> None:
    result = run("--symbol", "AAPL")
    assert result.exit_code == 0, result.output
    head, line, note = result.stdout.splitlines()
    assert note == "~ warming up: too few bars for the averages to have converged"
    assert head.split()[:2] == ["symbol", "close"]
    assert f"{ORDER[0].key}…{ORDER[-1].key}" in head.split()
    assert line.split()[0] == "AAPL"
    assert set(line) & {"↑", "↓"}
    (row,) = rows(run("--symbol", "AAPL", "--json"))
    assert price_text(row["close"]) in line.split()
    assert price_text(row["cross_price"]) in line.split()


def test_a_symbol_is_shown_only_if_all_filters_match(run: Run) -> None:
    row = next(row for row in rows(run("--timeframe", "5m", "--json")) if row["bars_since_cross"])
    symbol, trend, since = str(row["symbol"]), str(row["trend"]), int(str(row["bars_since_cross"]))
    asked = ("--timeframe", "5m", "--symbol", symbol)
    alone = run(*asked).stdout
    assert alone.splitlines()[1].split()[0] == symbol
    assert run(*asked, "--trend", trend, "--crossed-within", str(since)).stdout == alone
    nothing = "No symbol on 5m matches.\n"
    assert run(*asked, "--trend", trend, "--crossed-within", str(since - 1)).stdout == nothing
    assert run(*asked, "--trend", "down" if trend == "up" else "up").stdout == nothing


def test_a_limit_counts_only_the_symbols_in_the_table(run: Run, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("--sort", "symbol", "--limit", "2")
    with Database(stored) as database:
        with database.transaction() as transaction:
            transaction.execute("UPDATE market.instrument SET silent_since = ts FROM (SELECT max(ts) AS ts "
                                "FROM market.ohlc) b WHERE symbol IN ('AAPL', 'JPM')")  # fmt: skip
        try:
            result = run(*asked)
            monkeypatch.setattr(screen_command, "_NAMED", 1)
            few = run(*asked)
        finally:
            with database.transaction() as transaction:
                transaction.execute("UPDATE market.instrument SET silent_since = NULL")
    assert [line.split()[0] for line in result.stdout.splitlines()[1:3]] == ["MSFT", "XOM"]
    told = [f"Left out: {symbol} has had no bar since 2026-11-20" for symbol in ("AAPL", "JPM")]
    assert result.stderr.splitlines() == told
    assert few.stderr.splitlines() == [
        told[0], "Left out: 1 more symbol has no bars; `ema-assets symbols check` names all"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--symbol", "NOPE"], "not on the watchlist: NOPE"),
        (["--timeframe", "60m"], "`timeframe` must be one of 1m, 3m, 5m, 15m,"),
        (
            ["--timeframe", "2h"],
            "2h is not on, the watchlist has 5m, 15m, 30m, 1h, 4h, 1d; add it there to `timeframes`",
        ),
        (["--sort", "beauty"], "'beauty' is not one of"),
        (
            ["--strategy", "strategy_9_30_pulback"],
            "received 'strategy_9_30_pulback'; did you mean `strategy_9_30_pullback`?",
        ),
    ],
)
def test_an_invalid_option_is_refused_with_a_reason(run: Run, arguments: list[str], sentence: str) -> None:
    result = run(*arguments)
    assert result.exit_code != 0
    assert sentence in result.stderr


def test_a_timeframe_that_longer_ones_are_rolled_up_from_has_no_screener(run: Run, home: Path) -> None:
    path = home / "watchlist.toml"
    path.write_text(f'timeframes = ["1h"]\n{path.read_text()}')
    assert "5m is not on, the watchlist has 1h; add it there to `timeframes`" in run("--timeframe", "5m").stderr


@pytest.mark.parametrize(("on", "usual"), [(["5m", "4h", "1d"], "4h"), (["15m", "30m"], "30m"), (["5m", "1h"], "1h")])
def test_without_1h_the_next_longer_timeframe_or_the_longest_is_shown(
    run: Run, home: Path, on: list[str], usual: str
) -> None:
    path = home / "watchlist.toml"
    path.write_text(f"timeframes = {json.dumps(on)}\n{path.read_text()}")
    assert {row["timeframe"] for row in rows(run("--json"))} == {usual}


def test_a_database_without_results_is_reported(
    run: Run, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = databases.make(migrated=False)
    monkeypatch.setenv("EMA_DATABASE_URL", url)
    result = run()
    assert result.exit_code == 1
    assert "nothing has been computed in this database yet" in result.stderr
    databases.drop(url)


def test_the_option_sort_offers_every_order() -> None:
    (option,) = [each for each in main.commands["screen"].params if each.name == "sort"]
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == tuple(SORTS)


def test_signals_are_read_side_by_side(home: Path) -> None:
    found = read.signals("1h", ["AAPL"], names=["ema_signals", "rsi", "ema_trend"])
    assert found.columns[:5] == ["symbol", "ts", "ema_9", "ema_30", "bar_number"]
    assert found.columns.count("bar_number") == 1
    assert {"rsi", "trend", "crossover"} <= set(found.columns)
    assert found.height == read.bars("1h", ["AAPL"]).height
    with pytest.raises(ConfigurationError, match="`names` must be one of ema_signals, ema_trend"):
        read.signals("1h", names=["rsy"])
    with pytest.raises(ConfigurationError, match="`names` must be a list"):
        read.signals("1h", names="rsi")


@pytest.mark.parametrize("name", ["rsi", "macd", "atr", "bollinger", "vwap", "relative_volume", "wma"])
def test_signals_as_of_a_future_time_equal_the_stored_signals(home: Path, name: str) -> None:
    stored = read.signals("30m", names=[name])
    assert stored.drop_nulls().height
    assert read.signals("30m", names=[name], as_of="2100-01-01").equals(stored)


@pytest.mark.parametrize("strategy", ["strategy_9_30_ema", "strategy_9_30_pullback"])
def test_trades_of_each_strategy_can_be_read_now_and_as_of_a_moment(home: Path, strategy: str) -> None:
    stored = read.trades("5m", strategy=strategy)
    assert stored.height
    assert read.trades("5m", strategy=strategy, as_of="2100-01-01").select(stored.columns).equals(stored)
    with pytest.raises(ConfigurationError, match="`strategy` must be one of strategy_9_30_ema, strategy_9_30_pullback"):
        read.trades("5m", strategy="strategy")


def test_the_screener_and_the_performance_can_be_read_as_frames(home: Path) -> None:
    assert read.screener("1h").height == len(SYMBOLS)
    assert read.screener(symbols=["AAPL"]).height == 6
    found = read.performance("5m", strategy="strategy_9_30_ema")
    assert set(found["symbol"]) == set(SYMBOLS)
    assert read.performance().height == 2 * 6 * len(SYMBOLS)


@pytest.mark.parametrize("rows", [1_000, 77, 1])
def test_pages_contain_all_rows_once_and_in_order(home: Path, rows: int) -> None:
    frame = "4h" if rows == 1 else "5m"
    pages = list(read.pages("ohlc", frame, ["AAPL", "XOM"], rows=rows))
    assert max(page.height for page in pages) <= rows
    assert pl.concat(pages).equals(read.bars(frame, ["AAPL", "XOM"]))
    assert list(read.pages("ohlc", "5m", [])) == []


def test_pages_of_zero_rows_and_pages_of_an_unknown_asset_are_refused(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="`rows` must be at least 1, received 0"):
        next(read.pages("ohlc", "5m", rows=0))
    with pytest.raises(
        ConfigurationError, match="`asset` must be one of ohlc, .*, received 'ohcl'; did you mean `ohlc`"
    ):
        next(read.pages("ohcl", "5m"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[signals]\noff = ["mcd"]', "`off` names no signal: 'mcd'; there are .* did you mean `macd`?"),
        ('[signals]\noff = "macd"', r"`off` must be a list such as \[\"macd\"\], received 'macd'"),
        ("signals = 3", r"`signals` must be a table, such as `\[signals\]`"),
        ("[signals]\nrsi = 3", r"parameters stand in a table of their signal, such as `\[signals.rsi\]`"),
        ("[signals.rsi]\nspan = 0", "signals.rsi: `span` must be a whole number from .* received 0"),
        ("[signals.rsi]\nspan = 2.5", "signals.rsi: `span` must be a whole number from .* received 2.5"),
        ("[signals.rsi]\nlength = 3", "signals.rsi: unknown key `length`, allowed are span"),
        ("[signals.macd]\nfast = 30\nslow = 20", "signals.macd: "),
        ('[signals]\noff = ["wma"]', "wma cannot be switched off while strategy_9_30_pullback reads it"),
        ("[signals.ema_signals]\nseed = 'first'", r"is set under `\[ema\]`"),
        ("strategy = 3", r"strategies are written `\[\[strategy\]\]`"),
        ("[[strategy]]\nname = 'x'\nrule = 'cross'", "`rule` must be one of crossover, pullback"),
    ],
)
def test_an_invalid_configuration_is_refused_with_a_reason(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=f"mine: .*{sentence}" if "mine" not in sentence else sentence):
        build(parse(f"{text}\n{FILE}", "mine"))


def test_a_configured_folder_of_signals_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="`EMA_SIGNALS_FOLDER` must be a folder"):
        Settings.from_env({"EMA_SIGNALS_FOLDER": str(tmp_path / "none")})
    assert Settings.from_env({"EMA_HOME": str(tmp_path)}).signals_folder is None
    (tmp_path / "signals").mkdir()
    assert Settings.from_env({"EMA_HOME": str(tmp_path)}).signals_folder == tmp_path / "signals"


def test_a_trade_and_a_stop_below_zero_are_shown_without_empty_percentages(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def below_zero(*arguments: Any, **options: Any) -> pl.DataFrame:
        return screen(*arguments, **options).with_columns(
            trade_side=pl.lit("long"),
            trade_return_pct=pl.lit(None, pl.Float64),
            stop_price=pl.lit(-5.49075),
            stop_distance_pct=pl.lit(None, pl.Float64),
        )

    monkeypatch.setattr(screen_command, "screen", below_zero)
    line = run("--symbol", "AAPL").stdout.splitlines()[1]
    assert line.split()[-4:-2] == ["long", "-5.49075"]
