"""However history comes in, the tables end up as if it had all been there from the start."""

from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.pipeline.ingest import store_file
from ema_assets.pipeline.planning import closed_bars
from ema_assets.store import ledger
from ema_assets.store.database import Database
from ema_assets.timeframes import Timeframe
from ema_assets_tests.conftest import empty, heavy
from ema_assets_tests.pipeline.exchange import MemoryExchange, bars_on, moved, refresh, tables_of, utc, watch

# A half day after a holiday, a lunch break, and a market that never closes.
CALENDARS = {"AAPL": "XNYS", "MSFT": "XNYS", "0700.HK": "XHKG", "BTC-USD": "24/7"}
FIRST, LAST = date(2026, 11, 20), date(2026, 11, 28)
FIRST_DAILY = date(2026, 9, 1)
WATCHED = watch(CALENDARS)
BEGIN, END = utc("2026-11-20 00:00"), utc("2026-11-28 12:00")
SEEDS = st.integers(0, 2**31)


def history(seed: int, missing: float) -> pl.DataFrame:
    """5m bars of nine days and daily bars of three months for every symbol."""
    return pl.concat(
        bars_on(calendar, symbol, timeframe, first, LAST, seed + number, missing)
        for number, (symbol, calendar) in enumerate(CALENDARS.items())
        for timeframe, first in ((Timeframe.M5, FIRST), (Timeframe.D1, FIRST_DAILY))
    )


def some_of(bars: pl.DataFrame, seed: int, share: float) -> pl.DataFrame:
    return bars.filter(pl.Series(np.random.default_rng(seed).random(bars.height) < share, dtype=pl.Boolean))


def stale_at(database: Database, now: datetime) -> pl.DataFrame:
    with database.transaction() as transaction:
        return ledger.stale(transaction, closed_bars(transaction, now), now)


@heavy()
@given(st.data())
def test_any_order_of_increments_corrections_and_late_bars_ends_as_one_computation(
    module_database: Database, data: st.DataObject
) -> None:
    """Bars come in increments; some are published late, some are corrected afterwards, near the end or far back.

    What lies within a request's overlap comes by the provider. What is older comes by file: it goes the same way.
    """
    truth = history(data.draw(SEEDS, "history"), data.draw(st.sampled_from([0.0, 0.05, 0.5]), "missing"))
    late = some_of(truth, data.draw(SEEDS, "late"), data.draw(st.sampled_from([0.0, 0.02, 0.3]), "share of late bars"))
    exchange = MemoryExchange(truth.join(late, on=["symbol", "timeframe", "ts"], how="anti"))
    minutes = int((END - BEGIN).total_seconds()) // 60
    moments = sorted(data.draw(st.sets(st.integers(1, minutes), min_size=1, max_size=3), "minutes"))

    empty(module_database)
    for moment in moments:
        now = BEGIN + timedelta(minutes=moment)
        refresh(module_database, WATCHED, exchange, now)
        happens = data.draw(st.sampled_from(["nothing", "corrections", "late bars", "both"]), "what happens")
        if happens in ("corrections", "both"):
            wrong = some_of(exchange.bars, data.draw(SEEDS), data.draw(st.sampled_from([0.001, 0.05])))
            exchange.correct(moved(wrong, data.draw(st.sampled_from([2.0, 1.001, 0.5]), "factor")))
        if happens in ("late bars", "both"):
            exchange.correct(some_of(late, data.draw(SEEDS), 0.5))
        published = exchange.bars.filter(pl.col("ts") < now).sample(fraction=1.0, shuffle=True, seed=moment)
        store_file(module_database, published, "a file", now)
    refresh(module_database, WATCHED, exchange, END)
    assert stale_at(module_database, END).is_empty()
    found = tables_of(module_database)

    empty(module_database)
    refresh(module_database, WATCHED, exchange, END)
    for asset, rows in tables_of(module_database).items():
        # To the bit: what is carried over is the very number that one computation holds at that bar.
        assert_frame_equal(found[asset], rows, check_exact=True)
        assert rows["timeframe"].n_unique() == 6 or asset == "strategy_9_30_ema"


def test_a_split_that_halves_every_price_reaches_the_trades(database: Database) -> None:
    """Spread and trend stay the same to the bit when all prices are halved; entry and exit prices do not."""
    bars = history(3, 0.0)
    exchange = MemoryExchange(bars)
    refresh(database, WATCHED, exchange, END)
    before = tables_of(database)
    exchange.bars = moved(bars, 0.5)
    refresh(database, WATCHED, exchange, END)
    store_file(database, exchange.bars, "a file", END)
    refresh(database, WATCHED, exchange, END)
    after = tables_of(database)
    assert_frame_equal(after["ema_trend"], before["ema_trend"], check_exact=True)
    prices = ["entry_price", "exit_price", "last_price"]
    halved = before["strategy_9_30_ema"].with_columns(pl.col(prices) / 2)
    assert_frame_equal(after["strategy_9_30_ema"], halved, check_exact=True)
