"""The bars that charts show, small or large: the newest ones, with both averages beside them."""

from collections.abc import Sequence

import polars as pl

from ema_assets.model.asset_names import EMA_SIGNALS
from ema_assets.model.timeframes import Timeframe
from ema_assets.signals.ema_signals import FAST, SLOW
from ema_assets.store import tables
from ema_assets.store.database import Transaction

_AVERAGES = tables.Table(EMA_SIGNALS, "ts")


def charted_bars(
    transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str], rows: int, *, has_averages: bool
) -> pl.DataFrame:
    """The newest `rows` bars of each symbol: symbol, ts, the values of a bar, `fast` (EMA 9), `slow` (EMA 30); sorted.

    Without averages, as where they are switched off, both are null.
    """
    bars = tables.newest_rows(transaction, tables.BARS, timeframe, symbols, tables.BARS.values, rows)
    if not has_averages:
        return bars.with_columns(fast=pl.lit(None, pl.Float64), slow=pl.lit(None, pl.Float64))
    averages = tables.newest_rows(transaction, _AVERAGES, timeframe, symbols, (FAST, SLOW), rows)
    return bars.join(
        averages.rename({FAST: "fast", SLOW: "slow"}), on=["symbol", "ts"], how="left", maintain_order="left"
    )
