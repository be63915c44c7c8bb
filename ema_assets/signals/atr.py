"""Signal `atr`: Wilder's average true range. No I/O."""

import polars as pl

from ema_assets.signals.declaration import Column, Param, Params, Signal
from ema_assets.signals.recurrence import averaged, before, wilder


def atr(bars: pl.DataFrame, carried: pl.DataFrame, params: Params) -> pl.DataFrame:
    """Compute Wilder's average of the true range, max(high, previous close) - min(low, previous close).

    The first bar has no previous close and therefore no true range. The average begins with the mean of the first
    `span` true ranges, at bar span + 1; before it, both columns are null. atr_pct is null when the close is zero or
    less. Sources: Wilder, New Concepts in Technical Trading Systems, 1978; TA-Lib, `ATR`.
    """
    known = bars.with_columns(_before=before("close"))
    # max_horizontal ignores nulls, but the first bar must have no true range.
    true_range = pl.max_horizontal("high", "_before") - pl.min_horizontal("low", "_before")
    ranges = known.select(
        "symbol", "ts", "close", _range=pl.when(pl.col("is_new") & pl.col("_before").is_not_null()).then(true_range)
    )
    return averaged(ranges, carried, [wilder("atr", "_range", params["span"], 1)]).select(
        "symbol", "ts", "atr", atr_pct=pl.when(pl.col("close") > 0).then(pl.col("atr") / pl.col("close") * 100)
    )


SIGNAL = Signal(
    name="atr",
    description="Average true range over {span} bars, in units of the price and in percent of the close",
    version="1",
    reads={"ohlc": ("high", "low", "close")},
    columns=(
        Column("atr", "float8", "Wilder's average of the true range; null for the first {span} bars"),
        Column("atr_pct", "float8", "atr in percent of the close; null when that is not above zero"),
    ),
    compute=atr,
    params={"span": Param(14, "True ranges in the first mean; each weighs 1/span after it")},
    carries=("atr",),
    bars_before=lambda _: 1,
    shown=("atr", "atr_pct"),
)
