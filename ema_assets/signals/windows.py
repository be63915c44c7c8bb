"""Sums over windows of bars, with the same bits however a history is cut. No I/O.

A running sum would keep rounding errors of bars that have left its window. Here each row sums its own window, newest
bar first.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from ema_assets.signals.recurrence import place

Values = np.ndarray[tuple[int], np.dtype[np.float64]]


def sum_of_distances(values: Values, weights: Sequence[float]) -> Values:
    """Return Σ weights[k] · (value k bars before - value of the row itself), over k = 0, 1, and so on.

    Distances are summed so that constant values give exactly 0. The results of rows with fewer bars before them have no
    meaning; see `is_full`.
    """
    result = np.zeros(len(values))
    for bars_back, weight in enumerate(weights[1 : len(values)], start=1):
        distance = values[:-bars_back] - values[bars_back:]
        distance *= weight
        result[bars_back:] += distance
    return result


def sum_of_squares(values: Values, bars: int, mean_distance: Values) -> Values:
    """Return Σ (value k bars before - mean of the row's window)², k = 0 to bars - 1.

    `mean_distance` is the mean of the row's window less the row's value.
    """
    result = mean_distance * mean_distance
    for bars_back in range(1, min(bars, len(values))):
        distance = values[:-bars_back] - values[bars_back:]
        distance -= mean_distance[bars_back:]
        distance *= distance
        result[bars_back:] += distance
    return result


def sum_before(values: Values, bars: int) -> Values:
    """Return Σ value k bars before, k = 1 to `bars`, without the row itself."""
    result = np.zeros(len(values))
    for bars_back in range(1, min(bars + 1, len(values))):
        result[bars_back:] += values[:-bars_back]
    return result


def running_sums(values: Values, begins: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Values:
    """Return the running sum of `values`, which restarts at each row where `begins` is true. The first row must be one.

    Each row is one addition, so continuing from a sum gives the same bits. For 400,000 stretches of one bar, such as
    daily bars, `cum_sum` over each stretch takes 0.36 s and this function 0.013 s. For stretches of 78 bars, both take
    5 ms.
    """
    result = values.copy()
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, len(values)))
    # Each step adds one row of every stretch, so that many short stretches are fast.
    longest_first = np.argsort(-lengths, kind="stable")
    starts, lengths = starts[longest_first], lengths[longest_first]
    for step in range(1, int(lengths[0]) if len(lengths) else 0):
        rows = starts[: np.searchsorted(-lengths, -step)] + step
        result[rows] += result[rows - 1]
    return result


def is_full(bars: int) -> pl.Expr:
    """Return whether the symbol has `bars` rows up to and including this one, in a frame that is sorted by symbol."""
    return place() >= bars
