"""The kernel of rollups: one plain loop over the bars of each series; see model/kernels.py."""

from math import isnan
from typing import Any


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
    """Put the bars of each series into the buckets of its calendar. Bars that no bucket holds are left out.

    Args:
        moments: the opening time of each bar; `highs`, `lows` and `volumes` likewise, NaN for none.
        begins: the row of the first bar of each series, and one more for the end.
        grid_firsts: the first bucket of the calendar of each series in the grid; `grid_ends` the one after its last.
        starts: when each bucket of the grid begins; `ends` when it ends.
        buckets: gets for each bucket that holds bars its place in the grid.
        firsts: gets the row of its first bar.
        traded: gets the number of its bars; `high`, `low` and `volume` their highest, their lowest and their sum.
        count: its only element gets the number of these buckets.
    """
    number = -1
    for series in range(len(begins) - 1):
        first, last = grid_firsts[series], grid_ends[series] - 1
        place, held_by = first - 1, -1
        for row in range(begins[series], begins[series + 1]):
            moment = moments[row]
            if place < first:
                place = _last_begun(starts, first, last, moment)
            while place < last and starts[place + 1] <= moment:
                place += 1
            if place < first or moment >= ends[place]:
                continue
            if place != held_by:
                number, held_by = number + 1, place
                buckets[number], firsts[number], traded[number] = place, row, 1
                high[number], low[number], volume[number] = highs[row], lows[row], volumes[row]
                continue
            traded[number] += 1
            if highs[row] > high[number] or isnan(high[number]):
                high[number] = highs[row]
            if lows[row] < low[number] or isnan(low[number]):
                low[number] = lows[row]
            volume[number] += volumes[row]
    count[0] = number + 1


def _last_begun(starts: Any, first: int, last: int, moment: int) -> int:
    """The last of the buckets from `first` to `last` that begins at `moment` or before; `first` - 1 without one."""
    before, after = first - 1, last + 1
    while after - before > 1:
        middle = (before + after) // 2
        if starts[middle] <= moment:
            before = middle
        else:
            after = middle
    return before
