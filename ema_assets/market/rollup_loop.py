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
            # A bar that begins with the next bucket is no longer of this one, wherever this one ends.
            if place < last and starts[place + 1] < closes_at:
                closes_at = starts[place + 1]
            highest, lowest, total = -_INFINITY, _INFINITY, volumes[row]
            while True:
                # Of what is no number neither is above or below anything.
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
    """The last of the buckets from `first` to `last` that begins at `moment` or before; `first` - 1 without one."""
    before, after = first - 1, last + 1
    while after - before > 1:
        middle = (before + after) // 2
        if starts[middle] <= moment:
            before = middle
        else:
            after = middle
    return before
