"""However history comes in, the tables end up as if it had all been there from the start."""

from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.pipeline.ingest import store_bars
from ema_assets.pipeline.planning import closed_bars
from ema_assets.store import ledger
from ema_assets.store.database import Database
from ema_assets.timeframes import FETCHED, Timeframe
from ema_assets_tests.conftest import empty
from ema_assets_tests.pipeline.exchange import MemoryExchange, bars_on, moved, refresh, tables_of, utc, watch

# A half day after a holiday, a lunch break, and a market that never closes.
CALENDARS = {"AAPL": "XNYS", "MSFT": "XNYS", "0700.HK": "XHKG", "BTC-USD": "24/7"}
FIRST, LAST = date(2026, 11, 20), date(2026, 11, 28)
FIRST_DAILY = date(2026, 9, 1)
WATCHED = watch(CALENDARS)
BEGIN, END = utc("2026-11-20 00:00"), utc("2026-11-28 12:00")


def history(seed: int, missing: float) -> pl.DataFrame:
    """5m bars of nine days and daily bars of three months for every symbol."""
    return pl.concat(
        bars_on(calendar, symbol, timeframe, first, LAST, seed + number, missing)
        for number, (symbol, calendar) in enumerate(CALENDARS.items())
        for timeframe, first in ((Timeframe.M5, FIRST), (Timeframe.D1, FIRST_DAILY))
    )


def some_of(bars: pl.DataFrame, seed: int, share: float) -> pl.DataFrame:
    return bars.filter(pl.Series(np.random.default_rng(seed).random(bars.height) < share, dtype=pl.Boolean))


def stored_keys(database: Database) -> pl.DataFrame:
    return tables_of(database)["ohlc"].select("symbol", "timeframe", "ts")


def stale_at(database: Database, now: datetime) -> pl.DataFrame:
    with database.transaction() as transaction:
        return ledger.stale(transaction, closed_bars(transaction, now), now)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_any_order_of_increments_corrections_and_late_bars_ends_as_one_computation(
    module_database: Database, data: st.DataObject
) -> None:
    """Bars arrive in increments; some are published late, some are corrected afterwards, near the end or far back.

    Corrections within the overlap come by the provider, all others by file, which goes the same way into the tables.
    """
    seeds = st.integers(0, 2**31)
    truth = history(data.draw(seeds, "history"), data.draw(st.sampled_from([0.0, 0.05, 0.5]), "missing"))
    late = some_of(truth, data.draw(seeds, "late"), data.draw(st.sampled_from([0.0, 0.02, 0.3]), "share of late bars"))
    exchange = MemoryExchange(truth.join(late, on=["symbol", "timeframe", "ts"], how="anti"))
    minutes = int((END - BEGIN).total_seconds()) // 60
    moments = sorted({*data.draw(st.lists(st.integers(1, minutes), min_size=1, max_size=4), "minutes"), minutes})

    empty(module_database)
    for moment in moments:
        now = BEGIN + timedelta(minutes=moment)
        refresh(module_database, WATCHED, exchange, now)
        if data.draw(st.booleans(), "corrected"):
            wrong = some_of(exchange.bars, data.draw(seeds), data.draw(st.sampled_from([0.001, 0.05])))
            exchange.correct(moved(wrong, data.draw(st.sampled_from([2.0, 1.001, 0.5]), "factor")))
        if data.draw(st.booleans(), "late bars come"):
            exchange.correct(some_of(late, data.draw(seeds), 0.5))
        if data.draw(st.booleans(), "refreshed between"):
            refresh(module_database, WATCHED, exchange, now)
        # By now the store lags behind in what the provider is no longer asked for.
        known = exchange.bars.filter(pl.col("ts") < now)
        store_bars(module_database, known.sample(fraction=1.0, shuffle=True, seed=1), "a file", now)
        if data.draw(st.booleans(), "refreshed after"):
            refresh(module_database, WATCHED, exchange, now)
    refresh(module_database, WATCHED, exchange, END)
    assert stale_at(module_database, END).is_empty()
    found = tables_of(module_database)

    empty(module_database)
    refresh(module_database, WATCHED, exchange, END)
    expected = tables_of(module_database)
    for asset, rows in expected.items():
        # Not only to 1e-9: carried state is the very number that a whole computation holds at that bar.
        assert_frame_equal(found[asset], rows, check_exact=True, obj=asset) if False else assert_frame_equal(
            found[asset], rows, check_exact=True
        )
    assert expected["ohlc"].filter(pl.col("timeframe") == "4h").height > 30
    assert FETCHED == (Timeframe.M5, Timeframe.D1)
