"""A timeframe that is added to a database with bars, and one that is taken away."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta

import pytest

from ema_assets.model import timeframes
from ema_assets.model.asset_names import CHAIN
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.refresh.plan import stale_for_sweep
from ema_assets.reports import health, status
from ema_assets.reports.loading import loading
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate
from ema_assets_tests.conftest import Databases
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, rows_of, tables_of, utc, watch

FOUR_HOURS = by_key("4h")
WATCHED = watch({"AAPL": "XNYS", "BTC-USD": "24/7"})
NOW = utc("2026-11-20 21:00")
LATER = NOW + timedelta(hours=4)


@contextmanager
def without_four_hours() -> Iterator[tuple[Timeframe, ...]]:
    """Configures every timeframe but `4h`; yields them."""
    left = tuple(each for each in timeframes.ORDER if each is not FOUR_HOURS)
    lists = {
        "ORDER": (timeframes.ORDER, left),
        "ROLLED_UP": (timeframes.ROLLED_UP, tuple(each for each in left if not each.is_fetched)),
        "KEYS": (timeframes.KEYS, tuple(each.key for each in left)),
    }
    with pytest.MonkeyPatch.context() as patches:
        # Modules have taken the lists over by name.
        for module in [module for name, module in sys.modules.items() if name.startswith("ema_assets.")]:
            for name, (whole, shorter) in lists.items():
                if getattr(module, name, None) is whole:
                    patches.setattr(module, name, shorter)
        yield left


def market() -> MemoryExchange:
    five = by_key("5m")
    return MemoryExchange(
        *(
            bars_on(calendar, symbol, timeframe, first, date(2026, 11, 21), seed)
            for seed, (symbol, calendar) in enumerate({"AAPL": "XNYS", "BTC-USD": "24/7"}.items())
            for timeframe, first in ((five, date(2026, 11, 9)), (by_key("1d"), date(2026, 9, 25)))
        )
    )


def keys(database: Database, table: str) -> set[object]:
    return {key for (key,) in rows_of(database, f"SELECT DISTINCT timeframe FROM market.{table}")}


def test_a_timeframe_added_to_a_database_with_bars_is_computed_from_them(databases: Databases) -> None:
    exchange = market()
    grown, whole = databases.make(migrated=False), databases.make(migrated=False)
    with Database(grown) as database, Database(whole) as expected:
        with without_four_hours() as left:
            migrate(grown)
            refresh(database, WATCHED, exchange, NOW, timeframes=left)
            assert rows_of(database, "SELECT to_regclass('market.ohlc_4h')::text") == [(None,)]
            assert FOUR_HOURS.key not in keys(database, "series_state")
        asked = len(exchange.asked)
        refresh(database, WATCHED, exchange, NOW)
        # No provider is asked for what is rolled up.
        assert len(exchange.asked) == asked
        migrate(whole)
        refresh(expected, WATCHED, exchange, NOW)
        found, wanted = tables_of(database), tables_of(expected)
        for asset in CHAIN:
            assert found[asset].equals(wanted[asset]), asset
        assert found["ohlc"].filter(timeframe=FOUR_HOURS.key).height > 20
    for url in (grown, whole):
        databases.drop(url)


def test_a_timeframe_that_is_gone_keeps_its_rows_and_wants_no_work(database: Database) -> None:
    exchange = market()
    refresh(database, WATCHED, exchange, NOW)
    # Dirty, failing and waiting: all that makes a series want work.
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
    with without_four_hours() as left:
        refresh(database, WATCHED, exchange, LATER, timeframes=left)
        with database.transaction() as transaction:
            assert FOUR_HOURS.key not in set(stale_for_sweep(transaction, LATER, timedelta(0))["timeframe"])
            assert health.failing(transaction).is_empty()
            assert health.waiting_since(transaction, LATER).is_empty()
            assert health.open_gaps(transaction).is_empty()
            assert {each.timeframe for each in status.by_asset(transaction, LATER)} == {each.key for each in left}
            assert list(loading(transaction, LATER).series) == list(left)
    assert len(kept) > 20
    assert rows_of(database, "SELECT * FROM market.ema_trend WHERE timeframe = '4h' ORDER BY symbol, ts") == kept
    with database.transaction() as transaction:
        assert FOUR_HOURS.key in set(stale_for_sweep(transaction, LATER, timedelta(0))["timeframe"])
