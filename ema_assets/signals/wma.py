"""Signal `wma`: the linearly weighted moving average that the 9-30 pullback reads. No I/O."""

import polars as pl

from ema_assets.signals.declaration import Column, Params, Signal
from ema_assets.signals.windows import is_full, sum_of_distances

SPAN = 30
WMA = f"wma_{SPAN}"


def wma(bars: pl.DataFrame, _: pl.DataFrame, __: Params) -> pl.DataFrame:
    """Mean of the last 30 closes, the newest weighing 30 and the oldest 1; null for 29 bars. TA-Lib, `WMA`."""
    weights = [float(SPAN - bars_back) for bars_back in range(SPAN)]
    close = bars["close"].to_numpy()
    average = close + sum_of_distances(close, weights) / sum(weights)
    return bars.select("symbol", "ts", pl.when(is_full(SPAN)).then(pl.Series(average)).alias(WMA))


SIGNAL = Signal(
    name="wma",
    description="Weighted moving average of the close over 30 bars, the newest weighing most",
    version="1",
    reads={"ohlc": ("close",)},
    columns=(Column(WMA, "float8", "Mean of 30 closes weighing 30, 29, … 1; null for the first 29 bars"),),
    compute=wma,
    bars_before=lambda _: SPAN - 1,
    on_price=True,
)
