"""Long history: longer bars of the provider precede the first short ones, so that long timeframes converge."""

from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.market.calendars import segments
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.model.errors import ConfigurationError, RequestRefused
from ema_assets.model.schemas import BAR_SCHEMA
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.ingest import store_file
from ema_assets.operations.sync_watchlist import sync
from ema_assets.providers.declaration import LongHistory
from ema_assets.providers.fetching.base import ProviderClient
from ema_assets.refresh.depths import DEEP_ENOUGH_BARS
from ema_assets.refresh.fetch import refresh_fetched
from ema_assets.refresh.plan import stale_for_sweep
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.refresh.runs import Purpose, plan_runs
from ema_assets.reports import story
from ema_assets.store.database import Database
from ema_assets_tests.conftest import Databases, empty, heavy, mostly_broad
from ema_assets_tests.refresh.exchange import (
    MemoryExchange,
    bars_on,
    moved,
    refresh,
    rows_of,
    state_of,
    tables_of,
    utc,
    watch,
)
from ema_assets_tests.timeframes import D1, H1, H4, M5, M30, ORDER

HALF_HOURS, HOURS = LongHistory("30m", "30Min"), LongHistory("1h", "1h")
CALENDARS = {"AAPL": "XNYS", "0700.HK": "XHKG"}
WATCHED = watch(CALENDARS, m5_days=11, d1_days=20, timeframes=ORDER)
# The first day of long history, the first day of 5m bars (a Monday), and the last day (a half day in New York).
OLDEST, FIRST, LAST = date(2026, 2, 2), date(2026, 11, 16), date(2026, 11, 27)
NOW = utc("2026-11-27 21:30")
SYMBOLS = ("AAPL", "0700.HK")
KEY = ["symbol", "timeframe", "ts"]


def rolled(bars: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """The `timeframe` bars made of 5m `bars`, counted from the open of each stretch of trading (BAR_SCHEMA)."""
    parts = []
    for symbol, calendar in CALENDARS.items():
        stretches = segments(exchange_sessions(calendar, OLDEST - timedelta(days=5), LAST))
        mine = bars.filter(symbol=symbol).sort("ts")
        placed = mine.join_asof(
            stretches.select(opened="segment_open", closed="segment_close").sort("opened"),
            left_on="ts",
            right_on="opened",
            strategy="backward",
        )
        number = (pl.col("ts") - pl.col("opened")).dt.total_minutes() // timeframe.minutes
        parts.append(
            placed.with_columns(ts=pl.col("opened") + number * pl.duration(minutes=timeframe.minutes))
            .group_by("symbol", "ts", maintain_order=True)
            .agg(
                pl.col("open").first(),
                pl.col("high").max(),
                pl.col("low").min(),
                pl.col("close").last(),
                pl.col("volume").sum(),
            )
            .with_columns(timeframe=pl.lit(timeframe.key))
        )
    return pl.concat(parts).select(list(BAR_SCHEMA)).sort("symbol", "ts")


def truth(seed: int = 5, first: date = OLDEST) -> pl.DataFrame:
    """5m bars of both symbols, from long before the first 5m bar of the provider."""
    return pl.concat(
        bars_on(calendar, symbol, M5, first, LAST, seed + number)
        for number, (symbol, calendar) in enumerate(CALENDARS.items())
    )


TRUTH = truth()


def served(bars: pl.DataFrame, length: Timeframe, first: date = FIRST) -> pl.DataFrame:
    """What the provider serves of `bars`: 5m bars from `first` on, and all of them as bars of `length`."""
    return pl.concat([bars.filter(pl.col("ts").dt.date() >= first), rolled(bars, length)])


def stored(database: Database, timeframe: Timeframe) -> pl.DataFrame:
    return tables_of(database)["ohlc"].filter(timeframe=timeframe.key).select(list(BAR_SCHEMA)).sort("symbol", "ts")


def sources(database: Database, symbol: str, timeframe: Timeframe) -> list[tuple[str, int]]:
    return rows_of(
        database,
        """
        SELECT n.name, count(*) FROM market.ohlc o JOIN market.source n ON n.id = o.source_id
        WHERE o.symbol = $1 AND o.timeframe = $2 GROUP BY 1 ORDER BY min(o.ts)
        """,
        symbol,
        timeframe.key,
    )


def long_asked(exchange: MemoryExchange) -> list[str]:
    return [str(each.series) for each in exchange.asked if each.timeframe not in (M5, D1)]


def note(database: Database, symbol: str = "AAPL") -> str | None:
    ((said,),) = rows_of(
        database, "SELECT note FROM market.older_history WHERE symbol = $1 AND timeframe = '5m'", symbol
    )
    return said


@pytest.mark.broad
@pytest.mark.parametrize("history", [HALF_HOURS, HOURS], ids=["half hours", "hours"])
def test_each_timeframe_gets_enough_long_history_equal_to_bars_rolled_up_from_5m(
    database: Database, history: LongHistory
) -> None:
    length = M30 if history is HALF_HOURS else H1
    exchange = MemoryExchange(served(TRUTH, length))
    refresh(database, WATCHED, exchange, NOW, long=history)
    assert sorted(long_asked(exchange)) == [f"{symbol}|{length.key}" for symbol in sorted(SYMBOLS)]
    for timeframe in (M30, H1, H4):
        bars = stored(database, timeframe)
        expected = rolled(TRUTH, timeframe).join(bars, on=KEY, how="semi")
        assert_frame_equal(bars, expected, check_exact=timeframe.minutes <= length.minutes, rel_tol=1e-12)
        counts = dict(bars.group_by("symbol").len().rows())
        assert bars.select((pl.col("ts").diff() < timedelta(days=6)).over("symbol").all()).item()
        if not timeframe.minutes % length.minutes:
            assert all(DEEP_ENOUGH_BARS <= counts[symbol] <= DEEP_ENOUGH_BARS + 14 for symbol in SYMBOLS), counts
    converged = rows_of(
        database, "SELECT symbol, timeframe FROM market.ema_signals GROUP BY 1, 2 HAVING NOT bool_and(warming_up)"
    )
    wanted = [each for each in ORDER if each is not D1 and (each.minutes < 30 or not each.minutes % length.minutes)]
    assert {(symbol, each.key) for symbol in SYMBOLS for each in wanted} <= set(converged)
    assert [name for name, _ in sources(database, "AAPL", H4)] == [f"rolled up from {length.key}", "rolled up from 5m"]
    assert [name for name, _ in sources(database, "AAPL", length)] == [f"memory {history.word}", "rolled up from 5m"]
    assert rows_of(database, "SELECT max(missing_bars) FROM market.ohlc") == [(0,)]


@pytest.mark.broad
def test_long_history_is_requested_once_and_a_refresh_of_everything_changes_nothing(database: Database) -> None:
    exchange = MemoryExchange(served(TRUTH, M30))
    refresh(database, WATCHED, exchange, NOW, long=HALF_HOURS)
    before = tables_of(database)
    exchange.asked.clear()
    refresh(database, WATCHED, exchange, NOW + timedelta(minutes=5), long=HALF_HOURS)
    assert long_asked(exchange) == []
    refresh(database, WATCHED, exchange, NOW, long=HALF_HOURS, everything=True)
    assert len(long_asked(exchange)) == 2
    for asset, rows in tables_of(database).items():
        assert_frame_equal(rows, before[asset], check_exact=True)


@pytest.mark.broad
def test_the_reach_of_long_history_does_not_depend_on_the_time_of_the_first_load(databases: Databases) -> None:
    """Databases that were first loaded at different times of a day end with the same bits."""
    exchange = MemoryExchange(served(TRUTH, M30))
    tables = []
    for hour in (15, 17):
        url = databases.make()
        with Database(url) as database:
            refresh(database, WATCHED, exchange, utc(f"2026-11-25 {hour}:45"), long=HALF_HOURS)
            refresh(database, WATCHED, exchange, NOW, long=HALF_HOURS)
            tables.append(tables_of(database))
        databases.drop(url)
    early, late = tables
    for asset, rows in late.items():
        assert_frame_equal(rows, early[asset], check_exact=True)


@pytest.mark.broad
def test_bars_missing_from_long_history_are_counted_in_the_rolled_up_bars(database: Database) -> None:
    gone = utc("2026-11-11 15:00")
    bars = served(TRUTH, M30).filter(
        ~((pl.col("symbol") == "AAPL") & (pl.col("timeframe") == "30m") & (pl.col("ts") == gone))
    )
    refresh(database, WATCHED, MemoryExchange(bars), NOW, long=HALF_HOURS)
    assert rows_of(
        database, "SELECT symbol, timeframe, ts, missing_bars FROM market.ohlc WHERE missing_bars > 0 ORDER BY 2"
    ) == [("AAPL", "1h", utc("2026-11-11 14:30"), 1), ("AAPL", "4h", utc("2026-11-11 14:30"), 1)]


@pytest.mark.broad
def test_the_first_session_comes_from_long_history_when_5m_bars_begin_in_its_middle(database: Database) -> None:
    """If 5m bars were used for this session, its first bars would be incomplete."""
    cut = utc("2026-11-16 16:10")
    bars = served(TRUTH, M30).filter((pl.col("timeframe") != "5m") | (pl.col("ts") >= cut))
    refresh(database, WATCHED, MemoryExchange(bars), NOW, long=HALF_HOURS)
    for timeframe in (M30, H1, H4):
        found = stored(database, timeframe)
        assert_frame_equal(found, rolled(TRUTH, timeframe).join(found, on=KEY, how="semi"), rel_tol=1e-12)


# --- the seam ---------------------------------------------------------------------------------------------------------


def of_another_scale(bars: pl.DataFrame) -> pl.DataFrame:
    return moved(bars, 4.0)


def cut_by_the_clock(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.with_columns(pl.col("ts").dt.truncate("1h"))


def with_what_was_traded_before_the_open(bars: pl.DataFrame) -> pl.DataFrame:
    is_first = pl.col("ts").dt.time().is_in([datetime(2026, 1, 1, hour, 30).time() for hour in (13, 14)])
    return bars.with_columns(open=pl.when(is_first).then(pl.col("open") * 1.02).otherwise("open")).with_columns(
        high=pl.max_horizontal("high", "open")
    )


def of_another_hour(bars: pl.DataFrame) -> pl.DataFrame:
    values = [pl.col(name).shift(1).over("symbol") for name in ("open", "high", "low", "close", "volume")]
    return bars.with_columns(values).drop_nulls()


def of_two_levels(bars: pl.DataFrame) -> pl.DataFrame:
    is_old = pl.col("ts") < utc("2026-09-01 00:00")
    return pl.concat([moved(bars.filter(is_old), 100.0), bars.filter(~is_old)])


def with_a_hole(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.filter(~pl.col("ts").dt.date().is_between(date(2026, 11, 17), date(2026, 11, 20)))


@pytest.mark.parametrize(
    ("change", "said"),
    mostly_broad(
        [
            (cut_by_the_clock, "begin at other times than sessions make them"),
            (of_another_scale, "they are on another scale, 4:1"),
            (with_what_was_traded_before_the_open, "those that begin 0 minutes after the open differ, on most days"),
            (of_another_hour, "bars that are there in both"),
            (of_two_levels, "their price level shifts"),
            (with_a_hole, "of the 35 bars after them only 7 are there in both, too few to compare"),
        ]
    ),
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_unsuitable_long_history_is_not_used_and_the_story_of_the_symbol_gives_the_reason(
    database: Database, change: object, said: str
) -> None:
    assert callable(change)
    good = served(TRUTH, H1)
    is_hour = pl.col("timeframe") == "1h"
    is_apple = pl.col("symbol") == "AAPL"
    exchange = MemoryExchange(good.filter(~(is_hour & is_apple)), change(good.filter(is_hour & is_apple)))
    refresh(database, WATCHED, exchange, NOW, long=HOURS)
    assert said in str(note(database))
    # Nine sessions. The last one is a half day.
    assert sources(database, "AAPL", H4) == [("rolled up from 5m", 17)]
    assert sources(database, "0700.HK", H4)[0][0] == "rolled up from 1h"
    with database.transaction() as transaction:
        assert any(said in line for line in story.of_symbol(transaction, "AAPL"))
    exchange.asked.clear()
    refresh(database, WATCHED, exchange, NOW + timedelta(hours=1), long=HOURS)
    assert long_asked(exchange) == []


@pytest.mark.broad
def test_long_history_without_short_bars_to_compare_with_is_not_used(database: Database) -> None:
    """The 5m bars begin in the middle of a session, and the next ones come after the end of the overlap."""
    is_there = (pl.col("ts") > utc("2026-11-16 16:00")) & (pl.col("ts") < utc("2026-11-17 00:00"))
    is_there |= pl.col("ts") > utc("2026-11-27 00:00")
    bars = served(TRUTH, M30).filter((pl.col("symbol") != "AAPL") | (pl.col("timeframe") != "5m") | is_there)
    refresh(database, WATCHED, MemoryExchange(bars), NOW, timeframes=(M5, H4), long=HALF_HOURS)
    assert str(note(database)).endswith("are not used: there are no shorter bars to compare them with.")
    assert [name for name, _ in sources(database, "AAPL", H4)] == ["rolled up from 5m"]


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.broad
def test_a_failed_request_for_long_history_pauses_without_counting_as_a_failure_of_the_series(
    database: Database,
) -> None:
    exchange = MemoryExchange(served(TRUTH, M30))
    exchange.failing, exchange.failing_timeframe = {"AAPL": "no answer"}, M30
    outcomes = refresh(database, WATCHED, exchange, NOW, long=HALF_HOURS)
    assert outcomes["ohlc", M5].errors == {"AAPL": "no answer"}
    assert state_of(database, "AAPL", M5)["failures"] == 0
    ((failures, due),) = rows_of(
        database, "SELECT failures, due_at FROM market.older_history WHERE symbol = 'AAPL' AND timeframe = '5m'"
    )
    assert failures == 1
    assert timedelta(seconds=20) < due - NOW < timedelta(seconds=40)
    assert sources(database, "0700.HK", H4)[0][0] == "rolled up from 30m"
    exchange.asked.clear()
    refresh(database, WATCHED, exchange, NOW + timedelta(seconds=10), long=HALF_HOURS)
    assert long_asked(exchange) == []
    exchange.failing = {}
    refresh(database, WATCHED, exchange, due, long=HALF_HOURS)
    assert long_asked(exchange) == ["AAPL|30m"]
    assert sources(database, "AAPL", H4)[0][0] == "rolled up from 30m"


@pytest.mark.broad
def test_the_noted_error_is_cleared_when_older_bars_have_arrived(database: Database) -> None:
    exchange = MemoryExchange(served(TRUTH, M30, OLDEST))
    refresh(database, WATCHED, exchange, NOW, timeframes=(M5,))
    exchange.failing = {"AAPL": "no answer"}
    deeper = watch(CALENDARS, m5_days=20, d1_days=20, timeframes=ORDER)
    refresh(database, deeper, exchange, NOW, timeframes=(M5,))
    noted = "SELECT symbol, note, due_at FROM market.older_history WHERE timeframe = '5m' AND note IS NOT NULL"
    ((symbol, said, due),) = rows_of(database, noted)
    assert (symbol, said) == ("AAPL", "no answer")
    exchange.failing = {}
    refresh(database, deeper, exchange, due, timeframes=(M5,))
    assert state_of(database, "AAPL", M5)["asked_from"] == utc("2026-11-07 00:00")
    assert rows_of(database, noted) == []


def test_long_history_that_the_provider_refuses_is_not_requested_again(database: Database) -> None:
    exchange = MemoryExchange(served(TRUTH, M30))
    exchange.failing, exchange.failing_timeframe = {"AAPL": "there is no 30m"}, M30
    exchange.failure = RequestRefused
    outcomes = refresh(database, WATCHED, exchange, NOW, long=HALF_HOURS)
    assert outcomes["ohlc", M5].errors == {}
    assert note(database) == "Long history is refused: there is no 30m"
    exchange.asked.clear()
    refresh(database, WATCHED, exchange, NOW + timedelta(days=1), long=HALF_HOURS)
    assert long_asked(exchange) == []


@pytest.mark.broad
def test_a_provider_that_cannot_be_opened_also_pauses_requests_for_older_bars(database: Database) -> None:
    sync(database, WATCHED, NOW)
    rules = FetchRules(WATCHED.history_days, long_histories={None: HALF_HOURS})
    refresh_fetched(database, MemoryExchange(served(TRUTH, M30)), M5, WATCHED.symbols, rules, NOW, older=False)

    def without_keys(_: str | None) -> ProviderClient:
        raise ConfigurationError("no keys")

    outcome = refresh_fetched(database, without_keys, M5, WATCHED.symbols, rules, NOW)
    assert outcome.errors == dict.fromkeys(SYMBOLS, "no keys")
    assert rows_of(database, "SELECT failures, due_at > $1, note FROM market.older_history", NOW) == 2 * [
        (1, True, "no keys")
    ]


@pytest.mark.broad
def test_a_provider_that_is_down_is_left_alone_and_then_probed_with_one_series(database: Database) -> None:
    exchange = MemoryExchange(served(TRUTH, M30))
    exchange.failing, exchange.failing_timeframe = dict.fromkeys(SYMBOLS, "down"), M30
    refresh(database, WATCHED, exchange, NOW, long=HALF_HOURS)
    ((until,),) = rows_of(database, "SELECT open_until FROM market.provider_state")
    assert until > NOW
    exchange.asked.clear()
    refresh(database, WATCHED, exchange, NOW + timedelta(seconds=5), timeframes=(M5,), long=HALF_HOURS)
    assert exchange.asked == []
    refresh(database, WATCHED, exchange, until, timeframes=(M5,), long=HALF_HOURS)
    assert len(long_asked(exchange)) == 1
    exchange.failing = {}
    refresh(database, WATCHED, exchange, until + timedelta(hours=1), timeframes=(M5,), long=HALF_HOURS)
    assert rows_of(database, "SELECT failures FROM market.provider_state") == [(0,)]
    assert "stand before" in str(note(database))


# --- when long history is requested -----------------------------------------------------------------------------------


@pytest.mark.broad
def test_a_live_run_leaves_older_bars_to_a_history_run(database: Database) -> None:
    sync(database, WATCHED, NOW)
    exchange = MemoryExchange(served(TRUTH, M30))
    rules = FetchRules(WATCHED.history_days, long_histories={None: HALF_HOURS})
    refresh_fetched(database, exchange, M5, WATCHED.symbols, rules, NOW, older=False)
    assert long_asked(exchange) == []
    with database.transaction() as transaction:
        stale = stale_for_sweep(transaction, NOW, timedelta(0))
    older = stale.filter(reason="older bars")
    assert sorted(older["symbol"]) == sorted(SYMBOLS)
    (run,) = plan_runs(older, SYMBOLS, [], 100)
    assert run.purpose is Purpose.HISTORY
    refresh_fetched(database, exchange, M5, WATCHED.symbols, rules, NOW)
    assert len(long_asked(exchange)) == 2
    with database.transaction() as transaction:
        assert "older bars" not in stale_for_sweep(transaction, NOW, timedelta(0))["reason"].to_list()


def test_a_greater_depth_is_requested_once_and_its_bars_replace_long_history(database: Database) -> None:
    # The 30m bars differ slightly from the 5m bars, so that the test can tell them apart.
    bars = served(TRUTH, M30, OLDEST)
    is_half_hour = pl.col("timeframe") == "30m"
    exchange = MemoryExchange(bars.filter(~is_half_hour), moved(bars.filter(is_half_hour), 1.00001))
    refresh(database, WATCHED, exchange, NOW, long=HALF_HOURS)
    assert state_of(database, "AAPL", M5)["asked_from"] == utc("2026-11-16 00:00")
    deeper = watch(CALENDARS, m5_days=40, d1_days=20, timeframes=ORDER)
    exchange.asked.clear()
    refresh(database, deeper, exchange, NOW + timedelta(hours=1), long=HALF_HOURS)
    grown = [(each.instrument.symbol, each.start, each.end) for each in exchange.asked if each.timeframe is M5]
    assert grown == [
        ("0700.HK", utc("2026-10-18 00:00"), utc("2026-11-16 01:45")),
        ("AAPL", utc("2026-10-18 00:00"), utc("2026-11-16 14:45")),
    ]
    assert state_of(database, "AAPL", M5)["asked_from"] == utc("2026-10-18 00:00")
    exchange.asked.clear()
    refresh(database, deeper, exchange, NOW + timedelta(days=3), timeframes=(M5, H4), long=HALF_HOURS)
    assert [each for each in exchange.asked if each.start < NOW - timedelta(days=12)] == []
    is_grown = pl.col("ts") >= utc("2026-10-18 00:00")
    bars, expected = stored(database, H4), rolled(TRUTH, H4)
    assert_frame_equal(bars.filter(is_grown), expected.filter(is_grown), rel_tol=1e-12)
    before = moved(expected, 1.00001).join(bars.filter(~is_grown), on=KEY, how="semi")
    assert_frame_equal(bars.filter(~is_grown), before, rel_tol=1e-12)
    assert before.height > 300


def test_a_timeframe_that_is_switched_on_later_begins_with_the_stored_long_history(database: Database) -> None:
    exchange = MemoryExchange(served(TRUTH, M30).filter(symbol="AAPL"))
    for timeframes, requests in (((M5, H1), ["AAPL|30m"]), ((M5, M30, H1), [])):
        exchange.asked.clear()
        watched = watch({"AAPL": "XNYS"}, m5_days=11, timeframes=timeframes)
        refresh(database, watched, exchange, NOW, timeframes=timeframes, long=HALF_HOURS)
        assert long_asked(exchange) == requests
    assert stored(database, M30).height >= DEEP_ENOUGH_BARS
    assert [name for name, _ in sources(database, "AAPL", M30)] == ["memory 30Min", "rolled up from 5m"]


@pytest.mark.broad
def test_passing_time_leads_to_no_requests_for_older_bars(database: Database) -> None:
    exchange = MemoryExchange(served(TRUTH, M30))
    refresh(database, WATCHED, exchange, NOW, long=HALF_HOURS)
    exchange.asked.clear()
    for days in (1, 40):
        refresh(database, WATCHED, exchange, NOW + timedelta(days=days), long=HALF_HOURS)
    assert long_asked(exchange) == []
    assert min(each.start for each in exchange.asked) > NOW - timedelta(days=20)


# --- files and splits -------------------------------------------------------------------------------------------------


@pytest.mark.broad
@pytest.mark.parametrize("file_comes", ["first", "last"])
def test_a_file_has_precedence_over_long_history(database: Database, file_comes: str) -> None:
    sync(database, WATCHED, NOW)
    days = pl.col("ts").dt.date().is_between(date(2026, 11, 9), date(2026, 11, 11))
    file = rolled(TRUTH, H1).filter(days, symbol="AAPL")
    file = moved(file, 1.001).with_columns(pl.col("ts").dt.truncate("1h"))
    if file_comes == "first":
        store_file(database, file, "hours.csv", NOW)
    exchange = MemoryExchange(served(TRUTH, M30))
    refresh(database, WATCHED, exchange, NOW, long=HALF_HOURS)
    if file_comes == "last":
        store_file(database, file, "hours.csv", NOW)
    for everything in (False, True):
        refresh(database, WATCHED, exchange, NOW, long=HALF_HOURS, everything=everything)
        bars = stored(database, H1).filter(symbol="AAPL")
        assert_frame_equal(bars.filter(days), file, check_exact=True)
        others = bars.filter(~days)
        assert_frame_equal(others, rolled(TRUTH, H1).join(others, on=KEY, how="semi"), rel_tol=1e-12)
        assert others.filter(pl.col("ts") < utc("2026-11-09 00:00")).height > 0


def test_a_split_rescales_long_history_and_requests_it_again(database: Database) -> None:
    exchange = MemoryExchange(served(TRUTH, M30).filter(pl.col("ts") < utc("2026-11-25 21:00")))
    refresh(database, WATCHED, exchange, utc("2026-11-25 21:00"), long=HALF_HOURS)
    trades = tables_of(database)["strategy_9_30_ema"].filter(symbol="AAPL", timeframe="4h")
    is_apple = pl.col("symbol") == "AAPL"
    halves = served(TRUTH, M30)
    exchange.bars = pl.concat([halves.filter(~is_apple), moved(halves.filter(is_apple), 0.5)])
    exchange.failing, exchange.failing_timeframe = {"AAPL": "no answer"}, M30
    refresh(database, WATCHED, exchange, NOW, long=HALF_HOURS)
    expected = moved(rolled(TRUTH, H4).filter(is_apple), 0.5)
    bars = stored(database, H4).filter(is_apple)
    assert_frame_equal(bars.drop("volume"), expected.join(bars, on=KEY, how="semi").drop("volume"), rel_tol=1e-9)
    exchange.failing = {}
    exchange.asked.clear()
    refresh(database, WATCHED, exchange, NOW + timedelta(hours=1), long=HALF_HOURS)
    assert long_asked(exchange) == ["AAPL|30m"]
    bars = stored(database, H4).filter(is_apple)
    assert_frame_equal(bars, expected.join(bars, on=KEY, how="semi"), rel_tol=1e-12)
    found = tables_of(database)["strategy_9_30_ema"].filter(symbol="AAPL", timeframe="4h")
    assert set(trades["entry_ts"]) <= set(found["entry_ts"])


# --- increments equal one computation to the bit ----------------------------------------------------------------------


@pytest.mark.broad
@heavy(12)
@given(st.data())
def test_increments_corrections_and_late_bars_before_and_after_the_seam_end_as_one_computation(
    module_database: Database, data: st.DataObject
) -> None:
    """Long history is never longer than any timeframe needs, so its reach does not depend on `now`."""
    seeds = st.integers(0, 2**31)
    bars = truth(data.draw(seeds, "history"), date(2026, 11, 5))
    length, history = data.draw(st.sampled_from([(M30, HALF_HOURS), (H1, HOURS)]), "length")
    exchange = MemoryExchange(served(bars, length))
    random = np.random.default_rng(data.draw(seeds, "late"))
    share = data.draw(st.sampled_from([0.0, 0.05, 0.4]), "share of late bars")
    # Within the overlap, late bars would change whether long history fits. No bar there is late.
    is_minute = (exchange.bars["timeframe"] == "5m") & (exchange.bars["ts"] > utc("2026-11-24 00:00"))
    is_late = is_minute & pl.Series(random.random(exchange.bars.height) < share)
    late, exchange.bars = exchange.bars.filter(is_late), exchange.bars.filter(~is_late)
    minutes = int((NOW - utc("2026-11-17 00:00")).total_seconds()) // 60
    moments = sorted(data.draw(st.sets(st.integers(1, minutes), min_size=1, max_size=3), "minutes"))
    timeframes = (M5, length, H4)
    empty(module_database)
    for minute in moments:
        now = utc("2026-11-17 00:00") + timedelta(minutes=minute)
        refresh(module_database, WATCHED, exchange, now, timeframes=timeframes, long=history)
        if data.draw(st.booleans(), "corrections"):
            chosen = exchange.bars.filter(pl.col("timeframe") == "5m", pl.col("ts") < now)
            wrong = chosen.sample(fraction=0.01, seed=data.draw(seeds, "which"))
            exchange.correct(moved(wrong, 1.0001))
        if data.draw(st.booleans(), "late bars come"):
            exchange.correct(late.sample(fraction=0.5, seed=data.draw(seeds, "which")))
        known = exchange.bars.filter(pl.col("timeframe") == "5m", pl.col("ts") < now - timedelta(minutes=5))
        store_file(module_database, known, "a file", now)
    refresh(module_database, WATCHED, exchange, NOW, timeframes=timeframes, long=history)
    refresh(module_database, WATCHED, exchange, NOW, timeframes=timeframes, long=history)
    found = tables_of(module_database)
    empty(module_database)
    refresh(module_database, WATCHED, exchange, NOW, timeframes=timeframes, long=history)
    for asset, rows in tables_of(module_database).items():
        assert_frame_equal(found[asset], rows, check_exact=True)
    assert any(name == f"memory {history.word}" for name, _ in sources(module_database, "AAPL", length))
    refresh(module_database, WATCHED, exchange, NOW, timeframes=timeframes, long=history, everything=True)
    for asset, rows in tables_of(module_database).items():
        assert_frame_equal(found[asset], rows, check_exact=True)
