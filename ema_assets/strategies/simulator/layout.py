"""Rows of many series in the order of time: all first bars, then all second bars. Columns to arrays and back.

The simulator steps through time once, for all series together. At step t it sees the t-th bar of each series that has
one. Series are ranked by length, the longest first. So the series of a step are always the first ranks and their rows
are neighbours; nothing is padded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.symbols import BEARISH, BULLISH, DOWN, UP

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Sides = npt.NDArray[np.int8]
Flags = npt.NDArray[np.bool_]

_Value = TypeVar("_Value", bound=np.generic)

# No time: what null is in a column of times as whole microseconds.
NEVER = np.iinfo(np.int64).min

_SIDES: Mapping[str, int] = {BULLISH: 1, BEARISH: -1, UP: 1, DOWN: -1}


def floats(column: pl.Series) -> Floats:
    """The values of `column`, float64; NaN for null."""
    return column.cast(pl.Float64).to_numpy()


def times(column: pl.Series) -> Ints:
    """The times of `column`, microseconds since 1970; NEVER for null."""
    whole = column.cast(UTC_TIME).cast(pl.Int64)
    return (whole.fill_null(NEVER) if whole.null_count() else whole).to_numpy()


def named_sides(column: pl.Series) -> Sides:
    """1 where `column` reads `bullish` or `up`, -1 where it reads `bearish` or `down`, else 0."""
    return column.cast(pl.String).replace_strict(_SIDES, default=0, return_dtype=pl.Int8).to_numpy()


def signs(values: Floats) -> Sides:
    """1 where `values` are above 0, -1 where they are below, 0 where they are 0 or NaN."""
    return (values > 0).astype(np.int8) - (values < 0).astype(np.int8)


def float_column(name: str, values: Floats) -> pl.Series:
    """The column with `values`; null for NaN."""
    return pl.Series(name, values, dtype=pl.Float64, nan_to_null=True)


def time_column(name: str, values: Ints) -> pl.Series:
    """The column of times with `values` as microseconds; null for NEVER."""
    column = pl.Series(name, values, dtype=pl.Int64)
    return column.set(column == NEVER, None).cast(UTC_TIME)


@dataclass(frozen=True, slots=True)
class Layout:
    """The place of each row of a frame in the order of steps. The frame is sorted by symbol and ts.

    Attributes:
        symbols: by rank.
        lengths: how many bars, by rank.
        offsets: the place of the first row of each step, and one more for the end.
        places: of the rows of the frame.
    """

    symbols: pl.Series
    lengths: Ints
    offsets: Ints
    places: Ints

    @classmethod
    def of(cls, symbols: pl.Series) -> "Layout":
        """The layout of a frame with this column; equal symbols are neighbours."""
        runs = symbols.rle_id().to_numpy().astype(np.int64)
        lengths = np.bincount(runs)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        ranked = np.argsort(-lengths, kind="stable")
        ranks = np.empty_like(ranked)
        ranks[ranked] = np.arange(ranked.size)
        steps = np.arange(runs.size) - starts[runs]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(steps))]).astype(np.int64)
        return cls(symbols.gather(starts[ranked]), lengths[ranked], offsets, offsets[steps] + ranks[runs])

    def place(self, values: npt.NDArray[_Value]) -> npt.NDArray[_Value]:
        """`values` of the rows of the frame, in the order of steps."""
        placed = np.empty_like(values)
        placed[self.places] = values
        return placed

    @property
    def last_rows(self) -> Ints:
        """The place of each series' last row, by rank."""
        return self.offsets[self.lengths - 1] + np.arange(self.lengths.size)
