"""A clock ran ahead and was set back: bars that were requested too early are requested again."""

from datetime import date, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ema_assets.refresh.plan import closed_bars
from ema_assets.store import ledger
from ema_assets.store.database import Database
from ema_assets_tests.conftest import Databases
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, state_of, tables_of, utc, watch
from ema_assets_tests.timeframes import D1, M5

WATCHED = watch({"AAPL": "XNYS", "BTC-USD": "24/7"}, m5_days=3, d1_days=10)
TRUE, AHEAD, LATER = utc("2026-11-18 15:02"), utc("2026-11-18 18:00"), utc("2026-11-18 15:32")


def exchange_at(now: str) -> MemoryExchange:
    """The bars that have closed at `now`."""
    days = date(2026, 11, 9), date(2026, 11, 18)
    frames = [
        bars_on(calendar, symbol, timeframe, *days, seed)
        for seed, (symbol, calendar) in enumerate({"AAPL": "XNYS", "BTC-USD": "24/7"}.items())
        for timeframe in (M5, D1)
    ]
    closed = pl.col("ts") + pl.when(pl.col("timeframe") == "5m").then(timedelta(minutes=5)).otherwise(timedelta(days=1))
    return MemoryExchange(*(frame.filter(closed <= utc(now)) for frame in frames))


def reasons(database: Database, now: str) -> set[tuple[str, str]]:
    with database.transaction() as transaction:
        stale = ledger.stale(transaction, closed_bars(transaction, utc(now), timeframes=[M5]), utc(now))
    return set(stale.filter(timeframe="5m", asset="ohlc").select("symbol", "reason").iter_rows())


@pytest.mark.broad
def test_bars_requested_too_early_by_a_clock_that_ran_ahead_are_requested_again(
    database: Database, databases: Databases
) -> None:
    refresh(database, WATCHED, exchange_at("2026-11-18 15:02"), TRUE)
    refresh(database, WATCHED, exchange_at("2026-11-18 15:12"), AHEAD)
    assert state_of(database, "AAPL", M5)["checked_through"] == utc("2026-11-18 18:00")
    # A difference within the slack is normal between hosts. A larger one means that the clock was wrong.
    assert reasons(database, "2026-11-18 17:59:30") == set()
    everyone = {("AAPL", "asked too early"), ("BTC-USD", "asked too early")}
    assert reasons(database, "2026-11-18 15:32") == everyone
    # The clock is right again, three hours before the next bar would be due by the wrong clock.
    refresh(database, WATCHED, exchange_at("2026-11-18 15:32"), LATER)
    assert reasons(database, "2026-11-18 15:32") == set()
    state = state_of(database, "AAPL", M5)
    assert (state["checked_through"], state["last_ts"]) == (utc("2026-11-18 15:30"), utc("2026-11-18 15:25"))
    refresh(database, WATCHED, exchange_at("2026-11-18 18:02"), utc("2026-11-18 18:02"))
    url = databases.make()
    with Database(url) as untouched:
        # The depth of history depends on the day of the first load.
        for now in ("2026-11-18 15:02", "2026-11-18 18:02"):
            refresh(untouched, WATCHED, exchange_at(now), utc(now))
        expected = tables_of(untouched)
    for asset, rows in tables_of(database).items():
        assert_frame_equal(rows, expected[asset])
    databases.drop(url)


@pytest.mark.broad
def test_a_symbol_with_an_empty_answer_from_a_clock_ahead_is_loaded_as_a_new_symbol(database: Database) -> None:
    nothing = MemoryExchange()
    refresh(database, WATCHED, nothing, AHEAD)
    assert state_of(database, "BTC-USD", M5)["checked_through"] == AHEAD
    refresh(database, WATCHED, exchange_at("2026-11-18 15:02"), TRUE)
    assert state_of(database, "BTC-USD", M5)["checked_through"] == utc("2026-11-18 15:00")
    assert state_of(database, "BTC-USD", M5)["first_ts"] < utc("2026-11-16 00:00")
