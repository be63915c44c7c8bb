"""Open trades in the orders that traders need: nearest to the stop, best or worst first. Writes nothing."""

from collections.abc import Mapping, Sequence

import polars as pl

from ema_assets.store import trade_lists
from ema_assets.store.database import Transaction

BY_STOP = "stop"
# The orders of trades, and what each puts first.
SORTS: Mapping[str, str] = {
    BY_STOP: "nearest to the stop first",
    "return": "largest gain first",
    "loss": "largest loss first",
    "since": "newest entry first",
    "symbol": "by symbol",
}

_ORDERS: Mapping[str, tuple[pl.Expr, bool]] = {
    BY_STOP: (pl.col("stop_distance_pct").abs(), False),
    "return": (pl.col("return_pct"), True),
    "loss": (pl.col("return_pct"), False),
    "since": (pl.col("entry_ts"), True),
    "symbol": (pl.col("symbol"), False),
}


def open_trades(
    transaction: Transaction,
    strategies: Sequence[str],
    timeframes: Sequence[str],
    symbols: Sequence[str] | None,
    sort: str = "stop",
) -> pl.DataFrame:
    """Return the open trades, sorted by one of SORTS; columns as in `trade_lists.open_trades`."""
    by, is_descending = _ORDERS[sort]
    rows = trade_lists.open_trades(transaction, strategies, timeframes, symbols)
    return (
        rows.with_columns(_by=by)
        .sort(
            "_by", "symbol", "timeframe", "strategy", descending=[is_descending, False, False, False], nulls_last=True
        )
        .drop("_by")
    )
