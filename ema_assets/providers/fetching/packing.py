"""Decides which requests share a call. Pure arithmetic; clients send the calls.

A vendor's call takes many symbols but one range, so a symbol that needs 60 days should not make 99 others fetch 60
days, and 99 symbols that need two bars should not cost a call each.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ema_assets.model.timeframes import Timeframe
from ema_assets.providers.fetching.base import BarRequest

# With more distinct starts than this, neighbouring ones are merged first; the search below is quadratic in them.
_MAX_STARTS = 64
_SESSION_MINUTES = 390  # the length of a session in estimates; a wrong estimate costs a page, not a bar


@dataclass(frozen=True, slots=True)
class Call:
    """Requests of one timeframe that share a call over `[start, end)`."""

    timeframe: Timeframe
    start: datetime
    end: datetime
    requests: tuple[BarRequest, ...]
    expected_rows: int


def expected_bars(request: BarRequest, start: datetime) -> int:
    """Return roughly how many bars `request` would yield if it began at `start`; at least 1."""
    return _bars_in(request.end - start, request.timeframe, around_the_clock=request.instrument.is_crypto)


def _bars_in(span: timedelta, timeframe: Timeframe, *, around_the_clock: bool) -> int:
    days = max(span, timedelta()) / timedelta(days=1)
    bars = days * 24 * 60 / timeframe.minutes
    if timeframe.is_session:
        bars += 1
    elif not around_the_clock:
        bars = min(bars, (days + 1) * _SESSION_MINUTES / timeframe.minutes)
    if not around_the_clock and days > 7:
        bars *= 5 / 7
    return max(1, math.ceil(bars))


def pack(requests: Sequence[BarRequest], *, symbols_per_call: int, page_limit: int, pages_per_call: int) -> list[Call]:
    """Group requests of one timeframe and one endpoint into calls, cheapest overall; smallest calls first.

    The cost is one page per `page_limit` rows, at least one per call, plus the transfer of the rows. A call is limited
    to about `pages_per_call` pages, because its pages are fetched in sequence, while calls run concurrently.
    """
    if not requests:
        return []
    clusters = _by_start(requests)
    calls: list[Call] = []
    for group in _cheapest_split(clusters, symbols_per_call, page_limit):
        calls.extend(_cut(group, symbols_per_call, page_limit * pages_per_call))
    return sorted(calls, key=lambda call: call.expected_rows)


def _by_start(requests: Sequence[BarRequest]) -> list[list[BarRequest]]:
    """Return requests grouped by equal start, ascending; neighbouring starts are merged if there are too many."""
    clusters: dict[datetime, list[BarRequest]] = {}
    for request in sorted(requests, key=lambda r: r.start):
        clusters.setdefault(request.start, []).append(request)
    by_start = list(clusters.values())
    if len(by_start) <= _MAX_STARTS:
        return by_start
    width = math.ceil(len(by_start) / _MAX_STARTS)
    return [list(itertools.chain(*by_start[i : i + width])) for i in range(0, len(by_start), width)]


def _cheapest_split(clusters: list[list[BarRequest]], symbols_per_call: int, page_limit: int) -> list[list[BarRequest]]:
    """Cut the ascending starts into runs of least total cost, by dynamic programming over the cut points."""
    best = [0.0]
    cut = [0]
    for stop in range(1, len(clusters) + 1):
        least, at = math.inf, stop - 1
        count, end = 0, clusters[stop - 1][0].end
        for first in range(stop - 1, -1, -1):
            count += len(clusters[first])
            end = max(end, *(request.end for request in clusters[first]))
            sample = clusters[first][0]
            rows = count * _bars_in(end - sample.start, sample.timeframe, around_the_clock=sample.instrument.is_crypto)
            pages = max(math.ceil(count / symbols_per_call), math.ceil(rows / page_limit))
            cost = best[first] + pages + rows / page_limit
            if cost < least:
                least, at = cost, first
        best.append(least)
        cut.append(at)
    groups: list[list[BarRequest]] = []
    stop = len(clusters)
    while stop:
        groups.append([request for cluster in clusters[cut[stop] : stop] for request in cluster])
        stop = cut[stop]
    return groups[::-1]


def _cut(group: list[BarRequest], symbols_per_call: int, rows_per_call: int) -> list[Call]:
    """Spread a group over calls of a bounded number of symbols and rows; all requests of a symbol share one."""
    by_symbol: dict[str, list[BarRequest]] = {}
    for request in sorted(group, key=lambda r: r.instrument.symbol):
        by_symbol.setdefault(request.instrument.symbol, []).append(request)
    start = min(request.start for request in group)
    calls: list[Call] = []
    members: list[BarRequest] = []
    symbols = rows = 0

    def close() -> None:
        nonlocal members, symbols, rows
        if members:
            first, last = min(r.start for r in members), max(r.end for r in members)
            calls.append(Call(members[0].timeframe, first, last, tuple(members), rows))
        members, symbols, rows = [], 0, 0

    for mine in by_symbol.values():
        expected = max(expected_bars(request, start) for request in mine)
        if symbols == symbols_per_call or rows + expected > rows_per_call:
            close()
        members.extend(mine)
        symbols += 1
        rows += expected
    close()
    return calls
