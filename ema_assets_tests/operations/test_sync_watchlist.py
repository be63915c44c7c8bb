"""Tests of the sync of the watchlist, of the plan of what should run, of waiting for base bars, and of the status."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from ema_assets.config.watchlist import Watchlist
from ema_assets.market import exchanges
from ema_assets.model.asset_names import CHAIN, EMA_SIGNALS, EMA_TREND, OHLC
from ema_assets.model.errors import ConfigurationError, RequestRefused
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.special_days import SpecialDays
from ema_assets.model.symbols import FROM_FILES, Instrument
from ema_assets.model.timeframes import by_key
from ema_assets.operations import sync_watchlist
from ema_assets.operations.ingest import store_file
from ema_assets.providers.declaration import Publication
from ema_assets.refresh import plan, waiting
from ema_assets.refresh.graph import build
from ema_assets.refresh.plan import closed_bars
from ema_assets.reports import health, status
from ema_assets.reports.progress import loading
from ema_assets.store import ledger, older_history, sessions
from ema_assets.store.database import Database, Transaction
from ema_assets.store.ledger import staleness
from ema_assets.store.migrations import migrate
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, state_of, utc
from ema_assets_tests.refresh.exchange import watch as watchlist_of
from ema_assets_tests.store.test_ledger import begun, complete_while_waited_for
from ema_assets_tests.timeframes import D1, H1, H4, M5, M15, MO1, ORDER

# A Wednesday, half past three in New York; Thursday is a holiday.
NOW = utc("2026-11-25 20:30")
# For tests that need no particular timeframes: both fetched ones and a rolled-up one.
FEW = (M5, H1, D1)
WATCHED = watchlist_of({"AAPL": "XNYS", "MSFT": "XNYS", "BTC-USD": "24/7"}, m5_days=5, d1_days=60, timeframes=ORDER)


def exchange_until(last: date = date(2026, 11, 27)) -> MemoryExchange:
    return MemoryExchange(
        *(
            bars_on(calendar, symbol, timeframe, first, last, seed)
            for seed, (symbol, calendar) in enumerate((("AAPL", "XNYS"), ("MSFT", "XNYS"), ("BTC-USD", "24/7")))
            for timeframe, first in ((M5, date(2026, 11, 23)), (D1, date(2026, 10, 1)))
        )
    )


def contents(database: Database) -> list[pl.DataFrame]:
    with database.transaction() as transaction:
        return [
            transaction.query(f"SELECT * FROM market.{table} ORDER BY 1, 2, 3")
            for table in ("instrument", "session", "series_state")
        ]


def test_a_sync_adds_instruments_with_their_ledger_rows_and_sessions(database: Database) -> None:
    assert sync_watchlist.sync(database, WATCHED, NOW) == (["AAPL", "BTC-USD", "MSFT"], [])
    instruments, days, states = contents(database)
    assert instruments.select("symbol", "calendar", "is_active", "is_fetched").rows() == [
        ("AAPL", "XNYS", True, True),
        ("BTC-USD", "24/7", True, True),
        ("MSFT", "XNYS", True, True),
    ]
    assert states.height == 3 * len(CHAIN) * len(ORDER)
    for calendar in ("24/7", "XNYS"):
        found = days.filter(calendar=calendar)["session"]
        assert found.min() <= NOW.date() - timedelta(days=60)  # type: ignore[operator]
        assert found.max() >= NOW.date() + timedelta(days=350)  # type: ignore[operator]


def test_a_second_sync_changes_nothing_and_does_not_use_the_calendar_library(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_watchlist.sync(database, WATCHED, NOW)
    before = contents(database)
    monkeypatch.setattr(exchanges, "exchange_sessions", None)
    assert sync_watchlist.sync(database, WATCHED, NOW + timedelta(days=30)) == ([], [])
    assert all(one.equals(other) for one, other in zip(before, contents(database), strict=True))


@pytest.mark.broad
def test_sessions_are_extended_long_before_they_run_out(database: Database) -> None:
    sync_watchlist.sync(database, WATCHED, NOW)
    sync_watchlist.sync(database, WATCHED, NOW + timedelta(days=200))
    with database.transaction() as transaction:
        _, last, _ = sessions.stored(transaction, "XNYS")
        assert last is not None
        assert last >= NOW.date() + timedelta(days=560)


def test_an_unknown_calendar_leaves_the_database_unchanged(database: Database) -> None:
    sync_watchlist.sync(database, WATCHED, NOW)
    before = contents(database)
    wrong = replace(WATCHED, instruments=(Instrument("NEW", "XLON"), Instrument("ODD", "XXXX")))
    with pytest.raises(ConfigurationError, match="'XXXX'"):
        sync_watchlist.sync(database, wrong, NOW)
    assert all(one.equals(other) for one, other in zip(before, contents(database), strict=True))


# --- what should run ------------------------------------------------------------------------------------------------


def test_closed_bars_have_a_row_per_calendar_in_use_and_timeframe(database: Database) -> None:
    sync_watchlist.sync(database, WATCHED, NOW)
    with database.transaction() as transaction:
        found = closed_bars(transaction, NOW)
    assert found.height == 2 * len(ORDER)
    ends = {
        (calendar, timeframe): end
        for calendar, timeframe, end in found.select("calendar", "timeframe", "ts_end").rows()
    }
    assert ends["XNYS", "1h"] == utc("2026-11-25 20:30")
    assert ends["XNYS", "4h"] == utc("2026-11-25 18:30")
    assert ends["XNYS", "1d"] == utc("2026-11-24 21:00")
    assert ends["24/7", "1d"] == utc("2026-11-25 00:00")


@pytest.mark.broad
def test_the_schedule_of_a_close_gets_stale_series_and_rollups_that_are_about_to_be_stale(database: Database) -> None:
    refresh(database, WATCHED, exchange_until(), NOW)
    later = NOW + timedelta(minutes=30)
    with database.transaction() as transaction:
        for timeframe in (M5, H1, D1):
            found = plan.stale_on_close(transaction, timeframe, later)
            stocks = ["AAPL", "MSFT"] if timeframe is D1 else ["AAPL", "BTC-USD", "MSFT"]
            assert found["symbol"].unique().sort().to_list() == stocks
            assert set(found["reason"]) == {"bar closed"}
            assert set(found["timeframe"]) == {timeframe.key}
        assert plan.stale_on_close(transaction, H4, NOW).is_empty()


@pytest.mark.broad
def test_rolled_up_bars_whose_base_bars_fail_are_not_expected(database: Database) -> None:
    exchange = exchange_until()
    refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    exchange.failing = {"MSFT": "no"}
    later = NOW + timedelta(minutes=30)
    refresh(database, WATCHED, exchange, later, timeframes=[M5])
    with database.transaction() as transaction:
        found = plan.stale_on_close(transaction, H1, later)
        # The schedule of 5m bars does not take these.
        assert plan.stale_on_close(transaction, M5, later).is_empty()
    assert found.rows() == [
        ("AAPL", "1h", "input changed", utc("2026-11-25 20:30")),
        ("BTC-USD", "1h", "input changed", utc("2026-11-25 20:00")),
    ]


@pytest.mark.broad
def test_the_sweep_leaves_recent_closes_to_their_schedule_and_takes_other_stale_series(database: Database) -> None:
    exchange = exchange_until()
    refresh(database, WATCHED, exchange, NOW)
    calendars = {**{each.symbol: each.calendar for each in WATCHED.instruments}, "NEW": "XNYS"}
    sync_watchlist.sync(database, watchlist_of(calendars, m5_days=5, d1_days=60, timeframes=ORDER), NOW)
    later, grace = NOW + timedelta(minutes=5), timedelta(minutes=2)

    def swept(now: datetime) -> set[tuple[str, str, str]]:
        with database.transaction() as transaction:
            return set(plan.stale_for_sweep(transaction, now, grace).select("symbol", "timeframe", "reason").rows())

    assert swept(later) == {("NEW", "5m", "never asked"), ("NEW", "1d", "never asked")}
    assert ("AAPL", "5m", "bar closed") in swept(later + grace)
    exchange.failing = {"AAPL": "no"}
    refresh(database, WATCHED, exchange, later, timeframes=[M5])
    after_pause = utc("2026-11-25 20:36:30")
    assert ("AAPL", "5m", "bar closed") in swept(after_pause)
    assert ("MSFT", "5m", "bar closed") not in swept(after_pause)


def test_the_next_closes_of_calendars_are_sorted_soonest_first(database: Database) -> None:
    with_months = tuple(replace(each, timeframes=(*each.timeframes, MO1)) for each in WATCHED.instruments)
    sync_watchlist.sync(database, replace(WATCHED, instruments=with_months), NOW)
    evening = utc("2026-11-25 21:30")
    with database.transaction() as transaction:
        found = plan.next_closes(transaction, H1, evening)
    assert found.select("calendar", "ts_end").rows() == [
        ("24/7", utc("2026-11-25 22:00")),
        ("XNYS", utc("2026-11-27 15:30")),
    ]
    with database.transaction() as transaction:
        # Nothing closes before Monday.
        weekend = plan.next_closes(transaction, H1, utc("2026-11-20 21:30")).filter(calendar="XNYS")
        months = [plan.next_closes(transaction, MO1, utc(f"2026-11-{day} 21:30")) for day in ("03", "20")]
    assert weekend["ts_end"].to_list() == [utc("2026-11-23 15:30")]
    for each in months:
        assert each.select("calendar", "ts", "ts_end").rows() == [
            ("XNYS", utc("2026-11-02 14:30"), utc("2026-11-30 21:00")),
            ("24/7", utc("2026-11-01 00:00"), utc("2026-12-01 00:00")),
        ]


# --- waiting --------------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LONGEST_WAIT_SECONDS", 0.3)
    monkeypatch.setattr(waiting, "_POLL_SECONDS", 0.02)


def clock(now: datetime) -> Callable[[], datetime]:
    return lambda: now


@pytest.mark.usefixtures("impatient")
def test_there_is_no_wait_for_base_bars_that_are_stored(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    refresh(database, WATCHED, exchange_until(), NOW, timeframes=[M5])
    monkeypatch.setattr(time, "sleep", None)
    later = NOW + timedelta(minutes=4)
    assert waiting.wait_for_base(database, H1, WATCHED.symbols, clock(later)) == 0


@pytest.mark.usefixtures("impatient")
def test_a_wait_ends_when_the_base_bars_are_stored(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange, later = exchange_until(), NOW + timedelta(minutes=30)
    refresh(database, WATCHED, exchange, NOW, timeframes=[M5])
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            with Database(database_url) as other:
                refresh(other, WATCHED, exchange, later, timeframes=[M5])

    monkeypatch.setattr(waiting, "LONGEST_WAIT_SECONDS", 60)
    monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    assert waiting.wait_for_base(database, M15, WATCHED.symbols, clock(later)) == 0
    assert waited == [0.02, 0.02]


@pytest.mark.broad
@pytest.mark.usefixtures("impatient")
def test_a_wait_has_a_limit_and_reports_how_many_symbols_are_behind(database: Database) -> None:
    exchange, later = exchange_until(), NOW + timedelta(minutes=30)
    refresh(database, WATCHED, exchange, NOW, timeframes=[M5])

    def behind(symbols: tuple[str, ...], delay: timedelta = timedelta(0)) -> int:
        return waiting.wait_for_base(database, M15, symbols, clock(later), {None: Publication(delay)})

    assert behind(WATCHED.symbols) == 3
    assert behind(("AAPL",)) == 1
    assert behind(WATCHED.symbols, delay=timedelta(minutes=31)) == 0
    exchange.failing = {"AAPL": "no", "MSFT": "no"}
    refresh(database, WATCHED, exchange, later, timeframes=[M5])
    # Two of three symbols fail, and the third one has its bars.
    assert behind(WATCHED.symbols) == 0


# --- status and health ----------------------------------------------------------------------------------------------


@pytest.mark.broad
def test_the_status_counts_stale_missing_and_failing_series(database: Database) -> None:
    exchange = exchange_until()
    exchange.failing = {"MSFT": "no such symbol"}
    refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    later = NOW + timedelta(minutes=5)
    with database.transaction() as transaction:
        found = {(each.asset, each.timeframe): each for each in status.by_asset(transaction, later)}
    assert list(found) == [(asset, timeframe.key) for asset in CHAIN for timeframe in ORDER]
    m5 = found[OHLC, "5m"]
    assert (m5.series, m5.stale, m5.missing, m5.failing) == (3, 3, 1, 1)
    assert m5.newest_ts == NOW - timedelta(minutes=5)
    signals = found[EMA_SIGNALS, "1h"]
    assert (signals.series, signals.stale, signals.missing, signals.failing) == (3, 0, 1, 0)
    with database.transaction() as transaction:
        at_once = {(each.asset, each.timeframe): each for each in status.by_asset(transaction, NOW)}
    # A series that pauses after a failure is not retried yet, but counts as stale because it lacks its bars.
    assert (at_once[OHLC, "5m"].stale, at_once[OHLC, "5m"].failing) == (1, 1)


@pytest.mark.broad
def test_a_series_not_yet_reported_to_dagster_is_not_stale_in_the_status(database: Database) -> None:
    refresh(database, WATCHED, exchange_until(), NOW)
    with database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET computed_at = computed_at - interval '10 minutes'")
        assert set(ledger.stale(transaction, closed_bars(transaction, NOW), NOW)["reason"]) == {"not recorded"}
        assert sum(each.stale for each in status.by_asset(transaction, NOW)) == 0


@pytest.mark.broad
def test_the_loading_progress_counts_series_that_are_fully_computed_and_recorded(database: Database) -> None:
    refresh(database, WATCHED, exchange_until(), NOW)
    with database.transaction() as transaction:
        assert loading(transaction, datetime.now(UTC)).series == dict.fromkeys(ORDER, (0, 3))
        transaction.execute("UPDATE market.series_state SET recorded_at = computed_at WHERE symbol <> 'MSFT'")
        transaction.execute(
            "UPDATE market.series_state SET recorded_at = NULL WHERE asset = 'ema_trend' AND timeframe = '1h'"
        )
        found = loading(transaction, datetime.now(UTC))
    assert list(found.series) == list(ORDER)
    assert (found.series[M5], found.series[H1]) == ((2, 3), (0, 3))
    assert not found.is_complete


@pytest.mark.parametrize(
    ("added_minutes_ago", "seconds_left", "words"),
    [
        pytest.param(2, 4 * 60, "about 4 minutes left", id="from the moment the symbols came"),
        pytest.param(60, 20 * 60, "about 20 minutes left", id="at the rate of the last ten minutes, not of the hour"),
    ],
)
def test_the_remaining_time_is_estimated_at_the_rate_of_the_last_minutes(
    database: Database, added_minutes_ago: int, seconds_left: float, words: str
) -> None:
    """A third of the rows was loaded in the last minutes: the rest takes twice as long. Failing rows do not count."""
    sync_watchlist.sync(database, WATCHED, NOW)
    with database.transaction() as transaction:
        transaction.execute(
            "UPDATE market.series_state SET added_at = now() - make_interval(mins => $1::integer)", added_minutes_ago
        )
        transaction.execute(
            "UPDATE market.series_state SET recorded_at = now(), loaded_at = now() WHERE timeframe IN ('5m', '15m')"
        )
        # Rows that were loaded before these symbols were added do not count for their rate.
        transaction.execute(
            """UPDATE market.series_state SET recorded_at = now(), loaded_at = now() - interval '3 hours',
                                              added_at = now() - interval '4 hours'
               WHERE symbol = 'MSFT'"""
        )
        found = loading(transaction, _now_of(transaction))
        assert found.seconds_left == pytest.approx(seconds_left)
        assert found.estimate == words
        assert str(found).endswith(f"1d 1/3  ({words})")
        # Half of the remaining rows fail.
        transaction.execute("UPDATE market.series_state SET failures = 1 WHERE timeframe IN ('4h', '1d')")
        assert loading(transaction, _now_of(transaction)).seconds_left == pytest.approx(seconds_left / 2)
        transaction.execute("UPDATE market.series_state SET recorded_at = now(), loaded_at = now()")
        done = loading(transaction, _now_of(transaction))
    assert (done.is_complete, done.seconds_left, done.estimate) == (True, None, "")


def test_there_is_no_estimate_before_any_series_was_loaded(database: Database) -> None:
    sync_watchlist.sync(database, WATCHED, NOW)
    with database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET added_at = now() - interval '1 minute'")
        found = loading(transaction, _now_of(transaction))
    assert (found.seconds_left, found.estimate) == (None, "")


def test_series_that_are_only_reported_to_dagster_again_do_not_count_as_loading(database: Database) -> None:
    """This is the state after a restore without Dagster's own tables."""
    sync_watchlist.sync(database, WATCHED, NOW)
    with database.transaction() as transaction:
        transaction.execute(
            """UPDATE market.series_state SET added_at = now() - interval '9 days', loaded_at = now() - interval '8 days',
                                              computed_at = now() - interval '1 day'"""
        )
        transaction.execute("UPDATE market.series_state SET recorded_at = now() WHERE symbol = 'MSFT'")
        # One row is new since then.
        transaction.execute(
            """UPDATE market.series_state SET recorded_at = now(), loaded_at = now()
               WHERE symbol = 'MSFT' AND timeframe = '5m' AND asset = 'ohlc'"""
        )
        found = loading(transaction, _now_of(transaction))
    assert (found.series[M5], found.seconds_left) == ((1, 3), None)
    assert found.estimate == "computed; being reported to Dagster"


def _now_of(transaction: Transaction) -> datetime:
    moment: datetime = transaction.query("SELECT now() AS now").item()
    return moment


def test_the_number_of_statements_of_a_sync_does_not_grow_with_the_number_of_symbols(database: Database) -> None:
    def statements(symbols: int) -> int:
        before = database.statements
        sync_watchlist.sync(database, _many(symbols), NOW)
        return database.statements - before

    statements(2)
    few = statements(5)
    # The additional statement analyzes the ledger, because it has grown.
    assert statements(300) == few + 1
    assert statements(301) == few
    assert database_rows(database, "SELECT count(*)::bigint AS n FROM market.series_state") == [
        (301 * len(ORDER) * len(CHAIN),)
    ]


@pytest.mark.broad
def test_the_cost_per_series_of_finding_stale_series_does_not_grow_with_the_number_of_symbols(
    database: Database,
) -> None:
    """The plan of PostgreSQL reports the number of rows it reads. An earlier query read all rows once per symbol."""
    touched = {symbols: _rows_touched(database, symbols) for symbols in (200, 800)}
    assert touched[800] < 6 * touched[200]


def _many(symbols: int) -> Watchlist:
    return watchlist_of({f"S{number:04}": "XNYS" for number in range(symbols)}, m5_days=5, d1_days=60, timeframes=ORDER)


def database_rows(database: Database, sql: str) -> list[tuple[object, ...]]:
    with database.transaction() as transaction:
        return transaction.query(sql).rows()


def _rows_touched(database: Database, symbols: int) -> int:
    sync_watchlist.sync(database, _many(symbols), NOW)
    with database.transaction() as transaction:
        transaction.execute("ANALYZE market.series_state, market.instrument")
        closed = closed_bars(transaction, NOW)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(staleness, "_STALE", f"EXPLAIN (ANALYZE, FORMAT JSON) {staleness._STALE}")
            (plan_,) = json.loads(ledger.stale(transaction, closed, NOW).item())

    def rows(node: dict[str, Any]) -> float:
        here = sum(
            node.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter")
        )
        return here * node["Actual Loops"] + sum(map(rows, node.get("Plans", ())))

    return int(rows(plan_["Plan"]))


def test_failures_are_reported_once_per_reason_with_the_most_frequent_first(database: Database) -> None:
    exchange = exchange_until()
    exchange.failing = {"AAPL": "rate limit", "MSFT": "rate limit", "BTC-USD": "unknown symbol"}
    exchange.failure = RequestRefused
    refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    with database.transaction() as transaction:
        assert [str(reason) for reason in status.failure_reasons(transaction)] == [
            "AAPL|1d and 3 more: rate limit",
            "BTC-USD|1d and 1 more: unknown symbol",
        ]


@pytest.mark.broad
def test_a_series_that_was_requested_long_before_the_last_close_is_late(database: Database) -> None:
    exchange = exchange_until()
    refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    exchange.failing = {"MSFT": "no"}

    def late(now: datetime) -> list[tuple[str, str]]:
        refresh(database, WATCHED, exchange, now, timeframes=[M5])
        with database.transaction() as transaction:
            return health.late_series(transaction, closed_bars(transaction, now)).select("symbol", "timeframe").rows()

    assert late(NOW) == []
    assert late(NOW + timedelta(minutes=10)) == []
    assert late(NOW + timedelta(minutes=15)) == [("MSFT", "5m")]
    # No bar closes overnight and over the holiday, so no further series becomes late.
    assert late(utc("2026-11-27 14:00")) == [("MSFT", "5m")]
    exchange.failing = {}
    assert late(utc("2026-11-27 14:10")) == []


@pytest.mark.broad
def test_computed_series_that_wait_too_long_are_reported(database: Database) -> None:
    refresh(database, WATCHED, exchange_until(), NOW, timeframes=FEW)
    with database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET updated_at = updated_at - interval '20 minutes'")
        moment = transaction.query("SELECT clock_timestamp() - interval '15 minutes' AS at")["at"].item()
        assert health.waiting_since(transaction, moment).is_empty()
        transaction.execute(
            """
            UPDATE market.series_state SET dirty_from = now()
            WHERE symbol = 'AAPL' AND timeframe = '1h' AND asset IN ('ohlc', 'ema_trend')
            """
        )
        assert health.waiting_since(transaction, moment).select("asset", "symbol", "timeframe").rows() == [
            ("ema_trend", "AAPL", "1h")
        ]


@pytest.mark.broad
def test_rejected_bars_are_counted_per_series_and_reason(database: Database) -> None:
    exchange = exchange_until()
    exchange.bars = exchange.bars.with_columns(
        close=pl.when(pl.col("symbol") == "AAPL", pl.col("ts") >= utc("2026-11-25 20:00")).then(-1.0).otherwise("close")
    )
    refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    with database.transaction() as transaction:
        assert health.rejected_since(transaction, utc("2020-01-01 00:00")).rows() == [
            ("AAPL", "5m", "price not above zero", "memory", 6)
        ]
        assert health.rejected_since(transaction, utc("2100-01-01 00:00")).is_empty()


def test_the_first_watchlist_may_disable_every_strategy(databases) -> None:
    """The views of trades exist and are empty."""
    url = databases.make(migrated=False)
    migrate(url)
    off = tuple({"name": name, "enabled": False} for name in ("crossover", "pullback"))
    with Database(url) as database:
        sync_watchlist.sync(database, replace(WATCHED, strategies=off), NOW)
        with database.transaction() as transaction:
            for view in ("trades", "performance", "screener"):
                assert transaction.query(f"SELECT * FROM results.{view}").is_empty()
    databases.drop(url)


@pytest.mark.broad
def test_symbols_removed_from_the_watchlist_are_in_no_count(database: Database) -> None:
    exchange = exchange_until()
    exchange.failing = {"MSFT": "no"}
    refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    sync_watchlist.sync(database, watchlist_of({"AAPL": "XNYS"}), NOW)
    later = NOW + timedelta(hours=1)
    with database.transaction() as transaction:
        assert {each.series for each in status.by_asset(transaction, later)} == {1}
        assert status.failure_reasons(transaction) == []
        assert set(plan.stale_for_sweep(transaction, later, timedelta(0))["symbol"]) == {"AAPL"}
        assert health.late_series(transaction, closed_bars(transaction, later))["symbol"].to_list() == ["AAPL"]
    assert state_of(database, "MSFT", M5)["failures"] == 1


# --- locks ----------------------------------------------------------------------------------------------------------

_SMALL = watchlist_of({"AAPL": "XNYS", "MSFT": "XNYS"}, m5_days=5, d1_days=5, timeframes=(M5, D1))
_APPLE, _MSFT = _SMALL.instruments


@pytest.fixture
def synced(database: Database, request: pytest.FixtureRequest) -> Database:
    """The database of a watchlist whose series have bars of other code; those of a signal are failing."""
    sync_watchlist.sync(database, request.param, NOW)
    with database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET first_ts = $1, last_ts = $1, code_version = 'old'", NOW)
        transaction.execute("UPDATE market.series_state SET failures = 1 WHERE asset = $1", EMA_SIGNALS)
        transaction.execute("UPDATE market.asset SET code_version = 'old'")
    return database


@pytest.mark.parametrize(
    ("synced", "after"),
    [
        pytest.param(
            _SMALL, replace(_SMALL, instruments=(_APPLE, replace(_MSFT, timeframes=(D1,)))), id="timeframe off"
        ),
        pytest.param(_SMALL, replace(_SMALL, instruments=(_APPLE, replace(_MSFT, calendar="24/7"))), id="calendar"),
        pytest.param(
            replace(_SMALL, instruments=(_APPLE, replace(_MSFT, provider=FROM_FILES))),
            _SMALL,
            id="no longer from files",
        ),
        pytest.param(
            _SMALL, replace(_SMALL, special_days={"XNYS": SpecialDays({}, frozenset({NOW.date()}))}), id="sessions"
        ),
    ],
    indirect=["synced"],
)
def test_a_sync_of_changed_symbols_or_sessions_waits_for_a_run_without_a_deadlock(
    synced: Database, database_url: str, after: Watchlist
) -> None:
    """A run stores bars and then marks the signals that read them, which come first in the table."""

    def sync(other: Database) -> None:
        sync_watchlist.sync(other, after, NOW)

    complete_while_waited_for(synced, database_url, OHLC, ["AAPL", "MSFT"], sync)
    with synced.transaction() as transaction:
        assert ledger.failing(transaction).is_empty()


def test_a_sync_of_changed_code_locks_series_that_were_never_computed(database: Database) -> None:
    """A run that computes them in the old way meanwhile would make the sync write what it has not locked."""
    sync_watchlist.sync(database, _SMALL, NOW)
    versions = {**build(_SMALL).code_versions, EMA_SIGNALS: "another"}
    with Database(database.url) as other, database.transaction() as transaction:
        ledger.lock_changes(transaction, _SMALL.instruments, [], versions, [], [])
        with other.transaction() as run:
            assert ledger.claim(run, EMA_SIGNALS, M5, ["AAPL", "MSFT"], everything=True).is_empty()
            assert ledger.claim(run, EMA_TREND, M5, ["AAPL", "MSFT"], everything=True).height == 2


def test_a_sync_that_rolls_up_bars_of_files_again_waits_for_a_run_without_a_deadlock(database: Database) -> None:
    """The run has stored daily bars, and then marks what reads them on a timeframe that the sync switches off."""
    from_files = replace(_MSFT, provider=FROM_FILES, timeframes=(M5, H1, D1))
    sync_watchlist.sync(database, replace(_SMALL, instruments=(from_files,)), NOW)
    store_file(database, bars_on("XNYS", "MSFT", M5, date(2026, 11, 23), date(2026, 11, 24)), "a file", NOW)
    after = replace(_SMALL, instruments=(replace(from_files, timeframes=(M5, D1)),))
    with Database(database.url) as other, ThreadPoolExecutor() as pool:
        with database.transaction() as transaction:
            ledger.lock(transaction, OHLC, D1, ["MSFT"])
            synced = begun(pool, transaction, sync_watchlist.sync, other, after, NOW)
            ledger.lock(transaction, EMA_SIGNALS, H1, ["MSFT"])
        synced.result()


def test_a_sync_of_another_depth_waits_for_a_run_without_a_deadlock(database: Database, database_url: str) -> None:
    """The run has settled its older history, and then marks what reads its bars: what the sync is to write as well."""
    asked = pl.DataFrame({"symbol": ["AAPL"], "start": [NOW]}, schema={"symbol": pl.String(), "start": UTC_TIME})

    def begin(transaction: Transaction) -> None:
        older_history.begin(transaction, M5, asked, NOW, is_anew=True)

    sync_watchlist.sync(database, _SMALL, NOW)
    with database.transaction() as transaction:
        begin(transaction)
    days, instruments = {**_SMALL.history_days, M5: 60}, (replace(_MSFT, timeframes=(M5,)),)
    after = replace(_SMALL, history_days=days, instruments=instruments)
    with Database(database_url) as other, ThreadPoolExecutor() as pool:
        with database.transaction() as transaction:
            ledger.lock(transaction, OHLC, M5, ["AAPL"])
            begin(transaction)
            synced = begun(pool, transaction, sync_watchlist.sync, other, after, NOW)
            ledger.lock(transaction, EMA_SIGNALS, D1, ["MSFT"])
        synced.result()


def test_a_sync_of_another_timeframe_does_not_wait_for_who_reads_bars(database: Database, database_url: str) -> None:
    """A run that has read them may wait for a series that the sync has locked."""
    sync_watchlist.sync(database, _SMALL, NOW)
    other_timeframe = by_key("13m")
    after = replace(_SMALL, instruments=(replace(_MSFT, timeframes=(M5, other_timeframe)),))
    with database.transaction() as reading, Database(database_url) as other:
        reading.query("SELECT count(*) FROM market.ohlc")
        sync_watchlist.sync(other, after, NOW)
    with database.transaction() as transaction:
        shape = """
            SELECT array(SELECT attname::text || ' ' || atttypid::regtype || ' ' || attnotnull || coalesce(collname, '')
                         FROM pg_attribute LEFT JOIN pg_collation c ON c.oid = attcollation
                         WHERE attrelid = r.oid AND attnum > 0 ORDER BY attnum)::text AS columns,
                   array(SELECT replace(pg_get_constraintdef(oid), r.relname, '') FROM pg_constraint
                         WHERE conrelid = r.oid ORDER BY 1)::text AS constraints,
                   array(SELECT replace(pg_get_indexdef(indexrelid), r.relname, '') FROM pg_index
                         WHERE indrelid = r.oid ORDER BY 1)::text AS indexes
            FROM pg_class r WHERE r.oid = $1::regclass"""
        for table in ("ohlc", "ema_trend", "strategy_9_30_ema"):
            transaction.execute(f"CREATE TABLE market.{table}_x PARTITION OF market.{table} FOR VALUES IN ('x')")
            attached, created = (
                transaction.query(shape, f"market.{table}_{part}").row(0) for part in (other_timeframe.sql_name, "x")
            )
            assert attached == created


def test_a_file_is_stored_before_a_sync_or_after_it(database: Database) -> None:
    """It is stored by the calendar of its symbol, which it reads first."""
    bars = bars_on("XNYS extended", "MSFT", M5, date(2026, 11, 24), date(2026, 11, 24))
    sync_watchlist.sync(database, replace(_SMALL, instruments=(replace(_MSFT, provider=FROM_FILES),)), NOW)
    with Database(database.url) as other, ThreadPoolExecutor() as pool:
        with database.transaction() as transaction:
            ledger.wait_for_syncs(transaction)
            stored = begun(pool, transaction, store_file, other, bars, "a file", NOW)
            transaction.execute("UPDATE market.instrument SET calendar = 'XNYS extended'")
            sync_watchlist.cover(transaction, "XNYS extended", date(2026, 11, 1), NOW.date())
        assert sum(each.stored for each in stored.result() if each.timeframe == "5m") == bars.height


def test_a_sync_waits_for_another_one(database: Database) -> None:
    """What it has to lock depends on what the other one writes."""
    with Database(database.url) as other, ThreadPoolExecutor() as pool:
        with database.transaction() as transaction:
            ledger.wait_for_syncs(transaction)
            synced = begun(pool, transaction, sync_watchlist.sync, other, _SMALL, NOW)
            assert not synced.done()
        synced.result()


@pytest.mark.broad
def test_a_sync_of_changed_tables_waits_for_a_run_that_will_read_them_without_a_deadlock(database: Database) -> None:
    """A signal has got other columns, and the same version. A run has locked series and has not read the table yet."""
    sync_watchlist.sync(database, _SMALL, NOW)
    with database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET last_ts = $1", NOW)
        transaction.execute(
            "UPDATE ema_assets.declaration SET sql = 'x' WHERE (table_name, part) = ('ema_signals', 'ema_9')"
        )
    with Database(database.url) as other, ThreadPoolExecutor() as pool:
        with database.transaction() as transaction:
            ledger.claim(transaction, EMA_SIGNALS, M5, ["AAPL", "MSFT"], everything=True)
            synced = begun(pool, transaction, sync_watchlist.sync, other, _SMALL, NOW)
            transaction.query("SELECT count(*) AS n FROM market.ema_signals")
        synced.result()
