"""Are bars of files on the scale of the shorter bars they stand in for? Told from the prices of both. No I/O."""

import math

import polars as pl

from ema_assets.model.timeframes import Timeframe

# Bars are on the new scale when they are nearer to it than to the old one, by far.
_WINDOW = 0.25
# Prices at other times tell of a change at least as large as this: they may have moved meanwhile.
_TELLING = math.log(1.5)


def on_old_scale(bars: pl.DataFrame, shorter: pl.DataFrame, timeframe: Timeframe, scales: pl.DataFrame) -> pl.DataFrame:
    """Those of `bars` that the change of `scales` is still to reach: of each span all or none, those up to last_ts.

    Bars that nothing is known about go with the shorter ones.

    Args:
        bars: symbol, span, ts, close, …: bars of files, `span` telling which of them hang together.
        shorter: symbol, ts, close of bars of the source of `timeframe`, up to last_ts on the old scale; sorted by both.
        timeframe: of `bars`, a rolled-up one.
        scales: COMPARED_SCHEMA, one row per symbol.

    Returns:
        Rows of `bars`.
    """
    known = scales.select("symbol", "last_ts", step=-pl.col("ratio").log())
    within, near = (
        frame.join(known, on="symbol").filter(pl.col("ts") <= pl.col("last_ts")) for frame in (bars, shorter)
    )
    # The two close together where the shorter bar is the last one within the other.
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
