"""Signal `wma`: the linearly weighted moving average that the 9-30 pullback reads. No I/O."""

from functools import wraps

import polars as pl

from ema_assets.model.averages import SLOW_SPAN, wma_name
from ema_assets.signals.declaration import Column, Params, Signal
from ema_assets.signals.windows import is_full, sum_of_distances


def wma(bars: pl.DataFrame, span: int) -> pl.DataFrame:
    """Compute the mean of the last `span` closes, with weights from `span` for the newest to 1 for the oldest.

    It is null for the first span - 1 bars. Source: TA-Lib, `WMA`.
    """
    weights = [float(span - bars_back) for bars_back in range(span)]
    close = bars["close"].to_numpy()
    average = close + sum_of_distances(close, weights) / sum(weights)
    return bars.select("symbol", "ts", pl.when(is_full(span)).then(pl.Series(average)).alias(wma_name(span)))


def declared(name: str, span: int) -> Signal:
    """Return the signal `name` with the weighted average of `span` closes."""

    @wraps(wma)  # the catalog of the UI leads there
    def compute(bars: pl.DataFrame, _: pl.DataFrame, __: Params) -> pl.DataFrame:
        return wma(bars, span)

    return Signal(
        name=name,
        description=f"Weighted moving average of the close over {span} bars, the newest weighing most",
        version="1",
        reads={"ohlc": ("close",)},
        columns=(
            Column(
                wma_name(span),
                "float8",
                f"Mean of {span} closes weighing {span}, {span - 1}, … 1; null for the first {span - 1} bars",
            ),
        ),
        compute=compute,
        bars_before=lambda _: span - 1,
        on_price=True,
    )


SIGNAL = declared("wma", SLOW_SPAN)
