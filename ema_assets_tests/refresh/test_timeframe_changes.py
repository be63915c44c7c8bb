"""Timeframes are switched on in a database with bars, switched off and on again, for all or for some symbols."""

from dataclasses import replace
from datetime import date, timedelta

import polars as pl
import pytest

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.asset_names import CHAIN
from ema_assets.refresh.plan import stale_for_sweep
from ema_assets.reports import health, status
from ema_assets.reports.progress import loading
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate
from ema_assets_tests.conftest import Databases
from ema_assets_tests.refresh.exchange import (
    MemoryExchange,
    bars_on,
    refresh,
    rows_of,
    state_of,
    tables_of,
    utc,
    versions_of,
    watch,
)
from ema_assets_tests.timeframes import D1, H1, H4, M1, M5, ORDER, W1

CALENDARS = {"AAPL": "XNYS", "BTC-USD": "24/7"}
WATCHED = watch(CALENDARS, timeframes=ORDER)
LEFT = tuple(each for each in ORDER if each is not H4)
WITHOUT_FOUR_HOURS = watch(CALENDARS, timeframes=LEFT)
NOW = utc("2026-11-20 21:00")
LATER = NOW + timedelta(hours=4)


def market() -> MemoryExchange:
    return MemoryExchange(
        *(
            bars_on(calendar, symbol, timeframe, first, date(2026, 11, 21), seed)
            for seed, (symbol, calendar) in enumerate(CALENDARS.items())
            for timeframe, first in ((M5, date(2026, 11, 9)), (D1, date(2026, 9, 25)), (M1, date(2026, 11, 18)))
        )
    )


def keys(database: Database, table: str) -> set[object]:
    return {key for (key,) in rows_of(database, f"SELECT DISTINCT timeframe FROM market.{table}")}


@pytest.mark.broad
def test_a_timeframe_added_to_a_database_is_computed_from_the_stored_bars(databases: Databases) -> None:
    exchange = market()
    grown, whole = databases.make(migrated=False), databases.make(migrated=False)
    with Database(grown) as database, Database(whole) as expected:
        migrate(grown)
        refresh(database, WITHOUT_FOUR_HOURS, exchange, NOW)
        assert H4.key not in keys(database, "series_state")
        asked = len(exchange.asked)
        refresh(database, WATCHED, exchange, NOW)
        # Rolled-up bars need no request to a provider.
        assert len(exchange.asked) == asked
        migrate(whole)
        refresh(expected, WATCHED, exchange, NOW)
        found, wanted = tables_of(database), tables_of(expected)
        for asset in CHAIN:
            assert found[asset].equals(wanted[asset]), asset
        assert found["ohlc"].filter(timeframe=H4.key).height > 20
    for url in (grown, whole):
        databases.drop(url)


@pytest.mark.broad
def test_a_disabled_timeframe_keeps_its_rows_and_needs_no_work(database: Database) -> None:
    exchange = market()
    refresh(database, WATCHED, exchange, NOW)
    # Changed, failing and waiting: everything that makes a series need work.
    rows_of(
        database,
        "UPDATE market.series_state SET dirty_from = first_ts, failures = 2, last_error = 'no', "
        "updated_at = '2020-01-01' WHERE timeframe = '4h' RETURNING 1",
    )
    rows_of(
        database,
        "INSERT INTO market.bar_gap (symbol, timeframe, first_ts, last_ts, bars, status, next_attempt_at, found_at) "
        "VALUES ('AAPL', '4h', now(), now(), 1, 'open', now(), now()) RETURNING 1",
    )
    kept = rows_of(database, "SELECT * FROM market.ema_trend WHERE timeframe = '4h' ORDER BY symbol, ts")
    refresh(database, WITHOUT_FOUR_HOURS, exchange, LATER)
    with database.transaction() as transaction:
        assert H4.key not in set(stale_for_sweep(transaction, LATER, timedelta(0))["timeframe"])
        assert health.failing(transaction).is_empty()
        assert health.waiting_since(transaction, LATER).is_empty()
        assert health.open_gaps(transaction).is_empty()
        assert {each.timeframe for each in status.by_asset(transaction, LATER)} == {each.key for each in LEFT}
        assert list(loading(transaction, LATER).series) == list(LEFT)
    assert len(kept) > 20
    assert rows_of(database, "SELECT * FROM market.ema_trend WHERE timeframe = '4h' ORDER BY symbol, ts") == kept


@pytest.mark.broad
def test_a_timeframe_that_is_enabled_again_equals_one_that_was_never_disabled(databases: Databases) -> None:
    exchange = market()
    urls = [databases.make(), databases.make()]
    with Database(urls[0]) as database, Database(urls[1]) as expected:
        refresh(database, WATCHED, exchange, NOW - timedelta(days=1))
        # A bar is corrected while 4h is disabled. It lies long before the newest 4h bar.
        refresh(database, WITHOUT_FOUR_HOURS, exchange, NOW)
        exchange.correct(
            exchange.bars.filter(timeframe="5m", symbol="AAPL").slice(100, 1).with_columns(close=pl.col("high"))
        )
        refresh(database, WITHOUT_FOUR_HOURS, exchange, NOW, everything=True, timeframes=[M5])
        before = versions_of(database)["ohlc"]
        refresh(database, WATCHED, exchange, NOW)
        refresh(expected, WATCHED, exchange, NOW)
        found, wanted = tables_of(database), tables_of(expected)
        for asset in CHAIN:
            assert found[asset].equals(wanted[asset]), asset
        # Rows that were right already are not written again.
        again = {row for row in versions_of(database)["ohlc"] if row[1] == "4h"}
        assert len(again & before) > 20
    for url in urls:
        databases.drop(url)


@pytest.mark.broad
def test_each_symbol_has_the_timeframes_of_its_group(database: Database) -> None:
    """AAPL has only hourly bars, and its 5m bars are stored for them. BTC-USD has 1m bars and weekly bars."""
    one, other = WATCHED.instruments
    watched: Watchlist = replace(
        WATCHED, instruments=(replace(one, timeframes=(H1,)), replace(other, timeframes=(M1, W1)))
    )
    assert watched.timeframes == (M1, H1, W1)
    exchange = market()
    refresh(database, watched, exchange, NOW)
    stored = rows_of(database, "SELECT DISTINCT symbol, timeframe FROM market.ohlc")
    assert set(stored) == {("AAPL", "5m"), ("AAPL", "1h"), ("BTC-USD", "1m"), ("BTC-USD", "1d"), ("BTC-USD", "1w")}
    computed = rows_of(database, "SELECT DISTINCT symbol, timeframe FROM market.ema_signals")
    assert set(computed) == {("AAPL", "1h"), ("BTC-USD", "1m"), ("BTC-USD", "1w")}
    assert {(each.instrument.symbol, each.timeframe) for each in exchange.asked} == {
        ("AAPL", M5), ("BTC-USD", M1), ("BTC-USD", D1)
    }  # fmt: skip
    with database.transaction() as transaction:
        assert stale_for_sweep(transaction, NOW, timedelta(0)).filter(pl.col("reason") != "not recorded").is_empty()
        later = stale_for_sweep(transaction, NOW + timedelta(minutes=1), timedelta(0))
    # Only series with a bar that closed within this minute are stale.
    asked = later.filter(pl.col("reason") == "bar closed").select("symbol", "timeframe").rows()
    assert asked == [("BTC-USD", "1m")]
    assert state_of(database, "AAPL", M5)["last_ts"] == utc("2026-11-20 20:55")
    shown = rows_of(database, "SELECT symbol, timeframe FROM results.screener ORDER BY 1, 2")
    assert shown == [("AAPL", "1h"), ("BTC-USD", "1m"), ("BTC-USD", "1w")]
