"""Where each series begins in a frame of many that is sorted by symbol."""

import numpy as np
import numpy.typing as npt
import polars as pl

Rows = npt.NDArray[np.int64]

# Fewer rows than this are all looked at; of more, first every _STRIDE-th. Of 400,000 that takes a third of the time.
_MANY_ROWS, _STRIDE = 4_096, 64


def stretches(symbols: pl.Series) -> tuple[pl.Series, Rows]:
    """Each symbol of a column in which equal ones are neighbours; the first row of each, and one more for the end."""
    size = len(symbols)
    if size < _MANY_ROWS or symbols.null_count():
        runs = symbols.rle().struct.unnest()
        return runs["value"], np.append(0, runs["len"].cast(pl.Int64).cum_sum().to_numpy())
    # Between two rows with the same symbol there is no other one.
    seen = np.append(np.arange(0, size - 1, _STRIDE), size - 1)
    before = seen[:-1][_differs(symbols, seen[1:], seen[:-1])]
    rows = np.minimum(before[:, None] + np.arange(1, _STRIDE + 1), size - 1).ravel()
    firsts = np.unique(np.append(0, rows[_differs(symbols, rows, rows - 1)]))
    return symbols.gather(firsts), np.append(firsts, size)


def _differs(symbols: pl.Series, rows: Rows, others: Rows) -> npt.NDArray[np.bool_]:
    # As polars wants rows, which it would make of others; and `ne_missing` takes four times as long.
    one, other = (symbols.gather(pl.Series(each, dtype=pl.UInt32)) for each in (rows, others))
    return (one != other).to_numpy()
