"""Signal `ema_signals`: the exponential moving averages of the close. No I/O."""

import numpy as np
import numpy.typing as npt
import polars as pl

from ema_assets.model.stretches import stretches
from ema_assets.model.symbols import SEEDS
from ema_assets.signals.declaration import Column, Param, Params, Signal
from ema_assets.signals.recurrence import Average, averaged, ema

FAST_SPAN = 9
SLOW_SPAN = 30
SPANS = (FAST_SPAN, SLOW_SPAN)
FAST, SLOW = (f"ema_{span}" for span in SPANS)

# The seed of the slow EMA weighs less than 1e-6 after this many bars: the least n with (1 - 2/31)^n < 1e-6 is 208.
CONVERGED_AFTER_BARS = 208

# How the recurrence starts: at the n-th bar from the mean of the first n closes, or at the first bar from its close.
SMA_SEED, FIRST_SEED = SEEDS


def ema_signals(bars: pl.DataFrame, carried: pl.DataFrame, seed: str = SMA_SEED) -> pl.DataFrame:
    """Exponential moving averages of the close, for all symbols at once.

    EMA of span n: alpha = 2/(n+1), EMA_t = alpha·close_t + (1-alpha)·EMA_(t-1), in float64.

    With the seed `sma` the first value stands at the n-th bar and is the plain mean of the first n closes; before it
    the column is null. This is what TA-Lib's EMA and most charting packages draw (TA-Lib, `ta_EMA.c`, compatibility
    mode default). With `first` it stands at the first bar and is its close, as `ewm(span=n, adjust=False)` of pandas
    has it; there is no null. The two agree to 1e-6 after about 62 bars for span 9 and 208 for span 30: docs/SIGNALS.md.

    Args:
        bars: symbol, ts, close; sorted by symbol and ts.
        carried: symbol, ema_9, ema_30, bar_number of the row just before the symbol's first bar here. A symbol that
            is absent starts from nothing; one that is present must have no null.
        seed: `sma` or `first`.

    Returns:
        symbol, ts, ema_9, ema_30, bar_number (1 for the first bar of the series), one row per bar, in the same order.
    """
    if seed == SMA_SEED:
        averages = [ema(name, "close", span) for name, span in zip((FAST, SLOW), SPANS, strict=True)]
    elif seed == FIRST_SEED:
        averages = [Average(name, "close", 2 / (span + 1), 1) for name, span in zip((FAST, SLOW), SPANS, strict=True)]
    else:
        raise ValueError(f"`seed` must be one of {', '.join(SEEDS)}, received {seed!r}")
    numbers = pl.Series("bar_number", _bar_numbers(bars["symbol"], carried))
    return averaged(bars.select("symbol", "ts", "close"), carried, averages).select("symbol", "ts", FAST, SLOW, numbers)


def _bar_numbers(symbols: pl.Series, carried: pl.DataFrame) -> npt.NDArray[np.int64]:
    """1 for the first bar of a symbol, and one more on each later one; or on from the `bar_number` that is carried."""
    names, begins = stretches(symbols)
    before = names.to_frame("symbol").join(
        carried.select("symbol", "bar_number"), on="symbol", how="left", maintain_order="left"
    )["bar_number"].fill_null(0).to_numpy()  # fmt: skip
    numbers: npt.NDArray[np.int64] = np.arange(1, len(symbols) + 1) + np.repeat(before - begins[:-1], np.diff(begins))
    return numbers


def _compute(bars: pl.DataFrame, carried: pl.DataFrame, params: Params) -> pl.DataFrame:
    return ema_signals(bars, carried, params["seed"])


SIGNAL = Signal(
    name="ema_signals",
    description=(
        "Exponential moving averages of the close, spans 9 and 30, one row per bar.\n\n"
        "Each is seeded with the plain mean of its first closes, as TA-Lib and most charts do, and null before."
    ),
    version="1",
    reads={"ohlc": ("close",)},
    columns=(
        Column(FAST, "float8", "EMA of 9 closes, seeded with their mean; null for the first 8 bars"),
        Column(SLOW, "float8", "EMA of 30 closes, seeded with their mean; null for the first 29 bars"),
        Column("bar_number", "int8", "1 for the first bar of the series", is_nullable=False),
    ),
    compute=_compute,
    params={
        "seed": Param(
            SMA_SEED,
            "sma: begin at the n-th bar with the mean of n closes; first: begin at the first bar with its close",
            choices=SEEDS,
        )
    },
    carries=(FAST, SLOW, "bar_number"),
    converged_after=CONVERGED_AFTER_BARS,
    shown=(FAST, SLOW),
    on_price=True,
)
