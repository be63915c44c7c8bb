"""Signal `ema_trend`: trend, crossovers and spread of the two EMAs. No I/O."""

import numpy as np
import numpy.typing as npt
import polars as pl

from ema_assets.model.kernels import Kernel, floats
from ema_assets.model.stretches import stretches
from ema_assets.model.symbols import BEARISH, BULLISH, DOWN, UP
from ema_assets.signals import loops
from ema_assets.signals.declaration import Column, Params, Signal
from ema_assets.signals.ema_signals import FAST, SLOW

TREND = Kernel(loops.trend)


def ema_trend(signals: pl.DataFrame, carried: pl.DataFrame) -> pl.DataFrame:
    """The trend at each bar, for all symbols at once.

    `trend` is `up` when ema_9 > ema_30 and `down` when it is below; when they are equal the previous trend goes on;
    null until both EMAs exist. `crossover` is `bullish` or `bearish` on the bar where the trend flips, else null: the
    first trend of a series is not a flip. `spread_pct` is (ema_9 - ema_30) / ema_30 · 100, null when ema_30 is zero or
    less. `bars_since_cross` is 0 on a crossover and counts up from it; null before the first.

    Args:
        signals: symbol, ts, ema_9, ema_30, bar_number; sorted by symbol and ts.
        carried: symbol, trend, bars_since_cross of the row just before; absent symbols start from nothing.

    Returns:
        symbol, ts, trend, crossover, spread_pct, bars_since_cross, bar_number, in the same order.
    """
    symbols, begins = stretches(signals["symbol"])
    before = symbols.to_frame("symbol").join(carried, on="symbol", how="left", maintain_order="left")
    is_up, is_down = ((before["trend"] == name).fill_null(value=False).to_numpy() for name in (UP, DOWN))
    carried_trend = is_up.astype(np.int64) - is_down
    since_before = before["bars_since_cross"].fill_null(-1).to_numpy()
    trends, flips = np.empty(signals.height, np.int8), np.empty(signals.height, np.int8)
    since = np.empty(signals.height, np.int64)
    TREND.fill(
        [trends, flips, since],
        [floats(signals[FAST]), floats(signals[SLOW]), begins, carried_trend, since_before],
    )
    return signals.select(
        "symbol",
        "ts",
        _named("trend", trends, (DOWN, None, UP)),
        _named("crossover", flips, (BEARISH, None, BULLISH)),
        spread_pct=pl.when(pl.col(SLOW) > 0).then((pl.col(FAST) - pl.col(SLOW)) / pl.col(SLOW) * 100),
        bars_since_cross=pl.when(pl.Series(since) >= 0).then(pl.Series(since)),
        bar_number="bar_number",
    )


def warm_up() -> None:
    """Make the machine code of trends ready."""
    none, whole, sides = np.empty(0), np.empty(0, np.int64), np.empty(0, np.int8)
    TREND.compile([sides, sides.copy(), whole.copy()], [none, none, np.zeros(1, np.int64), whole, whole])


def _named(column: str, sides: npt.NDArray[np.int8], words: tuple[str | None, ...]) -> pl.Series:
    """The words for -1, 0 and 1."""
    return pl.Series(column, words, pl.String).gather(sides + 1)


def _compute(bars: pl.DataFrame, carried: pl.DataFrame, _: Params) -> pl.DataFrame:
    return ema_trend(bars, carried)


SIGNAL = Signal(
    name="ema_trend",
    description=(
        "Where the two EMAs stand, one row per bar: `up` when ema_9 is above ema_30, `down` when it is below, the "
        "previous trend when they are equal.\n\n"
        "A crossover marks the bar where the trend flips. Spread in percent, and how many bars ago the last crossover "
        "was."
    ),
    version="1",
    reads={"ema_signals": (FAST, SLOW, "bar_number")},
    columns=(
        Column("trend", "text", "up when ema_9 > ema_30, down when below, carried on when equal", choices=(UP, DOWN)),
        Column("crossover", "text", "bullish or bearish on the bar where the trend flips", choices=(BULLISH, BEARISH)),
        Column("spread_pct", "float8", "(ema_9 - ema_30) / ema_30 in percent; null when ema_30 is not above zero"),
        Column("bars_since_cross", "int8", "0 on a crossover, counting up from it"),
        Column("bar_number", "int8", "1 for the first bar of the series", is_nullable=False),
    ),
    compute=_compute,
    carries=("trend", "bars_since_cross"),
    carries_nulls=True,
    shown=("trend", "spread_pct", "bars_since_cross"),
)
