"""A day that is missing in the calendar has no rolled-up bars, and does not prevent those of later days."""

from dataclasses import replace
from datetime import date, datetime

import polars as pl
import pytest

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.special_days import SpecialDays
from ema_assets.operations.ingest import store_file
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, rows_of, utc, watch
from ema_assets_tests.timeframes import D1, H1, H4, M5, M15, MO1, W1

# The exchange in Bombay traded on the Saturday and was closed on the Monday after it.
FRIDAY, SATURDAY, MONDAY = date(2024, 1, 19), date(2024, 1, 20), date(2024, 1, 22)
TUESDAY, LAST = date(2024, 1, 23), date(2024, 2, 2)
NOW = utc("2024-02-02 12:00")
LONGER = (M15, H1, H4, W1, MO1)


def bars(symbol: str, first: date, unlisted: date = SATURDAY) -> pl.DataFrame:
    """Regular 5m and 1d bars from `first` on, and bars of the `unlisted` day at the hours of the Friday."""
    regular = pl.concat(bars_on("XBOM", symbol, timeframe, min(first, FRIDAY), LAST) for timeframe in (M5, D1))
    special = regular.filter(pl.col("ts").dt.date() == FRIDAY).with_columns(pl.col("ts") + (unlisted - FRIDAY))
    return pl.concat([regular, special]).filter(pl.col("ts").dt.date() >= first).sort("timeframe", "ts")


def stored_on(database: Database, day: date) -> list[datetime]:
    sql = "SELECT ts FROM market.ohlc WHERE symbol = 'A' AND timeframe = '5m' AND ts::date = $1::date ORDER BY ts"
    return [ts for (ts,) in rows_of(database, sql, day)]


def watched(*symbols: str) -> Watchlist:
    return watch(dict.fromkeys(symbols, "XBOM"), m5_days=20, d1_days=20, timeframes=(M5, D1, *LONGER))


def rolled_up(database: Database, symbol: str) -> list[tuple[str, datetime]]:
    return rows_of(
        database,
        """
        SELECT timeframe, ts FROM market.ohlc WHERE symbol = $1 AND timeframe <> ALL ('{5m,1d}')
        ORDER BY timeframe, ts
        """,
        symbol,
    )


@pytest.mark.broad
@pytest.mark.parametrize("kind", ["file", "provider"])
def test_a_history_that_begins_on_an_unlisted_day_is_rolled_up_from_the_next_session_on(
    database: Database, kind: str
) -> None:
    names = watched("A", "B")
    if kind == "file":
        names = replace(names, instruments=tuple(replace(each, provider="file") for each in names.instruments))
    both = pl.concat([bars("A", SATURDAY), bars("B", TUESDAY)])
    if kind == "file":
        sync(database, names, NOW)
        store_file(database, both, "a file", NOW)
        refresh(database, names, MemoryExchange(), NOW)
    else:
        refresh(database, names, MemoryExchange(both), NOW)
    flags = rows_of(database, "SELECT symbol, reason FROM market.bar_flag GROUP BY 1, 2")
    assert ("A", "day not in the calendar") in flags
    assert {timeframe for timeframe, _ in rolled_up(database, "A")} == {each.key for each in LONGER}
    assert rolled_up(database, "A") == rolled_up(database, "B")


@pytest.mark.broad
def test_after_a_pause_over_an_unlisted_day_the_next_session_is_rolled_up(database: Database) -> None:
    names = watched("A")
    exchange = MemoryExchange(bars("A", date(2024, 1, 15)))
    refresh(database, names, exchange, utc("2024-01-19 12:00"))
    before = rolled_up(database, "A")
    refresh(database, names, exchange, utc("2024-01-23 12:00"))
    added = [each for each in rolled_up(database, "A") if each not in before]
    assert [ts for timeframe, ts in added if timeframe == "1h"] == [
        utc(f"2024-01-23 {hour:02}:45") for hour in range(3, 10)
    ]
    assert {ts.date() for _, ts in added} == {TUESDAY}
    assert {timeframe for timeframe, _ in added} == {"15m", "1h", "4h"}
    refresh(database, names, exchange, utc("2024-01-26 12:00"))
    assert [ts for timeframe, ts in rolled_up(database, "A") if timeframe == "1w"] == [
        utc("2024-01-15 03:45"),
        utc("2024-01-23 03:45"),
    ]


@pytest.mark.broad
def test_bars_of_an_unlisted_day_alone_leave_nothing_stale(database: Database) -> None:
    names = watched("A")
    exchange = MemoryExchange(bars("A", date(2024, 1, 15)))
    refresh(database, names, exchange, utc("2024-01-19 12:00"))
    before = rolled_up(database, "A")
    refresh(database, names, exchange, utc("2024-01-20 12:00"))
    assert rolled_up(database, "A") == before
    ready = rows_of(
        database,
        """
        SELECT s.timeframe FROM market.series_state s
        JOIN market.series_state base ON base.asset = s.asset AND base.symbol = s.symbol AND base.timeframe = '5m'
        WHERE s.asset = 'ohlc' AND s.timeframe <> ALL ('{5m,1d}') AND s.dirty_end <= base.checked_through
        """,
    )
    assert ready == []


@pytest.mark.broad
def test_a_session_that_is_taken_from_the_calendar_while_it_is_open_gets_the_rest_of_its_bars(
    database: Database,
) -> None:
    """The last session before it is three days earlier, and no request reaches back that far."""
    names, exchange = watched("A"), MemoryExchange(bars("A", FRIDAY, MONDAY))
    open_then = replace(names, special_days={"XBOM": SpecialDays({MONDAY: None})})
    refresh(database, open_then, exchange, utc("2024-01-22 06:00"))
    begun = stored_on(database, MONDAY)
    refresh(database, names, exchange, utc("2024-01-24 12:00"))
    whole = [ts for ts in exchange.bars.filter(timeframe="5m")["ts"].sort() if ts.date() == MONDAY]
    assert 0 < len(begun) < len(whole)
    assert stored_on(database, MONDAY) == whole


@pytest.mark.parametrize("first", [FRIDAY, MONDAY])
def test_a_file_may_begin_and_end_on_an_unlisted_day(database: Database, first: date) -> None:
    """The sessions around it are further away than a weekend."""
    names = watched("A")
    sync(database, replace(names, instruments=(replace(names.instruments[0], provider="file"),)), NOW)
    read = bars("A", first, MONDAY).filter(pl.col("ts").dt.date() <= MONDAY, timeframe="5m")
    stored, *_ = store_file(database, read, "a file", NOW)
    assert stored.skipped == {}
    assert stored_on(database, MONDAY) == read.filter(pl.col("ts").dt.date() == MONDAY)["ts"].to_list()
