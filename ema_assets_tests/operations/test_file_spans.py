"""Tests of file spans: each span of a rolled-up series has either the bars of a file or rolled-up bars, on one grid."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ema_assets.model.asset_names import EMA_SIGNALS
from ema_assets.model.schemas import BAR_SCHEMA, UTC_TIME
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.ingest import IngestedSeries, store_file
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, by_clock, moved, refresh, rows_of, utc, watch
from ema_assets_tests.timeframes import H1, H4, M5

FIRST, LAST = date(2026, 11, 16), date(2026, 11, 25)
NOW = utc("2026-11-28 12:00")
MINUTE = timedelta(minutes=1)
WATCHED = watch({"AAPL": "XNYS"})
BASE = bars_on("XNYS", "AAPL", M5, FIRST, LAST)
EXTENDED = bars_on("XNYS extended", "AAPL", M5, FIRST, LAST)


def hours_of(base: pl.DataFrame) -> pl.DataFrame:
    """Return hours from full hour to full hour, as in extended hours: ts, close."""
    return base.group_by(ts=pl.col("ts").dt.truncate("1h"), maintain_order=True).agg(pl.col("close").last())


@pytest.fixture
def watched(database: Database) -> Database:
    sync(database, WATCHED, NOW)
    return database


def ingest(database: Database, bars: pl.DataFrame, name: str = "hours.csv") -> IngestedSeries:
    (summary,) = store_file(database, bars, name, NOW)
    return summary


def hours(database: Database) -> list[tuple[datetime, float]]:
    return [
        (ts, close)
        for ts, close in rows_of(database, "SELECT ts, close FROM market.ohlc WHERE timeframe = '1h' ORDER BY ts")
    ]


def expected(base: pl.DataFrame, file: pl.DataFrame) -> list[tuple[datetime, float]]:
    """Return the file's hours in its sessions, and hours anchored to the open at 14:30 in other sessions."""
    days = set(file["ts"].dt.date())
    ours = (
        base.filter(~pl.col("ts").dt.date().is_in(list(days)))
        .group_by(ts=(pl.col("ts") - timedelta(minutes=30)).dt.truncate("1h") + timedelta(minutes=30))
        .agg(pl.col("close").last())
    )
    return sorted([*file.select("ts", "close").iter_rows(), *ours.iter_rows()])


def assert_one_grid(database: Database, base: pl.DataFrame, file: pl.DataFrame) -> None:
    found, wanted = (
        pl.DataFrame(rows, schema=["ts", "close"], orient="row") for rows in (hours(database), expected(base, file))
    )
    assert_frame_equal(found, wanted, rel_tol=1e-12)
    averaged = rows_of(database, f"SELECT ts FROM market.{EMA_SIGNALS} WHERE timeframe = '1h' ORDER BY ts")
    assert [ts for (ts,) in averaged] == [ts for ts, _ in hours(database)]


@pytest.mark.broad
@pytest.mark.parametrize("file_comes", ["first", "last"])
def test_a_span_of_a_file_has_the_bars_of_the_file_whichever_came_first(watched: Database, file_comes: str) -> None:
    exchange, file = MemoryExchange(BASE), by_clock(BASE, "2026-11-18", "2026-11-19")
    if file_comes == "first":
        ingest(watched, file)
    refresh(watched, WATCHED, exchange, NOW)
    if file_comes == "last":
        ingest(watched, file)
        refresh(watched, WATCHED, exchange, NOW)
    assert_one_grid(watched, BASE, file)


@pytest.mark.broad
def test_a_correction_and_a_new_price_scale_keep_the_span_of_the_file(watched: Database) -> None:
    file = by_clock(BASE, "2026-11-18", "2026-11-19")
    ingest(watched, file)
    refresh(watched, WATCHED, MemoryExchange(BASE), NOW)
    changed = pl.when(pl.col("ts") == utc("2026-11-19 20:55")).then(pl.col("close") * 1.01).otherwise("close")
    corrected = BASE.with_columns(close=changed).with_columns(high=pl.max_horizontal("high", "close"))
    ingest(watched, corrected.filter(ts=utc("2026-11-19 20:55")), "correction.csv")
    refresh(watched, WATCHED, MemoryExchange(corrected), NOW)
    assert_one_grid(watched, corrected, file)
    refresh(watched, WATCHED, MemoryExchange(moved(corrected, 1.02)), NOW, everything=True)
    assert_one_grid(watched, moved(corrected, 1.02), moved(file, 1.02))


@pytest.mark.broad
def test_spans_of_files_on_one_grid_are_merged_and_another_grid_replaces_its_part(watched: Database) -> None:
    early, late = by_clock(BASE, "2026-11-17", "2026-11-18"), by_clock(BASE, "2026-11-18", "2026-11-20")
    both = by_clock(BASE, "2026-11-17", "2026-11-20")
    refresh(watched, WATCHED, MemoryExchange(BASE), NOW)
    for file in (late, early.reverse(), late):
        ingest(watched, file)
    refresh(watched, WATCHED, MemoryExchange(BASE), NOW)
    assert_one_grid(watched, BASE, both)
    assert rows_of(watched, "SELECT timeframe, first_ts, last_end FROM market.file_span") == [
        ("1h", utc("2026-11-17 14:00"), utc("2026-11-20 21:00"))
    ]
    anchored = expected(BASE, both.clear())
    ours = pl.DataFrame(
        [("AAPL", "1h", ts, close, close, close, close, 1.0) for ts, close in anchored],
        schema=BAR_SCHEMA,
        orient="row",
    ).filter(pl.col("ts").is_between(utc("2026-11-18 00:00"), utc("2026-11-19 00:00")))
    ingest(watched, ours)
    refresh(watched, WATCHED, MemoryExchange(BASE), NOW)
    mixed = pl.concat([both.filter(pl.col("ts").dt.date() != date(2026, 11, 18)), ours]).sort("ts")
    assert_one_grid(watched, BASE, mixed)


def test_ingesting_a_file_again_stores_nothing(watched: Database) -> None:
    file = by_clock(BASE, "2026-11-18", "2026-11-19")
    first, again = ingest(watched, file), ingest(watched, file)
    assert (first.stored, first.equal) == (14, 0)
    assert (again.stored, again.equal, again.corrected) == (0, 14, 0)


@pytest.mark.broad
def test_a_file_replaces_exactly_the_bars_of_an_earlier_file_that_its_own_overlap(database: Database) -> None:
    """Bars that touch, that lie in between, or that only a bar of another symbol overlaps stay."""
    symbols = {"BTC-USD": "24/7", "ETH-USD": "24/7"}
    both = watch(symbols, provider="file", timeframes=(H1,))
    sync(database, both, NOW)
    hourly = pl.concat([bars_on("24/7", symbol, H1, date(2026, 11, 22), date(2026, 11, 24)) for symbol in symbols])
    since, end = utc("2026-11-24 10:00"), utc("2026-11-24 14:00")
    early = hourly.filter(pl.col("ts") < end)
    store_file(database, early, "early.csv", NOW)
    refresh(database, both, MemoryExchange(), NOW, timeframes=[H1])
    at_half = hourly.filter(pl.col("ts") > since, pl.col("ts").dt.hour().is_in([11, 14]), symbol="BTC-USD")
    at_half = at_half.with_columns(pl.col("ts") + 30 * MINUTE)
    again = early.filter(pl.col("ts") >= since, pl.col("ts").dt.hour().is_in([10, 13]), symbol="ETH-USD")
    store_file(database, pl.concat([at_half, again]), "late.csv", NOW)
    refresh(database, both, MemoryExchange(), NOW, timeframes=[H1])
    for table in ("ohlc", EMA_SIGNALS):
        stored = f"SELECT symbol, ts FROM market.{table} WHERE ts >= $1 ORDER BY symbol, ts"
        assert [f"{symbol[:3]} {ts:%H:%M}" for symbol, ts in rows_of(database, stored, since)] == [
            *("BTC 10:00", "BTC 11:30", "BTC 13:00", "BTC 14:30"),
            *("ETH 10:00", "ETH 11:00", "ETH 12:00", "ETH 13:00"),
        ]


def test_a_file_replaces_a_rolled_up_bar_before_its_first_one_only_if_the_two_overlap(database: Database) -> None:
    day, lunch = date(2026, 11, 24), watch({"0005.HK": "XHKG"}, provider="file", timeframes=(M5, H1, H4))
    sync(database, lunch, NOW)
    base = bars_on("XHKG", "0005.HK", M5, day, day)
    store_file(database, base, "bars.csv", NOW)
    refresh(database, lunch, MemoryExchange(), NOW)

    def left_by(timeframe: Timeframe, first: str) -> list[str]:
        bar = base[:1].with_columns(timeframe=pl.lit(timeframe.key), ts=pl.lit(utc(f"2026-11-24 {first}"), UTC_TIME))
        store_file(database, bar, "bar.csv", NOW)
        stored = "SELECT ts FROM market.ohlc WHERE timeframe = $1 ORDER BY ts"
        return [f"{ts:%H:%M}" for (ts,) in rows_of(database, stored, timeframe.key)]

    assert left_by(H1, "02:30") == ["01:30", "02:30", "03:30", "05:00", "06:00", "07:00"]
    assert left_by(H1, "06:30") == ["01:30", "02:30", "03:30", "05:00", "06:30"]
    # The morning's four hours end at lunch, though the next four hours begin less than four hours after them.
    assert left_by(H4, "05:00") == ["01:30", "05:00"]


def spans(database: Database) -> list[tuple[datetime, datetime]]:
    return rows_of(database, "SELECT first_ts, last_end FROM market.file_span ORDER BY 1")


@pytest.mark.broad
def test_longer_hours_keep_the_bars_of_a_file_and_roll_up_the_others_around_them(database: Database) -> None:
    longer = watch({"AAPL": "XNYS extended"})
    sync(database, WATCHED, NOW)
    file = by_clock(BASE, "2026-11-18", "2026-11-19")
    ingest(database, file)
    refresh(database, WATCHED, MemoryExchange(BASE), NOW)
    sync(database, longer, NOW)
    refresh(database, longer, MemoryExchange(EXTENDED), NOW)
    first, end = utc("2026-11-18 14:00"), utc("2026-11-19 21:00")
    ours = hours_of(EXTENDED).filter((pl.col("ts") < first) | (pl.col("ts") >= end))
    assert hours(database) == sorted([*file.select("ts", "close").iter_rows(), *ours.iter_rows()])
    assert spans(database) == [(first, end)]


@pytest.mark.broad
def test_shorter_hours_keep_the_bars_of_a_file_within_them_and_narrow_its_span(database: Database) -> None:
    longer = watch({"AAPL": "XNYS extended"})
    sync(database, longer, NOW)
    ingest(database, by_clock(EXTENDED, "2026-11-18", "2026-11-19"))
    refresh(database, longer, MemoryExchange(EXTENDED), NOW)
    sync(database, WATCHED, NOW)
    regular = EXTENDED.filter(pl.col("ts").is_in(BASE["ts"].implode()))
    refresh(database, WATCHED, MemoryExchange(regular), NOW)
    # The file's hours from 14:00 on reach into the session. Hours outside it are deleted, so the span is shorter.
    assert_one_grid(database, regular, by_clock(regular, "2026-11-18", "2026-11-19"))
    assert spans(database) == [(utc("2026-11-18 14:00"), utc("2026-11-19 21:00"))]


@pytest.mark.broad
def test_a_calendar_without_the_sessions_of_a_file_removes_its_bars_and_its_span(watched: Database) -> None:
    tokyo = watch({"AAPL": "XTKS"})
    ingest(watched, by_clock(BASE, "2026-11-18", "2026-11-19"))
    sync(watched, tokyo, NOW)
    assert (hours(watched), spans(watched)) == ([], [])
    traded = bars_on("XTKS", "AAPL", M5, FIRST, LAST)
    refresh(watched, tokyo, MemoryExchange(traded), NOW)
    # Tokyo trades two and a half hours before lunch and three hours after it, on seven days: the 23rd is a holiday.
    assert len(hours(watched)) == 7 * (3 + 3)


@pytest.mark.broad
def test_a_series_that_has_lost_all_its_bars_loses_its_results_and_is_up_to_date(watched: Database) -> None:
    ingest(watched, by_clock(BASE, "2026-11-18", "2026-11-19"))
    refresh(watched, WATCHED, MemoryExchange(), NOW)
    averaged = f"SELECT ts FROM market.{EMA_SIGNALS}"
    assert len(rows_of(watched, averaged)) == 14
    tokyo = watch({"AAPL": "XTKS"})
    sync(watched, tokyo, NOW)
    refresh(watched, tokyo, MemoryExchange(), NOW)
    assert rows_of(watched, averaged) == []
    still_due = "SELECT asset FROM market.series_state WHERE asset <> 'ohlc' AND dirty_from IS NOT NULL"
    assert rows_of(watched, still_due) == []


def test_a_span_ends_with_the_session_of_its_last_bar(database: Database) -> None:
    sync(database, watch({"AAPL": "24/7"}), NOW)
    days = bars_on("24/7", "AAPL", H1, date(2026, 11, 18), date(2026, 11, 20)).with_columns(timeframe=pl.lit("4h"))
    ingest(database, days.filter(pl.col("ts").dt.hour() % 4 == 0, pl.col("ts") < utc("2026-11-20 08:00")))
    sync(database, WATCHED, NOW)
    kept = rows_of(database, "SELECT ts FROM market.ohlc WHERE timeframe = '4h' ORDER BY ts")
    assert [ts for (ts,) in kept] == [utc(f"2026-11-{day} {hour}:00") for day in (18, 19) for hour in (12, 16, 20)]
    assert spans(database) == [(utc("2026-11-18 12:00"), utc("2026-11-19 21:00"))]


@pytest.mark.broad
def test_bars_older_than_the_sessions_of_a_new_calendar_stay_with_their_span(watched: Database) -> None:
    long_ago = by_clock(bars_on("XNYS", "AAPL", M5, date(2019, 11, 18), date(2019, 11, 19)), "2019-11-18", "2019-11-19")
    ingest(watched, long_ago)
    sync(watched, watch({"AAPL": "XTKS"}), NOW)
    assert hours(watched) == list(long_ago.select("ts", "close").iter_rows())
    assert spans(watched) == [(utc("2019-11-18 14:00"), utc("2019-11-19 21:00"))]


@pytest.mark.broad
def test_the_next_day_does_not_change_the_trades_of_the_previous_day(database: Database) -> None:
    """With clock hours, the first bar of the next day begins half an hour before its open and turns the trend there.

    On 5m the last bar of the day has a crossover while the trend on 1h is still the opposite.
    """
    rows = ({"name": "hour", "rule": "crossover", "entries": "all", "higher_timeframe": "1h"}, *WATCHED.strategies)
    watched = replace(WATCHED, strategies=rows)
    close, until = utc("2026-11-24 21:00"), utc("2026-11-25 21:00")
    falls = 100 * 0.9995 ** pl.int_range(pl.len())
    rises = pl.when(pl.col("ts") >= close).then(1.5).when(pl.col("ts") == close - 5 * MINUTE).then(1.05).otherwise(1.0)
    flat = dict.fromkeys(("open", "high", "low", "close"), falls * rises)
    base = BASE.with_columns(**flat)
    sync(database, watched, NOW)
    trades = []
    for end in (close, until):
        known = base.filter(pl.col("ts") < end)
        for file in (known, by_clock(known, "2026-11-16", "2026-11-25")):
            store_file(database, file, "bars.csv", end)
        refresh(database, watched, MemoryExchange(BASE.clear()), end, timeframes=(M5, H1))
        trades.append(rows_of(database, "SELECT entry_ts FROM market.strategy_hour WHERE timeframe = '5m'"))
    crossed = rows_of(
        database, "SELECT ts FROM market.ema_trend WHERE timeframe = '5m' AND crossover = 'bullish' AND ts < $1", close
    )
    assert crossed == [(close - 5 * MINUTE,)]
    assert trades == [[], []]
