"""Where each series begins in a frame of many that is sorted by symbol."""

import numpy as np
import numpy.typing as npt
import polars as pl


def stretches(symbols: pl.Series) -> tuple[pl.Series, npt.NDArray[np.int64]]:
    """Each symbol of a column in which equal ones are neighbours; the first row of each, and one more for the end."""
    runs = symbols.rle().struct.unnest()
    return runs["value"], np.append(0, runs["len"].cast(pl.Int64).cum_sum().to_numpy())
