"""Signal `bollinger`: Bollinger bands of the close. No I/O."""

import numpy as np
import polars as pl

from ema_assets.signals.declaration import Column, Param, Params, Signal
from ema_assets.signals.windows import is_full, sum_of_distances, sum_of_squares


def bollinger(bars: pl.DataFrame, _: pl.DataFrame, params: Params) -> pl.DataFrame:
    """Compute the mean of the last `span` closes, and bands `deviations` standard deviations above and below it.

    The standard deviation is the population's, divided by `span` and not span - 1, as in Bollinger's book and in TA-Lib
    (`BBANDS`). All columns are null for the first span - 1 bars. bb_percent_b is null where the bands have no width,
    bb_bandwidth where the mean is not above zero. Source: John Bollinger, Bollinger on Bollinger Bands, 2001.
    """
    span, deviations = params["span"], params["deviations"]
    close = bars["close"].to_numpy()
    mean_distance = sum_of_distances(close, [1.0] * span) / span
    deviation = np.sqrt(sum_of_squares(close, span, mean_distance) / span)
    middle = close + mean_distance
    upper, lower = middle + deviations * deviation, middle - deviations * deviation
    width = pl.col("bb_upper") - pl.col("bb_lower")
    return (
        bars.select("symbol", "ts", "close", _full=is_full(span))
        .with_columns(
            pl.when("_full").then(pl.Series(values)).alias(name)
            for name, values in (("bb_middle", middle), ("bb_upper", upper), ("bb_lower", lower))
        )
        .select(
            "symbol",
            "ts",
            "bb_middle",
            "bb_upper",
            "bb_lower",
            bb_percent_b=pl.when(width > 0).then((pl.col("close") - pl.col("bb_lower")) / width),
            bb_bandwidth=pl.when(pl.col("bb_middle") > 0).then(width / pl.col("bb_middle")),
        )
    )


SIGNAL = Signal(
    name="bollinger",
    description="Bollinger bands of the close: the mean of {span} bars and {deviations} standard deviations around it",
    version="1",
    reads={"ohlc": ("close",)},
    columns=(
        Column("bb_middle", "float8", "Mean of the last {span} closes; null before bar {span}"),
        Column("bb_upper", "float8", "bb_middle plus {deviations} standard deviations"),
        Column("bb_lower", "float8", "bb_middle less {deviations} standard deviations"),
        Column("bb_percent_b", "float8", "0 with the close on the lower band, 1 on the upper one; null without width"),
        Column("bb_bandwidth", "float8", "(bb_upper - bb_lower) / bb_middle; null when that is not above zero"),
    ),
    compute=bollinger,
    params={
        "span": Param(20, "Closes in a window", least=2, most=500),
        "deviations": Param(2.0, "Standard deviations from the mean to a band", least=0.1, most=10),
    },
    bars_before=lambda params: int(params["span"]) - 1,
    shown=("bb_lower", "bb_middle", "bb_upper"),
    on_price=True,
)
