"""Conversion of frame columns to arrays. A null of a column becomes NaN or NEVER in the array."""

from dataclasses import fields

import numpy as np
import numpy.typing as npt
import polars as pl

from ema_assets.model.schemas import UTC_TIME

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Sides = npt.NDArray[np.int8]
Flags = npt.NDArray[np.bool_]
Records = npt.NDArray[np.void]

# Stands for null in an array of times, which are integer microseconds.
NEVER = -(2**63)


def times(column: pl.Series) -> Ints:
    """Return the times of `column` in microseconds since 1970, UTC; NEVER for null."""
    whole = column.cast(UTC_TIME).cast(pl.Int64)
    return (whole.fill_null(NEVER) if whole.null_count() else whole).to_numpy()


def record_type(dataclass: type) -> np.dtype[np.void]:
    """Return the dtype of records with the fields of `dataclass`: integers and floats of eight bytes each."""
    return np.dtype([(each.name, np.int64 if each.type is int else np.float64) for each in fields(dataclass)])
