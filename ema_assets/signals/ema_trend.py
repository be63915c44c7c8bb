"""Signal `ema_trend`: trend, crossovers and spread of the two EMAs. No I/O."""

from functools import wraps

import numpy as np
import numpy.typing as npt
import polars as pl

from ema_assets.model.averages import asset_of, ema_name
from ema_assets.model.kernels import Kernel, floats
from ema_assets.model.stretches import as_rows, of_each, stretches
from ema_assets.model.symbols import BEARISH, BULLISH, DOWN, UP
from ema_assets.signals import loops
from ema_assets.signals.declaration import Column, Params, Signal
from ema_assets.signals.ema_signals import FAST, SLOW, SPANS

TREND = Kernel(loops.trend)

_SIDES = {DOWN: -1, None: 0, UP: 1}


def ema_trend(signals: pl.DataFrame, carried: pl.DataFrame, fast: str = FAST, slow: str = SLOW) -> pl.DataFrame:
    """Compute the trend at each bar, for all symbols at once.

    `trend` is `up` when fast > slow and `down` when fast < slow. When they are equal, it keeps its value. It is null
    until both EMAs exist. `crossover` is `bullish` or `bearish` on the bar where the trend flips, else null; the first
    trend of a series is not a flip. `spread_pct` is (fast - slow) / slow · 100, null when slow is zero or less.
    `bars_since_cross` is 0 on a crossover and counts up from it; null before the first.

    Args:
        signals: symbol, ts, `fast`, `slow`, bar_number; sorted by symbol and ts.
        carried: symbol, trend, bars_since_cross of the row just before; absent symbols start from nothing.
        fast: The column of the faster EMA.
        slow: The column of the slower EMA.

    Returns:
        symbol, ts, trend, crossover, spread_pct, bars_since_cross, bar_number, in the same order.
    """
    symbols, begins = stretches(signals["symbol"])
    before = of_each(symbols, carried)
    size = signals.height
    trends, flips, since, spreads = (
        np.empty(size, np.int8),
        np.empty(size, np.int8),
        np.empty(size, np.int64),
        np.empty(size),
    )
    TREND.fill(
        [trends, flips, since, spreads],
        [
            floats(signals[fast]),
            floats(signals[slow]),
            begins,
            np.array([_SIDES[word] for word in before["trend"]], np.int64),
            np.array([-1 if bars is None else bars for bars in before["bars_since_cross"]], np.int64),
        ],
    )
    return pl.DataFrame(
        [
            signals["symbol"],
            signals["ts"],
            _named("trend", trends, (DOWN, None, UP)),
            _named("crossover", flips, (BEARISH, None, BULLISH)),
            pl.Series("spread_pct", spreads, nan_to_null=True),
            pl.Series("bars_since_cross", since).set(pl.Series(since < 0), None),
            signals["bar_number"],
        ]
    )


def warm_up() -> None:
    """Load or compile the machine code of trends."""
    none, whole, sides = np.empty(0), np.empty(0, np.int64), np.empty(0, np.int8)
    TREND.compile([sides, sides.copy(), whole.copy(), none.copy()], [none, none, np.zeros(1, np.int64), whole, whole])


def _named(column: str, sides: npt.NDArray[np.int8], words: tuple[str | None, ...]) -> pl.Series:
    """Return a column that has the three `words` for the sides -1, 0 and 1."""
    return pl.Series(column, words, pl.String)[as_rows(sides + 1)]


def declared(name: str, fast_span: int, slow_span: int) -> Signal:
    """Return the signal `name` that compares the EMAs of these spans."""
    fast, slow = ema_name(fast_span), ema_name(slow_span)

    @wraps(ema_trend)  # the catalog of the UI leads there
    def compute(bars: pl.DataFrame, carried: pl.DataFrame, _: Params) -> pl.DataFrame:
        return ema_trend(bars, carried, fast, slow)

    reads: dict[str, tuple[str, ...]] = {}
    for column in (fast, slow):
        reads[asset_of(column)] = (*reads.get(asset_of(column), ()), column)
    # Every asset with EMAs has the bar number.
    first = next(iter(reads))
    reads[first] = (*reads[first], "bar_number")
    return Signal(
        name=name,
        description=(
            f"Where the two EMAs stand, one row per bar: up when {fast} is above {slow}, down when it is below, "
            "the previous trend when they are equal.\n\n"
            "A crossover marks the bar where the trend flips. Spread in percent, and how many bars ago the last "
            "crossover was."
        ),
        version="1",
        reads=reads,
        columns=(
            Column(
                "trend", "text", f"up when {fast} > {slow}, down when below, carried on when equal", choices=(UP, DOWN)
            ),
            Column(
                "crossover", "text", "bullish or bearish on the bar where the trend flips", choices=(BULLISH, BEARISH)
            ),
            Column(
                "spread_pct", "float8", f"({fast} - {slow}) / {slow} in percent; null when {slow} is not above zero"
            ),
            Column("bars_since_cross", "int8", "0 on a crossover, counting up from it"),
            Column("bar_number", "int8", "1 for the first bar of the series", is_nullable=False),
        ),
        compute=compute,
        carries=("trend", "bars_since_cross"),
        carries_nulls=True,
        shown=("trend", "spread_pct", "bars_since_cross"),
    )


SIGNAL = declared("ema_trend", *SPANS)
