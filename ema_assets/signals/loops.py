"""Kernels of signals: plain loops over the bars of each series, as model/kernels.py wants them."""

from math import isnan
from typing import Any

_NAN = float("nan")


def average(values: Any, begins: Any, carried: Any, alpha: float, seeds: int, skipped: int, averages: Any) -> None:
    """average_t = average_(t-1) + alpha · (value_t - average_(t-1)), for one series after the other.

    Args:
        values: one per bar; NaN for a bar that is not averaged.
        begins: the row of the first bar of each series, and one more for the end.
        carried: the average before the first bar of each series; NaN to begin with the mean of `seeds` values.
        alpha: the weight of a new value.
        seeds: how many values there are in the mean; it stands at the last of them.
        skipped: how many bars come before the first of these.
        averages: gets one per bar, NaN for none.
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
                # As polars divides by a number.
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
    """On which side `fast` lies of `slow`, and where that changes: 1 above, -1 below, 0 for unknown.

    Args:
        fast: one per bar; NaN for unknown. `slow` likewise.
        begins: the row of the first bar of each series, and one more for the end.
        carried: the trend before the first bar of each series.
        since_before: how many bars before that bar the last flip was; -1 when there was none.
        trends: gets the trend at each bar; where both are equal the one before goes on.
        flips: gets the trend where it has become another one, else 0. The first trend of a series is not a flip.
        since: gets how many bars ago the last flip was, 0 at a flip; -1 before the first.
        spreads: gets how far `fast` is from `slow`, in percent of it; NaN where it is not above zero.
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
