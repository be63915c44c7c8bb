"""Decides from prices whether bars of files are on the scale of the shorter bars that they stand in for. No I/O."""

import math

import polars as pl

from ema_assets.model.timeframes import Timeframe

# Bars are on the new scale if they differ from it by at most this share of the logarithm of the change.
_WINDOW = 0.25
# Prices at different times can only show a change of at least this size, because they may have moved in between.
_TELLING = math.log(1.5)


def on_old_scale(bars: pl.DataFrame, shorter: pl.DataFrame, timeframe: Timeframe, scales: pl.DataFrame) -> pl.DataFrame:
    """Return the `bars` up to last_ts that are still to be converted by `scales`: all or none of each span.

    Bars about which nothing is known are treated like the shorter ones, and returned.

    Args:
        bars: symbol, span, ts, close, …: bars of files; bars with the same `span` belong together.
        shorter: symbol, ts, close of bars of the source of `timeframe`, on the old scale up to last_ts; sorted by both.
        timeframe: the timeframe of `bars`, a rolled-up one.
        scales: COMPARED_SCHEMA, one row per symbol.

    Returns:
        Rows of `bars`.
    """
    known = scales.select("symbol", "last_ts", step=-pl.col("ratio").log())
    within, near = (
        frame.join(known, on="symbol").filter(pl.col("ts") <= pl.col("last_ts")) for frame in (bars, shorter)
    )
    # The longer bar and the last shorter bar within it close at the same time.
    closing = pl.lit(timeframe.duration - timeframe.source.duration)
    nearest = (
        within.with_columns(at=pl.col("ts") + closing)
        .sort("symbol", "at")
        .join_asof(
            near.select("symbol", at="ts", near="ts", near_close="close"),
            on="at",
            by="symbol",
            strategy="nearest",
            check_sortedness=False,
        )
        .with_columns(apart=(pl.col("at") - pl.col("near")).abs())
    )
    told = (
        nearest.filter(pl.col("apart") == pl.col("apart").min().over("symbol", "span"))
        .group_by("symbol", "span")
        .agg(pl.col("apart", "step").first(), factor=(pl.col("close") / pl.col("near_close")).log().median())
    )
    is_near = (pl.col("factor") - pl.col("step")).abs() <= _WINDOW * pl.col("step").abs()
    is_telling = (pl.col("apart") == pl.duration()) | (pl.col("step").abs() >= _TELLING)
    is_new = told.filter(is_near & is_telling)
    return within.join(is_new, on=["symbol", "span"], how="anti").select(bars.columns)
