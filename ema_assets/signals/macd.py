"""Signal `macd`: the distance of two EMAs of the close, and an EMA of that distance. No I/O."""

import polars as pl

from ema_assets.signals.declaration import Column, Param, Params, Signal
from ema_assets.signals.recurrence import averaged, ema


def macd(bars: pl.DataFrame, carried: pl.DataFrame, params: Params) -> pl.DataFrame:
    """Compute the fast EMA of the close less the slow EMA (macd), the EMA of macd (signal line), and their difference.

    Both EMAs of the close begin at bar `slow`. Each starts with the mean of as many closes as its span, up to that bar.
    The signal line begins `signal` - 1 bars later with the mean of the first `signal` values of macd. Sources: Gerald
    Appel; TA-Lib, `MACD`, which differs in leaving macd empty until the signal line begins.
    """
    fast, slow, signal = params["fast"], params["slow"], params["signal"]
    closes = bars.select("symbol", "ts", "close")
    lines = averaged(
        closes, carried, [ema("macd_fast", "close", fast, slow - fast), ema("macd_slow", "close", slow)]
    ).with_columns(macd=pl.col("macd_fast") - pl.col("macd_slow"))
    return averaged(lines, carried, [ema("macd_signal", "macd", signal, slow - 1)]).select(
        "symbol",
        "ts",
        "macd",
        "macd_signal",
        (pl.col("macd") - pl.col("macd_signal")).alias("macd_hist"),
        "macd_fast",
        "macd_slow",
    )


def _check(params: Params) -> str | None:
    fast, slow = params["fast"], params["slow"]
    return None if fast < slow else f"`fast` must be less than `slow`, received fast = {fast}, slow = {slow}"


SIGNAL = Signal(
    name="macd",
    description=(
        "Moving average convergence divergence of the close: EMA of {fast} less EMA of {slow}, with its EMA of {signal}"
    ),
    version="1",
    reads={"ohlc": ("close",)},
    columns=(
        Column("macd", "float8", "macd_fast - macd_slow; null before bar {slow}"),
        Column("macd_signal", "float8", "EMA of {signal} values of macd; null until there are that many"),
        Column("macd_hist", "float8", "macd - macd_signal"),
        Column("macd_fast", "float8", "EMA of {fast} closes, begun at bar {slow}"),
        Column("macd_slow", "float8", "EMA of {slow} closes, begun at bar {slow}"),
    ),
    compute=macd,
    params={
        "fast": Param(12, "Closes in the fast EMA", least=2),
        "slow": Param(26, "Closes in the slow EMA; more than in the fast one", least=2),
        "signal": Param(9, "Values of macd in the signal line"),
    },
    carries=("macd_signal", "macd_fast", "macd_slow"),
    check=_check,
    shown=("macd", "macd_signal", "macd_hist"),
)
