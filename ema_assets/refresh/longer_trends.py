"""Alerts about trades whose entry depends on the trend of a longer timeframe. Imported only if alerts are configured.

Where a bar of 5m closes together with one of 1h, the bar of 5m is computed first, with the trend of an hour ago, and
once more when the trend is there. An alert about a trade that begins in between would come too early: the trade may be
gone some seconds later, or may only begin then. So it waits for the trend.
"""

from datetime import datetime, timedelta

import polars as pl

from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.graph import Node
from ema_assets.refresh.plan import MARKET, closed_bars
from ema_assets.store import alert_outbox
from ema_assets.store.database import Transaction
from ema_assets.strategies.trade_columns import ENTRY_TIME

# After that, alerts come without the trend: the longer timeframe is late or fails.
PATIENCE = timedelta(minutes=10)


def decided(
    transaction: Transaction, node: Node, timeframe: Timeframe, known: pl.DataFrame, rows: pl.DataFrame, now: datetime
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return `known` and `rows`, as `raise_alerts` takes them, for alerts about trades whose entry is certain.

    Trades that begin in bars whose longer trend is on its way are left out. Where it has just come, or is later than
    PATIENCE, the bars that waited for it count as computed for the first time.
    """
    longer = None if node.variant is None else node.variant.longer_trend(timeframe)
    if longer is None or not _has_young(known, rows):
        return known, rows
    trend, higher = longer
    columns = known.columns
    closed = closed_bars(transaction, now, timeframes=[higher]).select(*MARKET, "ts", "ts_end")
    trends = alert_outbox.longer_trends(transaction, trend, higher, known["symbol"])
    trends = trends.join(closed, on=list(MARKET), how="left", nulls_equal=True)
    # What is fetched is not dirty before it is there.
    is_due = pl.col("is_due") | (pl.lit(higher.is_fetched) & (pl.col("checked_through") < pl.col("ts_end")))
    is_coming = is_due & (pl.col("newest_trend") < pl.col("ts"))
    is_in_time = pl.col("ts_end") + pl.duration(seconds="delay_seconds") + PATIENCE >= now
    late = trends.filter(is_coming & is_in_time).select("symbol", late="ts_end")
    # The trend of `from_ts` is what is new. The bars before its close have not waited.
    known = known.join(trends, on="symbol", how="left", maintain_order="left")
    has_come = (pl.col("newest_trend") == pl.col("ts")) & (pl.col("from_ts") == pl.col("ts"))
    before = pl.col("ts_end") - pl.lit(timeframe.duration) - pl.duration(microseconds=1)
    waits = (pl.col(ENTRY_TIME) + pl.lit(timeframe.duration) >= pl.col("late")).fill_null(value=False)
    return (
        known.with_columns(
            pl.when(has_come | (is_coming & ~is_in_time))
            .then(pl.min_horizontal("known_through", before))
            .otherwise("known_through")
        ).select(columns),
        rows.join(late, on="symbol", how="left", maintain_order="left").filter(~waits).drop("late"),
    )


def _has_young(known: pl.DataFrame, rows: pl.DataFrame) -> bool:
    """Return whether a trade of `rows` was entered in a bar that was computed now, or may have waited."""
    begins = rows.select("symbol", ENTRY_TIME).join(known.select("symbol", "from_ts"), on="symbol")
    return not begins.filter(pl.col(ENTRY_TIME) >= pl.col("from_ts") - 2 * PATIENCE).is_empty()
