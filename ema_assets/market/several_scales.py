"""Finds files that differ from the stored bars by one factor up to a split, and by another one before it. No I/O.

Such a file has prices as they traded, over several splits, or the stored bars have.
"""

import math

import polars as pl

from ema_assets.market.corporate_actions import CONFIRMING_BARS, CONFIRMING_SHARE, price_rounding, rescaled
from ema_assets.model.schemas import UTC_TIME

# A smaller factor may come from dividends, or from another vendor's closes.
_LEAST_FACTOR = math.log(1.02)

PARTS_SCHEMA = pl.Schema({"symbol": pl.String(), "ts": UTC_TIME, "part": pl.Int64()})


def parts(stored: pl.DataFrame, served: pl.DataFrame) -> pl.DataFrame:
    """Return the bars of each part in which all bars differ by one factor, for series with two such parts or more.

    Parts follow each other in time, and all bars but a few are in one or are equal.

    Args:
        stored: symbol, ts, close of the stored bars. Series with a close of zero or less are left out.
        served: symbol, ts, close of the file.

    Returns:
        symbol, ts, part (0 for the newest one): PARTS_SCHEMA.
    """
    both = (
        stored.select("symbol", "ts", before="close")
        .join(served.select("symbol", "ts", now="close"), on=["symbol", "ts"], how="inner")
        .filter(
            (pl.col("before") != pl.col("now")).any().over("symbol"),
            (pl.min_horizontal("before", "now").min() > 0).over("symbol"),
        )
        .sort("symbol", "ts", descending=[False, True])
    )
    if both.is_empty():
        return PARTS_SCHEMA.to_frame()
    bars = both.with_columns(
        level=(pl.col("before") / pl.col("now")).log(),
        rounding=price_rounding("before", "now"),
        compared=pl.len().over("symbol"),
    )
    for _ in range(2):
        # A correction cuts a part in two. Without it, both have the same level again.
        bars = bars.with_columns(run=_is_new_level().cum_sum().over("symbol"))
        run = ["symbol", "run"]
        bars = bars.with_columns(level=pl.col("level").median().over(run)).filter(pl.len().over(run) >= CONFIRMING_BARS)
    is_equal = pl.col("level").abs() <= pl.col("rounding")
    is_scaled = pl.col("level").abs() > pl.max_horizontal(pl.lit(_LEAST_FACTOR), 2 * pl.col("rounding"))
    scaled = bars.filter(
        (pl.len() >= CONFIRMING_SHARE * pl.col("compared").first()).over("symbol"),
        (is_equal | is_scaled).all().over("symbol"),
    ).filter(is_scaled)
    return (
        scaled.with_columns(part=pl.col("run").rank("dense").over("symbol") - 1)
        .filter((pl.col("part").max() > 0).over("symbol"))
        .select("symbol", "ts", pl.col("part").cast(pl.Int64))
        .match_to_schema(PARTS_SCHEMA)
    )


def _is_new_level() -> pl.Expr:
    """Return whether a bar differs by another factor than the one before it; bars are in the order of their symbol."""
    step = (pl.col("level") - pl.col("level").shift(1)).abs()
    return (step > 2 * (pl.col("rounding") + pl.col("rounding").shift(1))).fill_null(False).over("symbol")


def converted(bars: pl.DataFrame, scales: pl.DataFrame) -> pl.DataFrame:
    """Return `bars` converted as by `rescaled`, where `scales` may have several rows per symbol: all of them count."""
    while not scales.is_empty():
        first = scales.unique("symbol", keep="first", maintain_order=True)
        bars, scales = rescaled(bars, first), scales.join(first, on=["symbol", "last_ts"], how="anti")
    return bars
