"""Results out of the store, as they are or as they stood at some moment."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from ema_assets.domain.strategy import trades_9_30
from ema_assets.lineage import EMA_SIGNALS, EMA_TREND, OHLC, STRATEGY
from ema_assets.signals.ema_signals import FAST, SLOW, ema_signals
from ema_assets.signals.ema_trend import ema_trend
from ema_assets.store import tables
from ema_assets.store.database import Transaction
from ema_assets.timeframes import Timeframe

_TABLES = {OHLC: tables.BARS, EMA_SIGNALS: tables.SIGNALS, EMA_TREND: tables.TREND, STRATEGY: tables.TRADES}


def rows_of(
    transaction: Transaction,
    asset: str,
    timeframe: Timeframe,
    symbols: Sequence[str] | None,
    start: datetime | None,
    end: datetime | None,
) -> pl.DataFrame:
    """The stored rows of `asset` from `start` to before `end` (None: all), sorted by symbol and time.

    Columns: symbol, the time column of the table's key, its values.
    """
    return tables.read_range(transaction, _TABLES[asset], timeframe, symbols, start, end)


def rows_as_of(
    transaction: Transaction,
    asset: str,
    timeframe: Timeframe,
    symbols: Sequence[str] | None,
    moment: datetime,
    seed: str,
) -> pl.DataFrame:
    """All rows of `asset` as they stood at `moment`, sorted by symbol and time; columns as `rows_of`.

    Bars are what was stored then, later corrections undone. Everything else is computed from them by the code of today:
    it is what the tables held once the bars known at `moment` had been computed, which takes seconds.
    """
    bars = tables.bars_as_of(transaction, timeframe, symbols, moment)
    if asset == OHLC:
        return bars
    nothing = bars.clear().select("symbol")
    signals = ema_signals(
        bars.select("symbol", "ts", "close"),
        nothing.with_columns(pl.lit(0.0).alias(FAST), pl.lit(0.0).alias(SLOW), bar_number=pl.lit(0, pl.Int64)),
        seed,
    )
    if asset == EMA_SIGNALS:
        return signals
    trend = ema_trend(signals, nothing.with_columns(trend=pl.lit("", pl.String), bars_since_cross=pl.lit(0, pl.Int64)))
    if asset == EMA_TREND:
        return trend
    closes = trend.join(bars.select("symbol", "ts", "close"), on=["symbol", "ts"], maintain_order="left")
    no_trade = bars.clear().select("symbol", entry_ts="ts", entry_price="close", entry_bar_number=pl.lit(0, pl.Int64))
    return trades_9_30(closes, no_trade)
