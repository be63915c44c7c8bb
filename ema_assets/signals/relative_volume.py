"""Signal `relative_volume`: volume as a multiple of its recent mean. No I/O."""

import numpy as np
import polars as pl

from ema_assets.signals.declaration import Column, Param, Params, Signal
from ema_assets.signals.windows import is_full, sum_before


def relative_volume(bars: pl.DataFrame, _: pl.DataFrame, params: Params) -> pl.DataFrame:
    """Compute volume divided by the mean volume of the `span` bars before.

    Bars whose volume is unknown are left out of the mean. It is null when there are fewer bars before, or when nothing
    traded in them.
    """
    span, volume = params["span"], bars["volume"]
    known = span
    if volume.null_count():
        known = np.maximum(sum_before(volume.is_not_null().cast(pl.Float64).to_numpy(), span), 1.0)
    usual = pl.Series(sum_before(volume.fill_null(0.0).to_numpy(), span) / known)
    return (
        bars.select("symbol", "ts", "volume", _usual=pl.when(is_full(span + 1)).then(usual))
        .with_columns(relative_volume=pl.when(pl.col("_usual") > 0).then(pl.col("volume") / pl.col("_usual")))
        .select("symbol", "ts", "relative_volume")
    )


SIGNAL = Signal(
    name="relative_volume",
    description="Volume as a multiple of the mean volume of the {span} bars before",
    version="2",
    reads={"ohlc": ("volume",)},
    columns=(
        Column("relative_volume", "float8", "1 when the volume is that mean; null for {span} bars, or when it is 0"),
    ),
    compute=relative_volume,
    params={"span": Param(20, "Bars before this one in the mean", most=500)},
    bars_before=lambda params: int(params["span"]),
)
