"""Keeps stored values that a file does not contain: volumes, and the open, high and low next to a close."""

import polars as pl

from ema_assets.market.corporate_actions import rescaled
from ema_assets.model.schemas import PRICES
from ema_assets.refresh.answers import Extent, Storing, spans_of
from ema_assets.store import tables

_BESIDE_CLOSE = tuple(name for name in PRICES if name != "close")


def completed(storing: Storing, bars: pl.DataFrame, scales: pl.DataFrame) -> pl.DataFrame:
    """Return the `bars` of a file with the values that the file lacks, taken from the stored bars of the same times.

    The file lacks the volumes of a series if all of them are null. It has only closes of a series if all other prices
    equal the close. Then the stored prices are kept where the stored close is the same.

    Args:
        bars: BAR_SCHEMA and ts_end, as they are about to be stored; returned with the same columns.
        scales: COMPARED_SCHEMA, by which the stored bars are brought to the scale of `bars`.
    """
    if storing.answer.extent is not Extent.FILE or bars.is_empty():
        return bars
    has_closes_only = pl.all_horizontal(pl.col(name) == pl.col("close") for name in _BESIDE_CLOSE).all()
    lacking = (
        bars.group_by("symbol")
        .agg(has_no_volume=pl.col("volume").is_null().all(), has_closes_only=has_closes_only)
        .filter(pl.col("has_no_volume") | pl.col("has_closes_only"))
    )
    known = storing.locked.filter(pl.col("last_ts").is_not_null())["symbol"]
    lacking = lacking.filter(pl.col("symbol").is_in(known.implode()))
    if lacking.is_empty():
        return bars
    spans = spans_of(bars.join(lacking, on="symbol", how="semi"))
    columns = ("symbol", "ts", *PRICES, "volume")
    stored = tables.bars_between(storing.transaction, storing.timeframe, spans)
    stored = rescaled(stored.select(columns), scales).select(
        "symbol", "ts", pl.col(*PRICES, "volume").name.prefix("old_")
    )
    joined = bars.join(lacking, on="symbol", how="left", maintain_order="left").join(
        stored, on=["symbol", "ts"], how="left", maintain_order="left"
    )
    # Scaled prices may differ in the last bit.
    is_same = (pl.col("old_close") / pl.col("close") - 1).abs() <= 1e-12
    keeps = (pl.col("has_closes_only") & is_same).fill_null(value=False)
    return joined.with_columns(
        *(pl.when(keeps).then(f"old_{name}").otherwise(name).alias(name) for name in PRICES),
        pl.when("has_no_volume").then("old_volume").otherwise("volume").alias("volume"),
    ).select(bars.columns)
