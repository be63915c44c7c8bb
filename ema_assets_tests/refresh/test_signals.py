"""Signals and strategies in the database: from the declaration to tables, ledger and views."""

import re
from datetime import date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.symbols import Instrument
from ema_assets.operations.ingest import store_file
from ema_assets.operations.sync_watchlist import sync
from ema_assets.refresh.compute import refresh_computed
from ema_assets.refresh.graph import Graph, build
from ema_assets.refresh.outcome import Outcome
from ema_assets.store.database import Database
from ema_assets_tests.core import CORE
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, moved, refresh, rows_of, utc
from ema_assets_tests.timeframes import FETCHED, FEW, H1, M5

STEP = timedelta(minutes=5)
CALENDARS = {"AAPL": "XNYS", "0700.HK": "XHKG", "BTC-USD": "24/7"}
# Three variants besides the two defaults, so that the database stores every option.
STRATEGIES = (
    {"name": "crossover", "entries": "all"},
    {"name": "pullback", "entries": "all"},
    {
        "name": "guarded",
        "rule": "crossover",
        "side": "both",
        "fill": "next_open",
        "cost_bps": 5,
        "atr_stop": 1.0,
        "entries": "all",
    },
    {"name": "with_the_hour", "rule": "crossover", "side": "both", "higher_timeframe": "1h", "entries": "all"},
    {
        "name": "intraday",
        "rule": "pullback",
        "side": "both",
        "exit_at_session_end": True,
        "atr_target": 2.0,
        "entries": "all",
    },
)
WATCHED = Watchlist(
    tuple(Instrument(symbol, calendar, timeframes=FEW) for symbol, calendar in CALENDARS.items()),
    dict(zip(FETCHED, (12, 60), strict=True)),
    strategies=STRATEGIES,
)
GRAPH = build(WATCHED)


def exchange(first: date = date(2026, 11, 16), last: date = date(2026, 11, 20)) -> MemoryExchange:
    return MemoryExchange(
        *(
            bars_on(calendar, symbol, timeframe, first if timeframe is M5 else date(2026, 9, 25), last, seed)
            for seed, (symbol, calendar) in enumerate(CALENDARS.items())
            for timeframe in FETCHED
        )
    )


def contents(database: Database, graph: Graph = GRAPH) -> dict[str, pl.DataFrame]:
    """All rows of all computed assets, sorted by key."""
    with database.transaction() as transaction:
        return {
            node.name: transaction.query(f"SELECT * FROM market.{node.name}").sort(
                "symbol", "timeframe", node.table.time
            )
            for node in graph.computed
        }


def assert_same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    for name, rows in expected.items():
        assert found[name].equals(rows), name


@pytest.mark.broad
def test_increments_and_corrections_end_as_one_computation_of_everything(database: Database, databases) -> None:
    market = exchange()
    moments = [utc("2026-11-18 02:31"), utc("2026-11-18 15:00"), utc("2026-11-18 15:05"), utc("2026-11-19 21:00")]
    for now in moments:
        refresh(database, WATCHED, market, now)
    early = market.bars.filter(symbol="AAPL", timeframe="5m").filter(pl.col("ts") < moments[1])
    market.correct(moved(early.sample(3, seed=1), 1.07))
    refresh(database, WATCHED, market, utc("2026-11-20 15:00"), everything=True, timeframes=[M5])
    end = utc("2026-11-20 22:00")
    refresh(database, WATCHED, market, end)
    found = contents(database)
    assert all(rows.height for name, rows in found.items()), {name: rows.height for name, rows in found.items()}
    once = databases.make()
    with Database(once) as whole:
        refresh(whole, WATCHED, market, end)
        assert_same(found, contents(whole))
    databases.drop(once)


@pytest.mark.broad
def test_a_correction_that_leaves_its_hour_unchanged_is_computed_with_the_trend_of_the_hour_before(
    database: Database,
) -> None:
    symbols = [f"S{number}-USD" for number in range(8)]
    of_hour = {"higher_timeframe": "1h", "entries": "all", "side": "both"}
    watched = Watchlist(
        tuple(Instrument(symbol, "24/7", timeframes=(M5, H1)) for symbol in symbols),
        {M5: 2},
        strategies=(*CORE["strategies"], {"name": "hour", "rule": "crossover", "fast": 3, "slow": 8, **of_hour}),
        signals_off=CORE["signals_off"],
    )
    graph, day, now = build(watched), date(2026, 11, 20), utc("2026-11-20 12:05")
    market = MemoryExchange(*(bars_on("24/7", symbol, M5, day, day, seed) for seed, symbol in enumerate(symbols)))
    refresh(database, watched, market, now)
    entered = contents(database, graph)["strategy_hour"].filter(timeframe="5m")["entry_ts"]
    assert entered.is_between(utc("2026-11-20 11:30"), utc("2026-11-20 11:55")).any()
    corrected = market.bars.filter(ts=utc("2026-11-20 11:30")).with_columns(close=pl.col("close") * 1.0001)
    store_file(database, corrected, "correction.csv", now)
    refresh(database, watched, market, now)
    found = contents(database, graph)["strategy_hour"]
    refresh_computed(database, graph.nodes["strategy_hour"], M5, symbols, now, everything=True)
    assert_frame_equal(found, contents(database, graph)["strategy_hour"])


@pytest.mark.broad
def test_recomputing_everything_writes_no_rows(database: Database) -> None:
    market, now = exchange(), utc("2026-11-18 15:00")
    refresh(database, WATCHED, market, now - STEP)
    refresh(database, WATCHED, market, now)
    before = contents(database)
    again = refresh(database, WATCHED, market, now, everything=True)
    assert sum(outcome.rows for (name, _), outcome in again.items()) == 0
    assert_same(contents(database), before)


TOY = '''
"""How far the close is from the highest close of the last three bars, in percent."""

import polars as pl

from ema_assets.signals.declaration import Column, Param, Signal


def below_high(bars, carried, params):
    closes = [pl.col("close").shift(n).over("symbol") for n in range(params["bars"])]
    return bars.select("symbol", "ts", below_high_pct=(1 - pl.col("close") / pl.max_horizontal(closes)) * 100)


SIGNAL = Signal(
    name="below_high",
    description="Distance from the highest close.",
    version="1",
    reads={"ohlc": ("close",)},
    columns=(Column("below_high_pct", "float8", "Percent below the highest close"),),
    compute=below_high,
    params={"bars": Param(3, "How many closes")},
    bars_before=lambda params: params["bars"] - 1,
)
'''


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "signals"
    found.mkdir()
    return found


def test_a_new_signal_file_computes_the_past_and_then_only_new_bars(database: Database, folder) -> None:
    market, now = exchange(), utc("2026-11-18 15:00")
    few = Watchlist(WATCHED.instruments, WATCHED.history_days)
    refresh(database, few, market, now, timeframes=[M5])
    (folder / "below_high.py").write_text(TOY)
    graph = build(few, folder)
    node = graph.nodes["below_high"]
    assert [column.name for column in node.columns] == ["ts", "below_high_pct"]
    first = refresh(database, few, market, now, timeframes=[M5], graph=graph)
    assert {name for (name, _), outcome in first.items() if outcome.done} == {"below_high"}
    assert (
        first["below_high", M5].rows
        == rows_of(database, "SELECT count(*) FROM market.ohlc WHERE timeframe = '5m'")[0][0]
    )
    later = refresh(database, few, market, now + STEP, timeframes=[M5], graph=graph)
    moved_on = later["ohlc", M5].written
    assert moved_on
    assert later["below_high", M5].written == moved_on
    found = contents(database, graph)["below_high"].filter(timeframe="5m")
    closes = pl.col("close")
    expected = (
        market.bars.filter(timeframe="5m")
        .filter(pl.col("ts") < now + STEP)
        .sort("symbol", "ts")
        .select("symbol", "ts", below_high_pct=(1 - closes / closes.rolling_max(3, min_samples=1).over("symbol")) * 100)
        .join(found, on=["symbol", "ts"], how="semi")
    )
    assert found.select("symbol", "ts", "below_high_pct").equals(expected)
    # Its column is in the view of all signals.
    assert rows_of(database, "SELECT count(below_high_pct) FROM results.signals")[0][0] == found.height


@pytest.mark.broad
@pytest.mark.parametrize("was_removed", [True, False], ids=["a file that was removed before", "another version"])
def test_a_failed_signal_is_retried_at_once_after_its_file_was_removed_or_its_version_changed(
    database: Database, folder, *, was_removed: bool
) -> None:
    market, now = exchange(), utc("2026-11-18 15:00")
    few = Watchlist(WATCHED.instruments, WATCHED.history_days)
    path, version = folder / "below_high.py", 'version="1"'

    def pausing() -> int:
        sync(database, few, now, build(few, folder))
        paused = "asset = 'below_high' AND failures = 1 AND next_attempt_at IS NOT NULL AND last_error IS NOT NULL"
        return rows_of(database, f"SELECT count(*) FROM market.series_state WHERE {paused}")[0][0]

    path.write_text(TOY.replace("closes = [", "closes = 1 / 0, ["))
    refresh(database, few, market, now, timeframes=[M5], graph=build(few, folder))
    path.write_text(TOY)
    assert pausing() == len(CALENDARS), "the same one may fail again"
    if was_removed:
        path.unlink()
        assert pausing() == len(CALENDARS)
    else:
        version = 'version="2"'
    path.write_text(TOY.replace('version="1"', version))
    assert pausing() == 0


@pytest.mark.broad
def test_a_failed_signal_waits_for_the_end_of_its_pause_or_an_edit_also_when_new_bars_come(
    database: Database, folder
) -> None:
    market, now = exchange(), utc("2026-11-18 15:00")
    few = Watchlist(WATCHED.instruments, WATCHED.history_days)
    path = folder / "below_high.py"

    def refreshed(at: datetime) -> Outcome:
        return refresh(database, few, market, at, timeframes=[M5], graph=build(few, folder))["below_high", M5]

    def failures() -> list[tuple[object, ...]]:
        wanted = "SELECT failures FROM market.series_state WHERE asset = 'below_high' AND timeframe = '5m'"
        return rows_of(database, wanted)

    path.write_text(TOY.replace("closes = [", "closes = 1 / 0, ["))
    assert sorted(refreshed(now).errors) == sorted(CALENDARS)
    soon = now + timedelta(seconds=10)
    assert refreshed(soon) == Outcome()
    assert failures() == [(1,)] * len(CALENDARS)
    assert sorted(refreshed(now + STEP).errors) == sorted(CALENDARS), "the pause of half a minute is over"
    assert failures() == [(2,)] * len(CALENDARS)
    path.write_text(TOY)
    assert sorted(refreshed(now + STEP).done) == sorted(CALENDARS)


@pytest.mark.broad
@pytest.mark.parametrize("name", ["f", "i", "o", "base", "row"])
def test_a_signal_may_have_the_name_of_a_table_alias_in_a_query(database: Database, folder, name: str) -> None:
    few = Watchlist(WATCHED.instruments, WATCHED.history_days)
    (folder / "below_high.py").write_text(TOY.replace('name="below_high"', f'name="{name}"'))
    refresh(database, few, exchange(), utc("2026-11-18 15:00"), timeframes=[M5], graph=build(few, folder))
    shown = rows_of(database, "SELECT count(below_high_pct) FROM results.signals")[0][0]
    assert shown == rows_of(database, f"SELECT count(*) FROM market.{name}")[0][0] > 0


@pytest.mark.broad
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('.over("symbol")', "", r"`compute` must compute each symbol by itself, but `below_high_pct` of BTC-USD at "),
        (
            'params["bars"] - 1',
            "0",
            r"goes on from the bar before; does it see enough bars \(`bars_before`, here 0\), or",
        ),
    ],
)
def test_an_unsound_signal_fails_alone_and_reports_the_reason(
    database: Database, folder, old: str, new: str, said: str
) -> None:
    few = Watchlist(WATCHED.instruments, WATCHED.history_days)
    assert old in TOY
    (folder / "below_high.py").write_text(TOY.replace(old, new))
    outcomes = refresh(database, few, exchange(), utc("2026-11-18 15:00"), timeframes=[M5], graph=build(few, folder))
    assert {name for (name, _), outcome in outcomes.items() if outcome.errors} == {"below_high"}
    refused = outcomes["below_high", M5].errors
    assert sorted(refused) == sorted(CALENDARS)
    where = f"UnsoundSignal: signal `below_high` in {folder / 'below_high.py'}, line 9: "
    assert all(each.startswith(where) and re.search(said, each) for each in refused.values()), refused
    assert rows_of(database, "SELECT count(*) FROM market.below_high") == [(0,)]


@pytest.mark.broad
def test_a_disabled_signal_is_not_computed_and_catches_up_when_it_is_enabled_again(
    database: Database,
) -> None:
    market, now = exchange(), utc("2026-11-18 15:00")
    on = Watchlist(WATCHED.instruments, WATCHED.history_days)
    off = Watchlist(WATCHED.instruments, WATCHED.history_days, signals_off=("macd",))
    refresh(database, on, market, now, timeframes=[M5])
    before = rows_of(database, "SELECT count(*) FROM market.macd")
    without = refresh(database, off, market, now + STEP, timeframes=[M5])
    assert "macd" not in {name for name, _ in without}
    assert rows_of(database, "SELECT count(*) FROM market.macd") == before
    back = refresh(database, on, market, now + STEP, timeframes=[M5])
    assert {name for (name, _), outcome in back.items() if outcome.done} == {"macd"}
    assert back["macd", M5].written == without["ohlc", M5].written


def test_a_changed_parameter_recomputes_only_that_signal_and_what_reads_it(database: Database) -> None:
    market, now = exchange(), utc("2026-11-18 15:00")
    stops = ({"name": "crossover", "atr_stop": 2.0},)
    plain = Watchlist(WATCHED.instruments, WATCHED.history_days, strategies=stops)
    other = Watchlist(WATCHED.instruments, WATCHED.history_days, strategies=stops, signal_params={"atr": {"span": 10}})
    refresh(database, plain, market, now, timeframes=[M5])
    outcomes = refresh(database, other, market, now, timeframes=[M5])
    assert {name for (name, _), outcome in outcomes.items() if outcome.done} == {"atr", "strategy_9_30_ema"}
    assert build(other).nodes["atr"].code_version == "1 span=10"
