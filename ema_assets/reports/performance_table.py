"""The performance of a strategy on each series, sorted as traders request it. Writes nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from ema_assets.store import results
from ema_assets.store.database import Transaction
from ema_assets.strategies import figures

# The orders of the table: the column, and whether its largest values come first.
SORTS: Mapping[str, tuple[str, bool]] = {
    "return": ("total_return_pct", True),
    "worst": ("total_return_pct", False),
    "sharpe": ("sharpe", True),
    "drawdown": ("max_drawdown_pct", False),
    "profit_factor": ("profit_factor", True),
    "win_rate": ("win_rate_pct", True),
    "trades": ("trades", True),
    "symbol": ("symbol", False),
}

_COLUMNS = (
    *("symbol", "timeframe", "trades", "open_trades", "win_rate_pct", "profit_factor", "expectancy_pct"),
    *("total_return_pct", "annualized_return_pct", "buy_and_hold_pct", "max_drawdown_pct", "sharpe", "sortino"),
    *("exposure_pct", "costs_pct", "best_trade_pct", "worst_trade_pct", "average_bars_held", "first_ts", "last_ts"),
    "remark",
)


def performance(
    transaction: Transaction, strategy: str, timeframe: str, symbols: Sequence[str] | None, sort: str = "return"
) -> pl.DataFrame:
    """Return one row per series of `strategy` on `timeframe`, sorted by one of SORTS.

    Columns are those of `results.performance` and `has_no_loss`: no trade has lost, so the profit factor is unbounded.
    It is null then, and counts as the greatest of all when rows are sorted by it. Rows without a value come last.
    """
    column, is_descending = SORTS[sort]
    rows = results.select(transaction, "performance", timeframe, symbols, strategy)
    rows = rows.select(*_COLUMNS, has_no_loss=figures.has_no_bound("profit_factor"))
    return rows.sort(figures.ranked_by(column), "symbol", descending=[is_descending, False], nulls_last=True)


def refreshed_at(transaction: Transaction) -> datetime | None:
    """Return when performance was last refreshed, by the machine's clock; None before the first time."""
    moment: datetime | None = results.performance_age(transaction, ())["refreshed_at"]
    return moment
