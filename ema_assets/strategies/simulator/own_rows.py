"""Whether a rule of one's own uses only the row of each bar: it must say the same when other bars are left out.

The simulator goes on in the middle of a history, and nothing stands before the first bar there. A rule that looks back
would trade over a history and in a backtest, and then by another logic with each new bar.

This is seen on the bars that are traded, each time. Bars that are made up when the file of a rule is loaded would have
to be plausible for every signal that it may read: behind a condition that never comes true on them, such as an RSI
below 10, what looks back stays hidden, and a rule that knows its symbols by name would fail. A strategy that is refused
costs only itself; a file that is refused stops everything. Of 100 series of 5,000 bars it takes 3 to 7 ms, beside 34 to
56 ms of the whole simulation, and of their 8 newest bars 1 ms.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl

from ema_assets.strategies.rule import FLAGS, PRICES
from ema_assets.strategies.simulator.arrays import Ints

# Fewer bars are not parted: polars computes with a single row in another way, which may differ in the last bit.
_FEWEST = 4
# How many rows are chosen of all, and of those in which a column says something.
_SPREAD, _OF_A_COLUMN = 256, 32
# In so many bars every second one is left out, then every other one; of more bars some are chosen.
_FEW = 512
# A price that so many bars lack is looked for; of others there are enough among the rows that are chosen of all.
_RARE = 0.9
# Prices may differ in their last bits, where a library computes them in lanes.
_PRECISION = 1e-9


def difference(
    frame: pl.DataFrame, said: pl.DataFrame, evaluate: Callable[[pl.DataFrame], pl.DataFrame]
) -> tuple[str, int] | None:
    """A column and a row of `said` that come out otherwise when bars around the row are left out; None when none does.

    Args:
        frame: the bars, sorted by symbol and ts.
        said: what `evaluate` returns of `frame`: one row per bar.
        evaluate: the rule with its parameters.
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
    """Where two columns mean the same: null is false, and no price."""
    if name in FLAGS:
        one, other = (each.cast(pl.Boolean).fill_null(value=False) for each in (one, other))
        return one == other
    one, other = (each.cast(pl.Float64).fill_nan(None) for each in (one, other))
    return one.eq_missing(other) | ((one - other).abs() <= _PRECISION * other.abs()).fill_null(value=False)


def _parts(said: pl.DataFrame) -> Iterator[Ints]:
    """Rows to evaluate by themselves: most have another row before and behind them than in the whole."""
    height = said.height
    if height < _FEWEST:
        return
    if height <= _FEW:
        yield np.arange(0, height, 2)
        yield np.arange(1, height, 2)
        return
    telling = (_spread(_telling(name, said[name]), _OF_A_COLUMN) for name in said.columns)
    yield np.unique(np.concatenate([_spread(np.arange(height), _SPREAD), *telling]))
    # Such as "close to the highest of all": of the rows above, some may be the highest ones.
    yield np.arange(height // 3, height // 3 + _SPREAD)


def _telling(name: str, column: pl.Series) -> Any:
    """The rows in which a column says something, where those are few."""
    if column.dtype == pl.Null or name not in (*FLAGS, *PRICES):
        return np.empty(0, np.int64)
    if name in FLAGS:
        return column.cast(pl.Boolean).arg_true().to_numpy()
    is_rare = column.null_count() > _RARE * len(column)
    return column.is_not_null().arg_true().to_numpy() if is_rare else np.empty(0, np.int64)


def _spread(rows: Any, most: int) -> Any:
    """At most so many of `rows`, from the first to the last."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)] if len(rows) else rows
