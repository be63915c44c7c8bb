"""Columns of synthetic bars, and the aggregation of shorter bars. Prices are made in price_path.py.

Times are whole seconds since 1970, UTC, in int64 arrays.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Prices are made for five minutes at a time. `minutes` makes shorter bars.
STEP_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Bars:
    """Columns of equal length, one row per bar. `end` is the second at which the bar closes."""

    ts: Ints
    end: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    trades: Ints
    vwap: Floats

    def __len__(self) -> int:
        return len(self.ts)

    def pick(self, rows: slice | npt.NDArray[np.bool_]) -> "Bars":
        """Return only `rows`, a mask or a slice."""
        return Bars(*(getattr(self, field.name)[rows] for field in fields(self)))


Alteration = Callable[[Bars], Bars]

_NO_INTS = np.empty(0, np.int64)
_NO_FLOATS = np.empty(0, np.float64)
NO_BARS = Bars(_NO_INTS, _NO_INTS, _NO_FLOATS, _NO_FLOATS, _NO_FLOATS, _NO_FLOATS, _NO_FLOATS, _NO_INTS, _NO_FLOATS)


def joined(parts: Sequence[Bars]) -> Bars:
    """Concatenate `parts`."""
    return Bars(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Bars)))


def edges(label: Ints) -> Ints:
    """Return the index of the first row of each run of equal labels."""
    return np.concatenate([np.zeros(1, np.int64), np.flatnonzero(label[1:] != label[:-1]) + 1])


def aggregate(bars: Bars, label: Ints) -> Bars:
    """Return one bar per run of equal labels. It opens at the label."""
    firsts = edges(label)
    lasts = np.append(firsts[1:], len(label)) - 1
    volume = np.add.reduceat(bars.volume, firsts)
    return Bars(
        ts=label[firsts],
        end=bars.end[lasts],
        open=bars.open[firsts],
        high=np.maximum.reduceat(bars.high, firsts),
        low=np.minimum.reduceat(bars.low, firsts),
        close=bars.close[lasts],
        volume=volume,
        trades=np.add.reduceat(bars.trades, firsts),
        vwap=np.round(np.add.reduceat(bars.vwap * bars.volume, firsts) / volume, 6),
    )


def begun(bars: Bars, now: int) -> Bars:
    """Return bars of five minutes or less as they are at `now`, before they close."""
    through = (now - bars.ts) / np.minimum(STEP_SECONDS, bars.end - bars.ts)
    close = np.round(bars.open + (bars.close - bars.open) * through, 8)
    return Bars(
        ts=bars.ts,
        end=bars.end,
        open=bars.open,
        high=np.maximum(bars.open, close),
        low=np.minimum(bars.open, close),
        close=close,
        volume=np.maximum(1.0, np.floor(bars.volume * through)),
        trades=np.maximum(1, (bars.trades * through).astype(np.int64)),
        vwap=bars.vwap,
    )
