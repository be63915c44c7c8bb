"""Signal `vwap`: the volume-weighted average price since the session's open. No I/O."""

import polars as pl

from ema_assets.signals.declaration import Column, Params, Signal
from ema_assets.signals.recurrence import is_first
from ema_assets.signals.windows import running_sums


def vwap(bars: pl.DataFrame, carried: pl.DataFrame, _: Params) -> pl.DataFrame:
    """Compute Σ typical price · volume / Σ volume over the session's bars up to this one.

    The typical price is (high + low + close) / 3. The result is null until something has traded in the session. The
    sums continue from the previous bar when it is in the same session. That bar is in `bars`, not new, for each symbol
    in `carried`.
    """
    # Not divided in polars, which multiplies a column by 1/3 but divides a single value by 3: the bits would differ.
    bars = bars.with_columns(pl.col("volume").fill_null(0.0))
    high, low, close, volume = (bars[name].to_numpy() for name in ("high", "low", "close", "volume"))
    traded = pl.Series((high + low + close) / 3 * volume)
    known = bars.join(
        carried.select("symbol", _value="session_value", _volume="session_volume"),
        on="symbol",
        how="left",
        maintain_order="left",
    )
    # The last bar before the new ones carries the sums of its session so far.
    summands = known.select(
        "symbol",
        "ts",
        _begins=is_first() | pl.col("session").ne_missing(pl.col("session").shift(1)),
        _value=pl.when("is_new").then(traded).otherwise("_value"),
        _volume=pl.when("is_new").then("volume").otherwise("_volume"),
    )
    begins = summands["_begins"].to_numpy()
    summed = summands.select(
        "symbol",
        "ts",
        session_value=pl.Series(running_sums(summands["_value"].to_numpy(), begins)),
        session_volume=pl.Series(running_sums(summands["_volume"].to_numpy(), begins)),
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
    on_price=True,
)
