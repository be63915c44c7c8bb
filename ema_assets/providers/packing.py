"""Which requests share a call. Pure arithmetic; sending the calls is the vendor's module.

A vendor's call takes many symbols but one range, so a symbol that needs sixty days should not make ninety-nine
others fetch sixty days, and ninety-nine that need two bars should not cost a call each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ema_assets.providers.base import BarRequest
from ema_assets.timeframes import Timeframe

# More distinct starts than this are rounded down together first; the search below is quadratic in them.
_MAX_STARTS = 64
_SESSION_MINUTES = 390  # of the exchanges whose hours we estimate by; a wrong guess costs a page, not a bar


@dataclass(frozen=True, slots=True)
class Call:
    """Requests of one timeframe that are asked for together, over `[start, end)`."""

    timeframe: Timeframe
    start: datetime
    end: datetime
    requests: tuple[BarRequest, ...]
    expected_rows: int


def expected_bars(request: BarRequest, start: datetime) -> int:
    """About how many bars `request` would bring if it began at `start`; never less than 1."""
    span = max(request.end - start, timedelta())
    days = span / timedelta(days=1)
    if request.timeframe is Timeframe.D1:
        bars = days + 1
    else:
        bars = span / request.timeframe.duration
        if not request.instrument.is_crypto:
            bars = min(bars, (days + 1) * _SESSION_MINUTES / request.timeframe.minutes)
    if not request.instrument.is_crypto and days > 7:
        bars *= 5 / 7
    return max(1, math.ceil(bars))


def pack(
    requests: Sequence[BarRequest], *, symbols_per_call: int, page_limit: int, pages_per_call: int
) -> list[Call]:
    """Group requests of one timeframe and one endpoint into calls, cheapest overall; smallest calls first.

    The cost is a page for each `page_limit` rows, at least one a call, plus the transfer of the rows. A call is kept
    to about `pages_per_call` pages, because its pages follow each other while calls run side by side.
    """
    if not requests:
        return []
    clusters = _by_start(requests)
    calls: list[Call] = []
    for group in _cheapest_split(clusters, symbols_per_call, page_limit):
        calls.extend(_cut(group, symbols_per_call, page_limit * pages_per_call))
    return sorted(calls, key=lambda call: call.expected_rows)


def _by_start(requests: Sequence[BarRequest]) -> list[list[BarRequest]]:
    """Requests by equal start, ascending; neighbouring starts are merged when there are too many."""
    clusters: dict[datetime, list[BarRequest]] = {}
    for request in sorted(requests, key=lambda r: r.start):
        clusters.setdefault(request.start, []).append(request)
    found = list(clusters.values())
    if len(found) <= _MAX_STARTS:
        return found
    width = math.ceil(len(found) / _MAX_STARTS)
    return [sum(found[i : i + width], []) for i in range(0, len(found), width)]


def _cheapest_split(
    clusters: list[list[BarRequest]], symbols_per_call: int, page_limit: int
) -> list[list[BarRequest]]:
    """Cut the ascending starts into runs of least total cost, by dynamic programming over the cut points."""
    best: list[float] = [0.0]
    cut: list[int] = [0]
    for stop in range(1, len(clusters) + 1):
        rows = count = 0
        least, at = math.inf, stop - 1
        last_of = {id(r): r for cluster in clusters[:stop] for r in cluster}
        for first in range(stop - 1, -1, -1):
            start = clusters[first][0].start
            members = [r for cluster in clusters[first:stop] for r in cluster]
            count = len(members)
            rows = sum(expected_bars(r, start) for r in members)
            pages = max(math.ceil(count / symbols_per_call), math.ceil(rows / page_limit))
            cost = best[first] + pages + rows / page_limit
            if cost < least:
                least, at = cost, first
        best.append(least)
        cut.append(at)
        del last_of
    groups: list[list[BarRequest]] = []
    stop = len(clusters)
    while stop:
        groups.append([r for cluster in clusters[cut[stop] : stop] for r in cluster])
        stop = cut[stop]
    return groups[::-1]
