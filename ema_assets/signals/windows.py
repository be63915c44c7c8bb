"""Sums over bars, the same bits however a history is cut. No I/O.

A running sum would remember every bar that has left its window; here each row adds up its own window, newest bar first.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from ema_assets.signals.recurrence import place

Values = np.ndarray[tuple[int], np.dtype[np.float64]]


def sum_of_distances(values: Values, weights: Sequence[float]) -> Values:
    """Σ weights[k] · (value of k bars before - value of the row itself), over k = 0, 1, and so on.

    As distances, so that a standstill gives exactly 0. Rows with fewer bars before them, see `is_full`, hold no result.
    """
    result = np.zeros(len(values))
    for bars_back, weight in enumerate(weights[1 : len(values)], start=1):
        distance = values[:-bars_back] - values[bars_back:]
        distance *= weight
        result[bars_back:] += distance
    return result


def sum_of_squares(values: Values, bars: int, mean_distance: Values) -> Values:
    """Σ (value of k bars before - mean of the row's window)², k = 0 to bars - 1; the mean as distance from the row."""
    result = mean_distance * mean_distance
    for bars_back in range(1, min(bars, len(values))):
        distance = values[:-bars_back] - values[bars_back:]
        distance -= mean_distance[bars_back:]
        distance *= distance
        result[bars_back:] += distance
    return result


def sum_before(values: Values, bars: int) -> Values:
    """Σ value of k bars before, k = 1 to `bars`: the row itself is not in it."""
    result = np.zeros(len(values))
    for bars_back in range(1, min(bars + 1, len(values))):
        result[bars_back:] += values[:-bars_back]
    return result


def running_sums(values: Values, begins: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Values:
    """Each value added to the sum so far, which begins anew where `begins` says so, as it must at the first row.

    One addition per row: going on from a sum gives the same bits. Over 400,000 stretches of one bar, which daily bars
    are, `cum_sum` over each stretch takes 0.36 s and this 0.013 s; over stretches of 78 bars both take 5 ms.
    """
    result = values.copy()
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, len(values)))
    # All stretches take a step at a time, so that it costs the same in many short ones as in few long ones.
    longest_first = np.argsort(-lengths, kind="stable")
    starts, lengths = starts[longest_first], lengths[longest_first]
    for step in range(1, int(lengths[0]) if len(lengths) else 0):
        rows = starts[: np.searchsorted(-lengths, -step)] + step
        result[rows] += result[rows - 1]
    return result


def is_full(bars: int) -> pl.Expr:
    """True where the symbol has `bars` rows up to and with this one, in a frame that is sorted by symbol."""
    return place() >= bars
