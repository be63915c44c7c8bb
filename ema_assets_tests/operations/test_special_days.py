"""Tests of special days and of days missing from the calendar: sessions, bars, rollups, computed series."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import polars as pl
import pytest

from ema_assets.market import exchanges
from ema_assets.model.special_days import SpecialDays
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store import sessions
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, rows_of, tables_of, utc, watch
from ema_assets_tests.timeframes import D1, M5

NOW = utc("2026-12-01 22:00")
# The Saturday after Thanksgiving. The Friday before it closes early, and its hours apply.
SATURDAY = date(2026, 11, 28)
WATCHED = watch({"AAPL": "XNYS", "MSFT": "XNYS"}, m5_days=12, d1_days=60)
TRADED = replace(WATCHED, special_days={"XNYS": SpecialDays({SATURDAY: None})})


def on_saturday(bars: pl.DataFrame) -> pl.DataFrame:
    """Return the bars of the Friday, moved to the Saturday."""
    friday = bars.filter(pl.col("ts").dt.date() == SATURDAY - timedelta(days=1))
    return friday.with_columns(pl.col("ts") + timedelta(days=1))


def exchange() -> MemoryExchange:
    regular = pl.concat(
        bars_on("XNYS", symbol, timeframe, first, date(2026, 12, 1), seed)
        for seed, symbol in enumerate(("AAPL", "MSFT"))
        for timeframe, first in ((M5, date(2026, 11, 23)), (D1, date(2026, 10, 5)))
    )
    return MemoryExchange(pl.concat([regular, on_saturday(regular)]).sort("symbol", "timeframe", "ts"))


def session_days(database: Database) -> list[date]:
    """Return the stored sessions of New York around the Saturday."""
    found = rows_of(
        database,
        """
        SELECT session FROM market.session
        WHERE calendar = 'XNYS' AND session BETWEEN '2026-11-25' AND '2026-12-01' ORDER BY 1
        """,
    )
    return [day for (day,) in found]


def bars_on_saturday(database: Database, timeframe: str) -> list[datetime]:
    sql = "SELECT ts FROM market.ohlc WHERE symbol = 'AAPL' AND timeframe = $1 AND ts::date = $2::text::date ORDER BY 1"
    return [ts for (ts,) in rows_of(database, sql, timeframe, SATURDAY.isoformat())]


@pytest.mark.broad
def test_bars_on_a_day_missing_from_the_calendar_are_stored_flagged_and_computed(database: Database) -> None:
    refresh(database, WATCHED, exchange(), NOW)
    assert len(bars_on_saturday(database, "5m")) == 42
    assert bars_on_saturday(database, "1d") == [utc("2026-11-28 14:30")]
    flags = rows_of(
        database,
        "SELECT timeframe, reason, count(*) FROM market.bar_flag WHERE symbol = 'AAPL' GROUP BY 1, 2 ORDER BY 1",
    )
    assert flags == [("1d", "day not in the calendar", 1), ("5m", "day not in the calendar", 42)]
    averaged = tables_of(database)["ema_signals"].filter(symbol="AAPL", timeframe="5m")
    assert set(bars_on_saturday(database, "5m")) <= set(averaged["ts"])
    # Without a session there is no grid, so nothing is rolled up.
    assert bars_on_saturday(database, "1h") == []


@pytest.mark.broad
def test_an_added_special_day_is_a_session_until_it_is_removed_again(database: Database, other: Database) -> None:
    refresh(database, WATCHED, exchange(), NOW)
    sync(database, TRADED, NOW)
    assert SATURDAY in session_days(database)
    refresh(database, TRADED, exchange(), NOW)
    hours = [utc(f"2026-11-28 {time}") for time in ("14:30", "15:30", "16:30", "17:30")]
    assert bars_on_saturday(database, "1h") == hours
    assert rows_of(database, "SELECT count(*) FROM market.bar_flag WHERE reason = 'day not in the calendar'") == [(0,)]
    sync(database, WATCHED, NOW)
    assert SATURDAY not in session_days(database)
    refresh(database, WATCHED, exchange(), NOW)
    refresh(other, WATCHED, exchange(), NOW)
    assert bars_on_saturday(database, "1h") == []
    for name, rows in tables_of(other).items():
        assert tables_of(database)[name].equals(rows), name


@pytest.mark.broad
def test_a_special_day_added_later_gives_the_same_rows_as_one_known_from_the_beginning(
    database: Database, other: Database
) -> None:
    refresh(database, WATCHED, exchange(), NOW)
    sync(database, TRADED, NOW)
    refresh(database, TRADED, exchange(), NOW)
    refresh(other, TRADED, exchange(), NOW)
    for name, rows in tables_of(other).items():
        assert tables_of(database)[name].equals(rows), name


@pytest.mark.broad
def test_sessions_are_recomputed_only_when_their_special_days_or_rules_change(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(database, TRADED, NOW)
    monkeypatch.setattr(exchanges, "exchange_sessions", None)
    sync(database, TRADED, NOW)
    monkeypatch.undo()
    monkeypatch.setattr(exchanges, "RULES_VERSION", exchanges.RULES_VERSION + 1)
    with database.transaction() as transaction:
        transaction.execute("DELETE FROM market.session WHERE session = '2026-11-25'")
    sync(database, TRADED, NOW)
    assert date(2026, 11, 25) in session_days(database)


def test_special_days_in_the_database_equal_those_of_the_watchlist(database: Database) -> None:
    sync(database, TRADED, NOW)
    with database.transaction() as transaction:
        assert sessions.special_days(transaction, "XNYS") == TRADED.special_days["XNYS"]
    sync(database, WATCHED, NOW)
    with database.transaction() as transaction:
        assert sessions.special_days(transaction, "XNYS") == SpecialDays()


@pytest.mark.broad
def test_a_special_day_in_the_future_makes_no_series_dirty(database: Database) -> None:
    refresh(database, WATCHED, exchange(), NOW)
    later = replace(WATCHED, special_days={"XNYS": SpecialDays({}, frozenset({date(2026, 12, 24)}))})
    sync(database, later, NOW)
    assert rows_of(database, "SELECT count(*) FROM market.series_state WHERE dirty_from IS NOT NULL") == [(0,)]
    kept = "SELECT calendar FROM market.session WHERE session = '2026-12-24' AND calendar = 'XNYS'"
    assert rows_of(database, kept) == []
