"""Checks that a user's rule uses only the row of each bar: its result must not change when other bars are left out.

The simulator may start in the middle of a history, without the bars before. A rule that looks back would trade one way
over a whole history or in a backtest, and another way with each new bar.

The check runs on the bars that are traded, each time. Synthetic bars, checked when a rule's file is loaded, would have
to be plausible for every signal that a rule may read. A look-back behind a condition that is never true on them, such
as an RSI below 10, would stay hidden, and a rule that knows its symbols by name would fail. A refused strategy affects
only itself, but a refused file stops everything. For 100 series of 5,000 bars, the check takes 3 to 7 ms in addition to
34 to 56 ms for the whole simulation. For their 8 newest bars it takes 1 ms.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl

from ema_assets.strategies.rule import FLAGS, PRICES
from ema_assets.strategies.simulator.arrays import Ints

# Fewer bars are not checked: polars computes a single row in another way, which may differ in the last bit.
_FEWEST = 4
# How many rows are chosen among all rows, and among the rows in which a column requests something.
_SPREAD, _OF_A_COLUMN = 256, 32
# Up to this many bars, all are evaluated twice: the even rows, then the odd rows. Of more bars, some are chosen.
_FEW = 512
# Rows with a price are chosen only when more than this share of bars lack it. Other prices occur often enough among the
# rows that are chosen anyway.
_RARE = 0.9
# Relative tolerance: prices may differ in their last bits where a library computes them with SIMD.
_PRECISION = 1e-9


def difference(
    frame: pl.DataFrame, said: pl.DataFrame, evaluate: Callable[[pl.DataFrame], pl.DataFrame]
) -> tuple[str, int] | None:
    """Return a column and a row of `said` that change when bars around the row are left out; None when none does.

    Args:
        frame: The bars, sorted by symbol and ts.
        said: The result of `evaluate` for `frame`: one row per bar.
        evaluate: The rule with its parameters.
    """
    for rows in _parts(said):
        again, expected = evaluate(frame[rows]), said[rows]
        if again.equals(expected):
            continue
        for name in dict.fromkeys((*expected.columns, *again.columns)):
            if name not in again.columns or name not in expected.columns:
                return name, int(rows[0])
            unlike = ~_alike(name, again[name], expected[name])
            if (first := unlike.arg_max()) is not None and unlike[first]:
                return name, int(rows[first])
    return None


def _alike(name: str, one: pl.Series, other: pl.Series) -> pl.Series:
    """Return where two columns mean the same. In a flag, null means false; in a price, null means none."""
    if name in FLAGS:
        one, other = (each.cast(pl.Boolean).fill_null(value=False) for each in (one, other))
        return one == other
    one, other = (each.cast(pl.Float64).fill_nan(None) for each in (one, other))
    return one.eq_missing(other) | ((one - other).abs() <= _PRECISION * other.abs()).fill_null(value=False)


def _parts(said: pl.DataFrame) -> Iterator[Ints]:
    """Yield sets of rows to evaluate alone. Most of their rows have other neighbours than in the whole frame."""
    height = said.height
    if height < _FEWEST:
        return
    if height <= _FEW:
        yield np.arange(0, height, 2)
        yield np.arange(1, height, 2)
        return
    telling = (_spread(_telling(name, said[name]), _OF_A_COLUMN) for name in said.columns)
    yield np.unique(np.concatenate([_spread(np.arange(height), _SPREAD), *telling]))
    # For rules such as "close to the highest of all": the rows chosen above may include the highest ones.
    yield np.arange(height // 3, height // 3 + _SPREAD)


def _telling(name: str, column: pl.Series) -> Any:
    """Return the rows in which a flag is true or a rare price is set; none for other columns."""
    if column.dtype == pl.Null or name not in (*FLAGS, *PRICES):
        return np.empty(0, np.int64)
    if name in FLAGS:
        return column.cast(pl.Boolean).arg_true().to_numpy()
    is_rare = column.null_count() > _RARE * len(column)
    return column.is_not_null().arg_true().to_numpy() if is_rare else np.empty(0, np.int64)


def _spread(rows: Any, most: int) -> Any:
    """Return at most `most` of `rows`, evenly spread from the first to the last."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)] if len(rows) else rows
