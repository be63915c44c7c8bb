"""Signal `ema_signals`: the exponential moving averages of the close. No I/O."""

from collections.abc import Sequence
from functools import wraps

import numpy as np
import numpy.typing as npt
import polars as pl

from ema_assets.model import averages
from ema_assets.model.averages import ema_name
from ema_assets.model.stretches import of_each, stretches
from ema_assets.model.symbols import SEEDS
from ema_assets.signals.declaration import Column, Param, Params, Signal
from ema_assets.signals.recurrence import Average, averages_of, ema

Ints = npt.NDArray[np.int64]

FAST_SPAN, SLOW_SPAN = SPANS = (averages.FAST_SPAN, averages.SLOW_SPAN)
FAST, SLOW = map(ema_name, SPANS)

# 208 bars, because the slow EMA takes longest.
CONVERGED_AFTER_BARS = averages.converged_after(SLOW_SPAN)

# How the recurrence starts: at the n-th bar with the mean of the first n closes, or at the first bar with its close.
SMA_SEED, FIRST_SEED = SEEDS


def ema_signals(
    bars: pl.DataFrame, carried: pl.DataFrame, seed: str = SMA_SEED, spans: Sequence[int] = SPANS
) -> pl.DataFrame:
    """Compute exponential moving averages of the close, for all symbols at once.

    EMA of span n: alpha = 2/(n+1), EMA_t = alpha·close_t + (1-alpha)·EMA_(t-1), in float64.

    With the seed `sma`, the first value is the plain mean of the first n closes, at the n-th bar; before it, the column
    is null. TA-Lib's EMA and most charting packages do the same (TA-Lib, `ta_EMA.c`, compatibility mode default). With
    `first`, the first value is the close of the first bar, as in pandas' `ewm(span=n, adjust=False)`; there is no null.
    The two agree to 1e-6 after about 62 bars for span 9 and 208 for span 30: docs/SIGNALS.md.

    Args:
        bars: symbol, ts, close; sorted by symbol and ts.
        carried: symbol, the averages' columns and bar_number of the row just before the symbol's first bar here. A
            symbol that is absent starts from nothing; one that is present must have no null.
        seed: `sma` or `first`.
        spans: The spans of the averages, in closes.

    Returns:
        symbol, ts, `ema_<span>` of each span, bar_number (1 for the first bar of the series), one row per bar, in the
        same order.
    """
    if seed == SMA_SEED:
        wanted = [ema(ema_name(span), "close", span) for span in spans]
    elif seed == FIRST_SEED:
        wanted = [Average(ema_name(span), "close", 2 / (span + 1), 1) for span in spans]
    else:
        raise ValueError(f"`seed` must be one of {', '.join(SEEDS)}, received {seed!r}")
    symbols, begins = stretches(bars["symbol"])
    before = of_each(symbols, carried)
    numbers = pl.Series(
        "bar_number", _bar_numbers(begins, np.array([each or 0 for each in before["bar_number"]], np.int64))
    )
    return pl.DataFrame([bars["symbol"], bars["ts"], *averages_of(bars, begins, before, wanted), numbers])


def _bar_numbers(begins: Ints, before: Ints) -> Ints:
    """Return the number of each bar in its series. It continues from the number `before`, which is 0 for none."""
    numbers: Ints = np.repeat(before - begins[:-1], np.diff(begins))
    numbers += np.arange(1, begins[-1] + 1)
    return numbers


def declared(name: str, description: str, spans: Sequence[int]) -> Signal:
    """Return the signal `name` with the EMAs of `spans`."""

    @wraps(ema_signals)  # the catalog of the UI leads there
    def compute(bars: pl.DataFrame, carried: pl.DataFrame, params: Params) -> pl.DataFrame:
        return ema_signals(bars, carried, params["seed"], spans)

    names = tuple(map(ema_name, spans))
    return Signal(
        name=name,
        description=(
            f"{description}\n\n"
            f"{'Each' if len(spans) > 1 else 'It'} is seeded with the plain mean of its first closes, as TA-Lib and "
            "most charts do, and null before."
        ),
        version="1",
        reads={"ohlc": ("close",)},
        columns=(
            *(
                Column(
                    ema_name(span),
                    "float8",
                    f"EMA of {span} closes, seeded with their mean; null for the first {span - 1} bars",
                )
                for span in spans
            ),
            Column("bar_number", "int8", "1 for the first bar of the series", is_nullable=False),
        ),
        compute=compute,
        params={
            "seed": Param(
                SMA_SEED,
                "sma: begin at the n-th bar with the mean of n closes; first: begin at the first bar with its close",
                choices=SEEDS,
            )
        },
        carries=(*names, "bar_number"),
        converged_after=averages.converged_after(max(spans)),
        shown=names,
        on_price=True,
    )


SIGNAL = declared("ema_signals", "Exponential moving averages of the close, spans 9 and 30, one row per bar.", SPANS)
