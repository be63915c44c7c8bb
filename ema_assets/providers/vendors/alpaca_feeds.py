"""Which of Alpaca's feeds is asked for which bars, and how the parts of a request become one again. No calls here.

The free plan has the consolidated tape (SIP) as well, but not the last 15 minutes of it: those it has of IEX alone,
which is one exchange and 2 % of the volume. A request that reaches into them is asked for in two parts.

Sources: "About Market Data API" (historical data delay of the free plan) and "Market Data FAQ" of docs.alpaca.markets,
and what Alpaca answered the users of alpacahq/alpaca-trade-api-python: it goes by the `end` of a request.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from ema_assets.providers.fetching.base import BarRequest, FetchBatch, SeriesFailure

SIP = "sip"
# The vendor's 15 minutes, and one for clocks that differ and calls that take their time.
DELAY = timedelta(minutes=16)
# By how much the bars of a feed are behind the market.
FEED_DELAYS: Mapping[str | None, timedelta] = {"delayed_sip": timedelta(minutes=15)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def begin_of_recent(request: BarRequest, now: datetime) -> datetime:
    """From which opening time on the bars of `request` are too recent for the free plan's SIP history.

    Within `[request.start, request.end]`; the end when all of them are old enough.
    """
    past = now - DELAY
    if request.timeframe.is_session:
        # A session is over when a request for its bar ends, long before the day is that the bar is labelled with.
        recent = request.end if request.end <= past else past - request.timeframe.duration
    else:
        # The last close that is past, which is the next one's opening time: neither part is without a bar.
        recent = past - (past - _EPOCH) % request.timeframe.duration
    return min(max(recent, request.start), request.end)


@dataclass(slots=True)
class _Whole:
    """A request that is asked for in parts, of which some are not answered yet."""

    request: BarRequest
    parts_left: int
    is_failed: bool = False


class Parts:
    """Requests as they are asked for: their parts by feed, and back from the answers about those.

    `recent_feed` is that of the newest bars. `now` is None when there is one feed for all.
    """

    def __init__(self, requests: Sequence[BarRequest], recent_feed: str, now: datetime | None) -> None:
        # By identity: two requests may be equal, and each is answered once. A part is kept, so that its id is its own.
        self._wholes: dict[int, _Whole] = {}
        self._parts: list[BarRequest] = []
        old, recent = ([], list(requests)) if now is None else self.divided(requests, now)
        self.by_feed: dict[str, list[BarRequest]] = {SIP: old}
        self.by_feed.setdefault(recent_feed, []).extend(recent)

    def divided(self, requests: Iterable[BarRequest], now: datetime) -> tuple[list[BarRequest], list[BarRequest]]:
        """`requests`, or parts of some, as they are before their recent bars at `now`, and from these on."""
        old: list[BarRequest] = []
        recent: list[BarRequest] = []
        for request in requests:
            border = begin_of_recent(request, now)
            if border in (request.start, request.end):
                (recent if border == request.start else old).append(request)
                continue
            whole = self._wholes.pop(id(request), None) or _Whole(request, parts_left=1)
            whole.parts_left += 1
            for side, part in ((old, replace(request, end=border)), (recent, replace(request, start=border))):
                side.append(part)
                self._parts.append(part)
                self._wholes[id(part)] = whole
        return old, recent

    def joined(self, batch: FetchBatch) -> FetchBatch:
        """`batch`, which is about parts, as it is about the requests: complete with the last part, failed with one."""
        completed: list[BarRequest] = []
        for part in batch.completed:
            whole = self._wholes.get(id(part))
            if whole is None:
                completed.append(part)
                continue
            whole.parts_left -= 1
            if whole.parts_left == 0 and not whole.is_failed:
                completed.append(whole.request)
        failures: list[SeriesFailure] = []
        for failure in batch.failures:
            whole = self._wholes.get(id(failure.request))
            if whole is None:
                failures.append(failure)
            elif not whole.is_failed:
                whole.is_failed = True
                failures.append(SeriesFailure(whole.request, failure.error))
        return replace(batch, completed=tuple(completed), failures=tuple(failures))
