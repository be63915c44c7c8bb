"""EMA columns to trend, crossovers and spread. No I/O."""

import polars as pl

from ema_assets.domain.ema import FAST, SLOW

UP, DOWN = "up", "down"
BULLISH, BEARISH = "bullish", "bearish"

CODE_VERSION = "1"


def ema_trend(signals: pl.DataFrame, carried: pl.DataFrame) -> pl.DataFrame:
    """The trend at each bar, for all symbols at once.

    `trend` is `up` when ema_9 > ema_30 and `down` when it is below; when they are equal the previous trend goes on;
    null until both EMAs exist. `crossover` is `bullish` or `bearish` on the bar where the trend flips, else null: the
    first trend of a series is not a flip. `spread_pct` is (ema_9 - ema_30) / ema_30 · 100. `bars_since_cross` is 0 on
    a crossover and counts up from it; null before the first.

    Args:
        signals: symbol, ts, ema_9, ema_30, bar_number; sorted by symbol and ts.
        carried: symbol, trend, bars_since_cross of the row just before; absent symbols start from nothing.

    Returns:
        symbol, ts, trend, crossover, spread_pct, bars_since_cross, bar_number, in the same order.
    """
    before = carried.select("symbol", _trend="trend", _since="bars_since_cross")
    spread = pl.col(FAST) - pl.col(SLOW)
    trend = pl.coalesce(
        pl.when(spread > 0).then(pl.lit(UP)).when(spread < 0).then(pl.lit(DOWN)).forward_fill().over("symbol"),
        "_trend",
    )
    previous = pl.coalesce(pl.col("trend").shift(1).over("symbol"), "_trend")
    flipped = (pl.col("trend") != previous).fill_null(False)
    position = pl.int_range(pl.len(), dtype=pl.Int64).over("symbol")
    last_flip = pl.when(pl.col("crossover").is_not_null()).then(position).forward_fill().over("symbol")
    return (
        signals.join(before, on="symbol", how="left", maintain_order="left")
        .with_columns(trend.alias("trend"), (spread / pl.col(SLOW) * 100).alias("spread_pct"))
        .with_columns(
            pl.when(flipped & (pl.col("trend") == UP))
            .then(pl.lit(BULLISH))
            .when(flipped)
            .then(pl.lit(BEARISH))
            .alias("crossover")
        )
        .with_columns(pl.coalesce(position - last_flip, pl.col("_since") + position + 1).alias("bars_since_cross"))
        .select("symbol", "ts", "trend", "crossover", "spread_pct", "bars_since_cross", "bar_number")
    )
