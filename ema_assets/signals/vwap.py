"""Bars to the volume-weighted average price since the session's open. No I/O."""

import polars as pl

from ema_assets.signals.base import Column, Params, Signal
from ema_assets.signals.recurrence import is_first


def vwap(bars: pl.DataFrame, carried: pl.DataFrame, _: Params) -> pl.DataFrame:
    """Σ typical price · volume / Σ volume over the session's bars up to this one; typical = (high + low + close) / 3.

    Null until something has traded in the session. Sums go on from the bar before, which tells by its session whether
    they do: it is in `bars`, not new, for each symbol in `carried`.
    """
    traded = ((pl.col("high") + pl.col("low") + pl.col("close")) / 3) * pl.col("volume")
    known = bars.join(
        carried.select("symbol", _value="session_value", _volume="session_volume"),
        on="symbol",
        how="left",
        maintain_order="left",
    )
    # The last bar before the new ones stands for all that its session has summed up.
    opens = is_first() | pl.col("session").ne_missing(pl.col("session").shift(1))
    summed = (
        known.with_columns(
            opens.cum_sum().set_sorted().alias("_group"),
            pl.when("is_new").then(traded).otherwise("_value").alias("_value"),
            pl.when("is_new").then("volume").otherwise("_volume").alias("_volume"),
        )
        .with_columns(pl.col("_value", "_volume").cum_sum().over("_group"))
        .select("symbol", "ts", session_value="_value", session_volume="_volume")
    )
    return summed.select(
        "symbol",
        "ts",
        vwap=pl.when(pl.col("session_volume") > 0).then(pl.col("session_value") / pl.col("session_volume")),
        session_value="session_value",
        session_volume="session_volume",
    )


SIGNAL = Signal(
    name="vwap",
    description="Volume-weighted average price since the open of the bar's session",
    version="1",
    reads={"ohlc": ("high", "low", "close", "volume")},
    columns=(
        Column("vwap", "float8", "session_value / session_volume; null until something has traded"),
        Column("session_value", "float8", "Sum of (high + low + close) / 3 · volume since the session's open"),
        Column("session_volume", "float8", "Sum of the volume since the session's open"),
    ),
    compute=vwap,
    carries=("session_value", "session_volume"),
    bars_before=lambda _: 1,
    has_sessions=True,
)
