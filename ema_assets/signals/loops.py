"""Kernels of signals: plain loops over the bars of each series, as model/kernels.py requires them."""

from math import isnan
from typing import Any

_NAN = float("nan")


def average(values: Any, begins: Any, carried: Any, alpha: float, seeds: int, skipped: int, averages: Any) -> None:
    """Compute average_t = average_(t-1) + alpha · (value_t - average_(t-1)), for one series after the other.

    Args:
        values: One value per bar; NaN for a bar that is not averaged.
        begins: The row of the first bar of each series, and the number of rows.
        carried: The average before the first bar of each series; NaN to begin with the mean of `seeds` values.
        alpha: The weight of a new value.
        seeds: The number of values in that mean, which is the average at the last of them.
        skipped: The number of bars before the first of these values.
        averages: Filled with one average per bar, NaN for none.
    """
    for series in range(len(begins) - 1):
        first, now, total = begins[series], carried[series], 0.0
        seeded_at = first - 1 if not isnan(now) else first + skipped + seeds - 1
        for row in range(first, begins[series + 1]):
            value = values[row]
            if isnan(value):
                averages[row] = _NAN
                continue
            if row <= seeded_at:
                if row >= first + skipped:
                    total += value
                if row < seeded_at:
                    averages[row] = _NAN
                    continue
                # The division as polars does it for a column and a number.
                value = total * (1.0 / seeds)
            now = value if isnan(now) else now + alpha * (value - now)
            averages[row] = now


def trend(  # noqa: PLR0913, PLR0917 - columns, which a record would only hide
    fast: Any,
    slow: Any,
    begins: Any,
    carried: Any,
    since_before: Any,
    trends: Any,
    flips: Any,
    since: Any,
    spreads: Any,
) -> None:
    """Compute the trend and its flips. The trend is 1 when `fast` is above `slow`, -1 when it is below, 0 when unknown.

    Args:
        fast: The faster average, one value per bar, NaN for unknown; `slow` likewise.
        begins: The row of the first bar of each series, and the number of rows.
        carried: The trend before the first bar of each series.
        since_before: How many bars before the previous bar the last flip was; -1 when there was none.
        trends: Filled with the trend at each bar. It keeps its value while both are equal.
        flips: Filled with the trend on bars where it changes, else 0. The first trend of a series is not a flip.
        since: Filled with how many bars ago the last flip was: 0 at a flip, -1 before the first one.
        spreads: Filled with (`fast` - `slow`) in percent of `slow`; NaN where `slow` is not above zero.
    """
    for series in range(len(begins) - 1):
        now, bars_ago = carried[series], since_before[series]
        for row in range(begins[series], begins[series + 1]):
            before, quick, calm = now, fast[row], slow[row]
            if quick > calm:
                now = 1
            elif quick < calm:
                now = -1
            has_flipped = before not in (now, 0)
            if has_flipped:
                bars_ago = 0
            elif bars_ago >= 0:
                bars_ago += 1
            trends[row] = now
            flips[row] = now if has_flipped else 0
            since[row] = bars_ago
            spreads[row] = (quick - calm) / calm * 100 if calm > 0 else _NAN
