"""A split of a fetched series also rescales file bars that take the place of bars rolled up from it."""

from datetime import date, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ema_assets.model.asset_names import OHLC
from ema_assets.operations.ingest import store_file
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store.database import Database
from ema_assets_tests.conftest import empty, mostly_broad
from ema_assets_tests.refresh.exchange import (
    MemoryExchange,
    bars_on,
    by_clock,
    moved,
    refresh,
    rows_of,
    tables_of,
    utc,
    watch,
)
from ema_assets_tests.timeframes import H1, M5

WATCHED = watch({"GE": "XNYS", "MSFT": "XNYS"}, m5_days=30, timeframes=[M5, H1])
EVENING, EX_DATE = utc("2026-11-24 21:00"), utc("2026-11-25 14:30")
FIRST, LAST = date(2026, 11, 9), date(2026, 11, 25)
TODAY = pl.concat([bars_on("XNYS", symbol, M5, FIRST, LAST, seed) for symbol, seed in (("GE", 1), ("MSFT", 2))])


def as_traded(bars: pl.DataFrame, ratio: float) -> pl.DataFrame:
    """`bars` as a vendor serves them before a split of GE."""
    old = (pl.col("symbol") == "GE") & (pl.col("ts") < EX_DATE)
    before = moved(bars, ratio).with_columns(pl.col("volume") / ratio)
    return bars.with_columns(pl.when(old).then(before[name]).otherwise(name).alias(name) for name in before.columns[3:])


@pytest.mark.parametrize("ratio", mostly_broad([7.0, 0.1]))
@pytest.mark.parametrize(
    "days",
    [
        pytest.param(("2026-11-16", "2026-11-18"), id="among"),
        pytest.param(("2026-11-09", "2026-11-11"), id="before", marks=pytest.mark.broad),
    ],
)
def test_file_bars_of_a_rolled_up_timeframe_follow_a_split_of_the_fetched_series(
    database: Database, ratio: float, days: tuple[str, str]
) -> None:
    # With "before", the file ends before everything that the vendor serves.
    served = TODAY.filter(pl.col("ts") >= utc("2026-11-12 00:00"))
    file = pl.concat([by_clock(TODAY.filter(symbol=symbol), *days) for symbol in ("GE", "MSFT")])
    sync(database, WATCHED, EVENING)
    exchange = MemoryExchange(as_traded(served, ratio))
    refresh(database, WATCHED, exchange, EVENING, timeframes=[M5, H1])
    store_file(database, as_traded(file, ratio), "hours.csv", EVENING)
    refresh(database, WATCHED, exchange, EVENING, timeframes=[M5, H1])
    exchange.bars = served
    noon = EX_DATE + timedelta(hours=2)
    outcomes = refresh(database, WATCHED, exchange, noon, timeframes=[M5, H1])
    assert outcomes[OHLC, M5].refetched == 1
    found = tables_of(database)
    told = "SELECT DISTINCT symbol, timeframe FROM market.bar_revision WHERE kind = 'split' ORDER BY 2"
    assert rows_of(database, told) == [("GE", "1h"), ("GE", "5m")]
    # The original values of the file are kept.
    kept = "SELECT ts, close FROM market.bar_correction WHERE timeframe = '1h' AND ts = ANY ($1) ORDER BY ts"
    said = as_traded(file, ratio).filter(symbol="GE").select("ts", "close")
    assert rows_of(database, kept, said["ts"]) == said.rows()

    empty(database)
    sync(database, WATCHED, EVENING)
    refresh(database, WATCHED, exchange, noon, timeframes=[M5, H1])
    store_file(database, file, "hours.csv", noon)
    refresh(database, WATCHED, exchange, noon, timeframes=[M5, H1])
    for asset, rows in tables_of(database).items():
        assert_frame_equal(found[asset], rows, rel_tol=1e-9)
