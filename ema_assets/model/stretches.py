"""Where each series begins in a frame of many that is sorted by symbol."""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Rows = npt.NDArray[np.int64]

# Fewer rows than this are all looked at. Of more, first those that lie so far apart, then those between unlike ones:
# of 400,000 in a hundred series that takes a sixth of the time.
MANY_ROWS = 40_000
_APART = (1_024, 64, 8, 1)


def stretches(symbols: pl.Series) -> tuple[pl.Series, Rows]:
    """Each symbol of a column in which equal ones are neighbours; the first row of each, and one more for the end."""
    size = len(symbols)
    if not size or symbols.null_count():
        runs = symbols.rle().struct.unnest()
        return runs["value"], np.append(0, runs["len"].cast(pl.Int64).cum_sum().to_numpy())
    if size < MANY_ROWS:
        firsts = np.append(0, np.flatnonzero(_differs(symbols)) + 1)
        return symbols[as_rows(firsts)], np.append(firsts, size)
    # Between two rows with the same symbol there is no other one.
    changes = _changes(symbols, np.append(np.arange(0, size - 1, _APART[0]), size - 1)[None, :])
    for far, near in pairwise(_APART):
        if not changes.size:  # all rows are of one symbol
            break
        changes = _changes(symbols, np.minimum(changes[:, None] + np.arange(0, far + 1, near), size - 1))
    firsts = np.append(0, changes + 1)
    return symbols[as_rows(firsts)], np.append(firsts, size)


def as_rows(rows: npt.NDArray[Any]) -> pl.Series:
    """Rows as polars wants them, which it would make of others each time. `column[rows]` takes 2 µs, `gather` 20."""
    return pl.Series(rows.astype(np.uint32, copy=False))


def of_each(symbols: pl.Series, carried: pl.DataFrame) -> pl.DataFrame:
    """The row of `carried` (symbol, …) of each of `symbols`, in their order: a row of nulls where there is none."""
    known = carried["symbol"]
    # What goes on is mostly carried of all series, in the same order.
    if symbols.equals(known):
        return carried
    # Of the few series of a batch, this takes a fifth of a join.
    places = {symbol: place for place, symbol in enumerate(known)}
    return carried[pl.Series([places.get(symbol) for symbol in symbols], dtype=pl.UInt32)]


def _changes(symbols: pl.Series, rows: Rows) -> Rows:
    """Those of `rows`, in each line but for its last one, whose symbol is not that of the next one in the line."""
    differs = np.zeros(rows.shape, np.bool_)
    differs.ravel()[:-1] = _differs(symbols[as_rows(rows.ravel())])
    return rows[:, :-1][differs[:, :-1]]


def _differs(symbols: pl.Series) -> npt.NDArray[np.bool_]:
    """Of each but the last, whether the next one is another. `ne_missing` takes four times as long."""
    return (symbols.slice(1) != symbols.slice(0, len(symbols) - 1)).to_numpy()
