"""What a trader asks of all symbols at once: filtered, sorted, from the view `results.screener`."""

from collections.abc import Mapping, Sequence

import polars as pl

from ema_assets.model.timeframes import Timeframe
from ema_assets.store import results
from ema_assets.store.database import Transaction

# What may be sorted by: the column, and whether its largest values come first.
SORTS: Mapping[str, tuple[str, bool]] = {
    "alignment": ("alignment", True),
    "atr": ("atr_pct", True),
    # About to cross: the smallest move of the price comes first.
    "cross": ("to_cross", False),
    "return": ("trade_return_pct", True),
    "rsi": ("rsi", True),
    "since": ("bars_since_cross", False),
    "spread": ("spread_pct", True),
    "stop": ("to_stop", False),
    "symbol": ("symbol", False),
}


def screen(  # noqa: PLR0913 - what one may ask, all by name
    transaction: Transaction,
    timeframe: Timeframe,
    *,
    symbols: Sequence[str] | None = None,
    trend: str | None = None,
    crossed_within: int | None = None,
    sort: str = "spread",
    reverse: bool = False,
    limit: int | None = None,
    strategy: str | None = None,
) -> pl.DataFrame:
    """Rows of the screener on `timeframe`, one a symbol; columns as in the view.

    `crossed_within` keeps those whose trend flipped at most so many bars ago. `sort` is one of SORTS; what has no value
    there comes last, and equal ones are in the order of symbols. Trades are those of `strategy` where it is given.
    """
    rows = results.select(transaction, "screener", timeframe.key, symbols)
    if strategy is not None:
        trades = results.open_trades(transaction, strategy, timeframe.key, symbols)
        rows = (
            rows.drop(*trades.columns[1:])
            .join(trades, on="symbol", how="left")
            .with_columns(stop_distance_pct=(pl.col("close") / pl.col("stop_price") - 1) * 100)
            .select(rows.columns)
        )
    if trend is not None:
        rows = rows.filter(pl.col("trend") == trend)
    if crossed_within is not None:
        rows = rows.filter(pl.col("bars_since_cross") <= crossed_within)
    column, largest_first = SORTS[sort]
    rows = rows.with_columns(
        to_cross=pl.col("cross_distance_pct").abs(), to_stop=pl.col("stop_distance_pct").abs()
    ).sort(column, "symbol", descending=[largest_first != reverse, False], nulls_last=True)
    rows = rows.drop("to_cross", "to_stop")
    return rows if limit is None else rows.head(limit)


def trends(row: Mapping[str, object], timeframes: Sequence[Timeframe]) -> str:
    """The trend on each of `timeframes`: one arrow each, a dot where there is none."""
    return "".join({"up": "↑", "down": "↓"}.get(str(row.get(f"trend_{each.sql_name}")), "·") for each in timeframes)
