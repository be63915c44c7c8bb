"""Special days and a day that the calendar lacks, all the way: sessions, bars, rolled-up bars, what is computed."""

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
# The Saturday after Thanksgiving, with the hours of an early close before it.
SATURDAY = date(2026, 11, 28)
WATCHED = watch({"AAPL": "XNYS", "MSFT": "XNYS"}, m5_days=12, d1_days=60)
TRADED = replace(WATCHED, special_days={"XNYS": SpecialDays({SATURDAY: None})})


def on_saturday(bars: pl.DataFrame) -> pl.DataFrame:
    """The bars of the Friday, a day later."""
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
    """Those of New York."""
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


def test_what_trades_on_a_day_that_the_calendar_lacks_is_stored_flagged_and_computed(database: Database) -> None:
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


def test_a_day_that_is_added_is_a_session_from_then_on_and_taken_away_again_is_none(
    database: Database, other: Database
) -> None:
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


def test_it_ends_as_if_the_day_had_been_a_session_from_the_beginning(database: Database, other: Database) -> None:
    refresh(database, WATCHED, exchange(), NOW)
    sync(database, TRADED, NOW)
    refresh(database, TRADED, exchange(), NOW)
    refresh(other, TRADED, exchange(), NOW)
    for name, rows in tables_of(other).items():
        assert tables_of(database)[name].equals(rows), name


def test_sessions_are_made_anew_only_when_what_they_are_made_from_changes(
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


def test_special_days_in_the_database_are_those_of_the_watchlist(database: Database) -> None:
    sync(database, TRADED, NOW)
    with database.transaction() as transaction:
        assert sessions.special_days(transaction, "XNYS") == TRADED.special_days["XNYS"]
    sync(database, WATCHED, NOW)
    with database.transaction() as transaction:
        assert sessions.special_days(transaction, "XNYS") == SpecialDays()


def test_a_later_change_of_the_calendar_makes_nothing_stale_today(database: Database) -> None:
    refresh(database, WATCHED, exchange(), NOW)
    later = replace(WATCHED, special_days={"XNYS": SpecialDays({}, frozenset({date(2026, 12, 24)}))})
    sync(database, later, NOW)
    assert rows_of(database, "SELECT count(*) FROM market.series_state WHERE dirty_from IS NOT NULL") == [(0,)]
    kept = "SELECT calendar FROM market.session WHERE session = '2026-12-24' AND calendar = 'XNYS'"
    assert rows_of(database, kept) == []
