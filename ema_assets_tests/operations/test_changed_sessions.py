"""Tests of sessions that change after their bars were stored: bars end up as if the sessions had always been so."""

from dataclasses import replace
from datetime import date, datetime, time, timedelta

import polars as pl
import pytest

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.special_days import SpecialDays
from ema_assets.model.symbols import without_hours
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store.database import Database
from ema_assets_tests.conftest import empty, mostly_broad
from ema_assets_tests.refresh.exchange import (
    MemoryExchange,
    bars_on,
    refresh,
    rows_of,
    tables_of,
    utc,
    versions_of,
    watch,
)
from ema_assets_tests.timeframes import D1, H1, H4, M5, W1

# A Tuesday and a later time. The test exchange is not one whose last sessions are fetched again at night.
DAY, NOW = date(2026, 11, 24), utc("2026-12-05 12:00")
FIRST, LAST = date(2026, 11, 17), date(2026, 12, 4)
SHORT = (time(10), time(12))


def watching(calendar: str, special: SpecialDays | None = None) -> Watchlist:
    watched = watch({"ABC": calendar}, m5_days=15, d1_days=30, timeframes=(M5, H1, H4))
    return watched if special is None else replace(watched, special_days={without_hours(calendar): special})


def of_days(special: SpecialDays | None = None, calendar: str = "XNYS") -> Watchlist:
    watched = watch({"ABC": calendar}, d1_days=60, timeframes=(D1, W1))
    return watched if special is None else replace(watched, special_days={without_hours(calendar): special})


@pytest.mark.parametrize("calendar", mostly_broad(["XNYS", "XNYS extended", "XASX", "24/5", "CMES"]))
@pytest.mark.parametrize(
    "hours", mostly_broad([pytest.param(SHORT, id="later"), pytest.param((time(8), time(16)), id="earlier")])
)
@pytest.mark.parametrize("day", mostly_broad([DAY, date(2026, 11, 23)]), ids=["within a week", "first of a week"])
def test_a_day_whose_open_moves_has_one_bar(
    database: Database, other: Database, hours: tuple[time, time], day: date, calendar: str
) -> None:
    exchange = MemoryExchange(bars_on(calendar, "ABC", D1, date(2026, 10, 12), LAST))
    of_special, plain = of_days(SpecialDays({day: hours}), calendar), of_days(None, calendar)
    for first, last in ((of_special, plain), (plain, of_special)):
        empty(database)
        empty(other)
        refresh(database, first, exchange, NOW)
        sync(database, last, NOW)
        refresh(database, last, exchange, NOW)
        refresh(other, last, exchange, NOW)
        for name, rows in tables_of(other).items():
            assert tables_of(database)[name].equals(rows), name


@pytest.mark.parametrize("calendar", mostly_broad(["XNYS", "XNYS extended", "XASX", "CMES"]))
def test_days_after_a_temporary_closure_keep_one_bar_each(database: Database, other: Database, calendar: str) -> None:
    exchange = MemoryExchange(bars_on(calendar, "ABC", D1, date(2026, 10, 12), LAST))
    plain = of_days(None, calendar)
    refresh(database, plain, exchange, NOW)
    refresh(other, plain, exchange, NOW)
    for watched in (of_days(SpecialDays({}, frozenset({DAY})), calendar), plain):
        sync(database, watched, NOW)
        refresh(database, watched, exchange, NOW)
        # The bar of the closed day stays, because its source reports volume for it.
        assert rolled_up(database, "1d").equals(rolled_up(other, "1d"))
        weeks = [rolled_up(each, "1w").select("ts", "close", "volume") for each in (database, other)]
        assert weeks[0].equals(weeks[1])
    for name, rows in tables_of(other).items():
        assert tables_of(database)[name].equals(rows), name


def test_a_bar_without_volume_goes_with_its_session_and_comes_back_with_it(database: Database, other: Database) -> None:
    """Some vendors send such a bar for a holiday. It was the first one stored, and is flagged as a jump."""
    bars = bars_on("XNYS", "ABC", D1, DAY, LAST)
    is_first = pl.col("ts").dt.date() == DAY
    jump = pl.when(is_first).then(pl.col("open", "high", "low", "close") * 1.5)
    exchange = MemoryExchange(
        bars.with_columns(
            jump.otherwise(pl.col("open", "high", "low", "close")),
            volume=pl.when(is_first).then(0.0).otherwise("volume"),
        )
    )
    closed = of_days(SpecialDays({}, frozenset({DAY})))
    flags = "SELECT ts, reason FROM market.bar_flag ORDER BY 1, 2"
    ends = "SELECT first_ts, last_ts FROM market.series_state WHERE asset = 'ohlc' AND timeframe = '1d'"
    refresh(database, of_days(), exchange, NOW)
    for watched, first in ((closed, utc("2026-11-25 14:30")), (of_days(), utc("2026-11-24 14:30"))):
        empty(other)
        refresh(database, watched, exchange, NOW)
        refresh(other, watched, exchange, NOW)
        for name, rows in tables_of(other).items():
            assert tables_of(database)[name].equals(rows), name
        assert rows_of(database, flags) == rows_of(other, flags)
        assert rows_of(database, ends) == rows_of(other, ends) == [(first, utc("2026-12-04 14:30"))]


@pytest.mark.parametrize(
    ("last_known", "now"),
    [("2026-12-03 22:00", "2026-12-03 22:00"), ("2026-11-20 22:00", "2026-12-05 12:00")],
    ids=["announced the evening before", "noticed on the weekend"],
)
def test_a_week_whose_last_day_is_closed_ends_with_the_day_before(
    database: Database, other: Database, last_known: str, now: str
) -> None:
    exchange = MemoryExchange(bars_on("XNYS", "ABC", D1, date(2026, 10, 12), LAST))
    closed = of_days(SpecialDays({}, frozenset({LAST})))
    refresh(database, of_days(), exchange, utc(last_known))
    refresh(database, closed, exchange, utc(now))
    refresh(other, closed, exchange, utc(last_known))
    refresh(other, closed, exchange, utc(now))
    assert openings(database, "1w", "2026-11-30 00:00", "2026-12-05 00:00") == [utc("2026-11-30 14:30")]
    for name, rows in tables_of(other).items():
        assert tables_of(database)[name].equals(rows), name


@pytest.mark.parametrize(
    ("of", "special"),
    mostly_broad(
        [
            (D1, SpecialDays({}, frozenset({LAST}))),
            (M5, SpecialDays({}, frozenset({LAST}))),
            (M5, SpecialDays({LAST: (time(9, 30), time(13))})),
        ],
        2,
    ),
    ids=["a day", "the minutes of a day", "minutes after an early close"],
)
def test_the_newest_bars_go_at_once_when_they_lie_outside_the_sessions(
    database: Database, other: Database, of: Timeframe, special: SpecialDays
) -> None:
    """Their provider is asked for them again only after the next session. Some vendors send bars for a holiday."""
    is_holiday = (pl.col("ts").dt.date() == LAST) & pl.lit(bool(special.closed))
    bars = bars_on("XNYS", "ABC", of, FIRST, LAST)
    bars = bars.with_columns(volume=pl.when(is_holiday).then(0.0).otherwise("volume"))
    exchange, plain = MemoryExchange(bars), of_days() if of == D1 else watching("XNYS")
    changed = replace(plain, special_days={"XNYS": special})
    refresh(database, plain, exchange, NOW)
    for watched in (changed, plain):
        empty(other)
        refresh(database, watched, exchange, NOW)
        refresh(other, watched, exchange, NOW)
        for name, rows in tables_of(other).items():
            assert tables_of(database)[name].equals(rows), name
        ends = "SELECT first_ts, last_ts FROM market.series_state WHERE asset = 'ohlc' AND timeframe = $1"
        assert rows_of(database, ends, of.key) == rows_of(other, ends, of.key)


@pytest.mark.broad
def test_the_next_change_removes_second_bars_of_a_day_at_the_open_of_extended_hours(
    database: Database, other: Database
) -> None:
    """Earlier versions stored such bars."""
    calendar = "XNYS extended"
    exchange = MemoryExchange(bars_on(calendar, "ABC", D1, date(2026, 10, 12), LAST))
    plain = of_days(None, calendar)
    closed = of_days(SpecialDays({}, frozenset({DAY})), calendar)
    refresh(other, plain, exchange, NOW)
    refresh(database, closed, exchange, NOW)
    with database.transaction() as transaction:
        transaction.execute(
            """
            INSERT INTO market.ohlc (symbol, timeframe, ts, open, high, low, close, volume)
            SELECT symbol, timeframe, ts - interval '5 hours 30 minutes', open, high, low, close, volume
            FROM market.ohlc WHERE timeframe = '1d' AND ts >= '2026-11-25'
            """
        )
    sync(database, plain, NOW)
    refresh(database, plain, exchange, NOW)
    for name, rows in tables_of(other).items():
        assert tables_of(database)[name].equals(rows), name


def exchange_of(calendar: str) -> MemoryExchange:
    return MemoryExchange(bars_on(calendar, "ABC", M5, FIRST, LAST))


def rolled_up(database: Database, timeframe: str) -> pl.DataFrame:
    return tables_of(database)["ohlc"].filter(timeframe=timeframe)


def openings(database: Database, timeframe: str, first: str, end: str) -> list[datetime]:
    return rolled_up(database, timeframe).filter(pl.col("ts") >= utc(first), pl.col("ts") < utc(end))["ts"].to_list()


# Calendars with and without sessions that cross midnight UTC.
@pytest.mark.parametrize("calendar", mostly_broad(["XNYS", "XNYS extended", "XASX", "XNZE", "CMES", "24/5"]))
def test_a_longer_session_gives_the_same_rows_as_if_it_had_always_been_so(
    database: Database, other: Database, calendar: str
) -> None:
    exchange = exchange_of(calendar)
    refresh(database, watching(calendar, SpecialDays({DAY: SHORT})), exchange, NOW)
    sync(database, watching(calendar), NOW)
    refresh(database, watching(calendar), exchange, NOW)
    refresh(other, watching(calendar), exchange, NOW)
    for name, rows in tables_of(other).items():
        assert tables_of(database)[name].equals(rows), name
    gaps = "SELECT timeframe, first_ts, last_ts, status FROM market.bar_gap ORDER BY 1, 2"
    assert rows_of(database, gaps) == rows_of(other, gaps)


@pytest.mark.parametrize("special", mostly_broad([SpecialDays({DAY: SHORT}), SpecialDays({}, frozenset({DAY}))]))
@pytest.mark.parametrize("calendar", mostly_broad(["XNYS", "XNYS extended", "XASX", "XNZE", "CMES", "24/5"]))
def test_a_shorter_or_removed_session_gives_the_same_rows_as_if_it_had_always_been_so(
    database: Database, other: Database, calendar: str, special: SpecialDays
) -> None:
    exchange = exchange_of(calendar)
    refresh(database, watching(calendar), exchange, NOW)
    sync(database, watching(calendar, special), NOW)
    refresh(database, watching(calendar, special), exchange, NOW)
    refresh(other, watching(calendar, special), exchange, NOW)
    for name, rows in tables_of(other).items():
        assert tables_of(database)[name].equals(rows), name


@pytest.mark.broad
def test_hours_of_a_special_day_that_are_added_later_leave_one_bar_per_hour(database: Database) -> None:
    day, now = date(2025, 10, 21), utc("2025-10-25 12:00")
    bars = bars_on("XBOM", "ABC", M5, date(2025, 10, 13), date(2025, 10, 24))
    # On Diwali there is one hour of trading in the afternoon. It is missing from exchange_calendars.
    evening = bars.filter(
        pl.col("ts").is_between(utc("2025-10-20 08:15"), utc("2025-10-20 09:15"), closed="left")
    ).with_columns(pl.col("ts") + timedelta(days=1))
    exchange = MemoryExchange(pl.concat([bars.filter(pl.col("ts").dt.date() != day), evening]))
    guessed, told = (watching("XBOM", SpecialDays({day: hours})) for hours in (None, (time(13, 45), time(14, 45))))
    refresh(database, guessed, exchange, now)
    assert openings(database, "1h", "2025-10-21 00:00", "2025-10-22 00:00") == [
        utc("2025-10-21 07:45"),
        utc("2025-10-21 08:45"),
    ]
    sync(database, told, now)
    refresh(database, told, exchange, now)
    for timeframe in ("1h", "4h"):
        assert openings(database, timeframe, "2025-10-21 00:00", "2025-10-22 00:00") == [utc("2025-10-21 08:15")]


@pytest.mark.broad
def test_the_first_day_with_bars_is_rolled_up_when_it_becomes_a_session(database: Database, other: Database) -> None:
    exchange, now = MemoryExchange(bars_on("XNYS", "ABC", M5, DAY, DAY)), utc("2026-11-25 14:38")
    closed, plain = (watching("XNYS", special) for special in (SpecialDays({}, frozenset({DAY})), None))
    refresh(database, closed, exchange, now)
    assert set(tables_of(database)["ohlc"]["timeframe"]) == {"5m"}, "the bars of a day that the calendar lacks"
    for each in (database, other):
        refresh(each, plain, exchange, now)
    for name, rows in tables_of(other).items():
        assert tables_of(database)[name].equals(rows), name


def test_a_rolled_up_bar_without_trading_before_the_new_close_is_deleted(database: Database) -> None:
    """With a close at 13:00 in New York, the hour from 17:30 UTC ends at 18:00 UTC, and nothing traded before that."""
    exchange = exchange_of("XNYS")
    silent = pl.col("ts").is_between(utc("2026-11-24 17:30"), utc("2026-11-24 17:55"))
    exchange.bars = exchange.bars.filter(~silent)
    refresh(database, watching("XNYS"), exchange, NOW)
    assert utc("2026-11-24 17:30") in openings(database, "1h", "2026-11-24 00:00", "2026-11-25 00:00")
    early = watching("XNYS", SpecialDays({DAY: (time(9, 30), time(13))}))
    sync(database, early, NOW)
    refresh(database, early, exchange, NOW)
    hours = [utc(f"2026-11-24 {hour}:30") for hour in (14, 15, 16)]
    assert openings(database, "1h", "2026-11-24 00:00", "2026-11-25 00:00") == hours


@pytest.mark.broad
def test_bars_of_unchanged_sessions_are_not_rewritten(database: Database) -> None:
    """Reading bars as of a moment depends on when they were first stored."""
    exchange = exchange_of("24/5")
    refresh(database, watching("24/5"), exchange, NOW)
    before = {row for row in versions_of(database)["ohlc"] if row[1] in ("1h", "4h")}
    shorter = watching("24/5", SpecialDays({DAY: SHORT}))
    sync(database, shorter, NOW)
    refresh(database, shorter, exchange, NOW)
    touched = before - versions_of(database)["ohlc"]
    assert {row[2].date() for row in touched} == {DAY - timedelta(days=1), DAY}
