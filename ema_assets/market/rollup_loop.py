"""The kernel of rollups: one plain loop over the bars of each series; see model/kernels.py."""

from typing import Any

_NAN, _INFINITY = float("nan"), float("inf")


def gather(  # noqa: PLR0913, PLR0917 - columns, which a record would only hide
    moments: Any,
    highs: Any,
    lows: Any,
    volumes: Any,
    begins: Any,
    grid_firsts: Any,
    grid_ends: Any,
    starts: Any,
    ends: Any,
    buckets: Any,
    firsts: Any,
    traded: Any,
    high: Any,
    low: Any,
    volume: Any,
    count: Any,
) -> None:
    """Put the bars of each series into the buckets of its calendar. Bars outside all buckets are left out.

    Args:
        moments: the opening time of each bar; `highs`, `lows` and `volumes` likewise, NaN for none.
        begins: the row of the first bar of each series, plus the end.
        grid_firsts: for each series, the first bucket of its calendar in the grid; `grid_ends` the one after the last.
        starts: when each bucket of the grid begins; `ends` when it ends.
        buckets: filled with the place in the grid of each bucket that has bars.
        firsts: filled with the row of the first bar of each such bucket.
        traded: filled with the number of its bars; `high`, `low` and `volume` with their maximum, minimum and sum.
        count: its only element is set to the number of such buckets.
    """
    number = 0
    for series in range(len(begins) - 1):
        first, last = grid_firsts[series], grid_ends[series] - 1
        row, end = begins[series], begins[series + 1]
        place = first - 1
        while row < end:
            moment = moments[row]
            if place < first:
                place = _last_begun(starts, first, last, moment)
            while place < last and starts[place + 1] <= moment:
                place += 1
            if place < first or moment >= ends[place]:
                row += 1
                continue
            begun, closes_at = row, ends[place]
            # A bar that begins in the next bucket does not belong to this one, even if this one ends later.
            if place < last and starts[place + 1] < closes_at:
                closes_at = starts[place + 1]
            highest, lowest, total = -_INFINITY, _INFINITY, volumes[row]
            while True:
                # Comparisons with NaN are false, so NaN is ignored.
                highest = highs[row] if highs[row] > highest else highest  # noqa: FURB136
                lowest = lows[row] if lows[row] < lowest else lowest  # noqa: FURB136
                row += 1
                if row >= end or moments[row] >= closes_at:
                    break
                total += volumes[row]
            buckets[number], firsts[number], traded[number] = place, begun, row - begun
            high[number] = highest if highest > -_INFINITY else _NAN
            low[number] = lowest if lowest < _INFINITY else _NAN
            volume[number] = total
            number += 1
    count[0] = number


def _last_begun(starts: Any, first: int, last: int, moment: int) -> int:
    """Return the last bucket from `first` to `last` that begins at `moment` or before, or `first` - 1."""
    before, after = first - 1, last + 1
    while after - before > 1:
        middle = (before + after) // 2
        if starts[middle] <= moment:
            before = middle
        else:
            after = middle
    return before
