"""Signal `rsi`: Wilder's relative strength index of the close. No I/O."""

import polars as pl

from ema_assets.signals.declaration import Column, Param, Params, Signal
from ema_assets.signals.recurrence import averaged, before, wilder


def rsi(bars: pl.DataFrame, carried: pl.DataFrame, params: Params) -> pl.DataFrame:
    """Compute RSI = 100 · gain / (gain + loss), where both are Wilder's averages of the rises and falls of the close.

    Both averages begin with the mean of the first `span` changes, at bar span + 1; before it, all columns are null. A
    series that has never moved has RSI 0. Sources: Wilder, New Concepts in Technical Trading Systems, 1978; TA-Lib,
    `RSI`.
    """
    span = params["span"]
    change = pl.when("is_new").then(pl.col("close") - before("close"))
    changes = bars.select("symbol", "ts", _change=change).with_columns(
        _rise=pl.col("_change").clip(lower_bound=0), _fall=(-pl.col("_change")).clip(lower_bound=0)
    )
    moved = pl.col("average_gain") + pl.col("average_loss")
    return averaged(
        changes, carried, [wilder("average_gain", "_rise", span, 1), wilder("average_loss", "_fall", span, 1)]
    ).select(
        "symbol",
        "ts",
        rsi=pl.when(moved > 0).then(pl.col("average_gain") / moved * 100).when(moved == 0).then(0.0),
        average_gain="average_gain",
        average_loss="average_loss",
    )


SIGNAL = Signal(
    name="rsi",
    description="Relative strength index of the close over {span} bars, 0 to 100, with Wilder's smoothing",
    version="1",
    reads={"ohlc": ("close",)},
    columns=(
        Column("rsi", "float8", "100 · average_gain / (average_gain + average_loss); null for the first {span} bars"),
        Column("average_gain", "float8", "Wilder's average of what the close rose by; a fall counts as 0"),
        Column("average_loss", "float8", "Wilder's average of what the close fell by; a rise counts as 0"),
    ),
    compute=rsi,
    params={"span": Param(14, "Changes in the first mean; each weighs 1/span after it", least=2)},
    carries=("average_gain", "average_loss"),
    bars_before=lambda _: 1,
)
