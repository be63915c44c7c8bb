"""Divides requests among Alpaca's feeds and joins the parts of their answers again. No calls here.

The free plan includes the consolidated tape (SIP) except the last 15 minutes. For these it has only IEX, one exchange
with 2 % of the volume. A request that reaches into them is divided into two parts.

Sources: "About Market Data API" (historical data delay of the free plan) and "Market Data FAQ" of docs.alpaca.markets,
and Alpaca's answers to users of alpacahq/alpaca-trade-api-python: the `end` of a request decides.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from ema_assets.providers.fetching.base import BarRequest, FetchBatch, SeriesFailure

SIP = "sip"
# The vendor's 15 minutes, plus one for clock differences and the duration of calls.
DELAY = timedelta(minutes=16)
# How far the bars of a feed are behind the market.
FEED_DELAYS: Mapping[str | None, timedelta] = {"delayed_sip": timedelta(minutes=15)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def begin_of_recent(request: BarRequest, now: datetime) -> datetime:
    """Return the opening time from which on the bars of `request` are too recent for the free plan's SIP history.

    It is within `[request.start, request.end]`, and the end if all bars are old enough.
    """
    past = now - DELAY
    if request.timeframe.is_session:
        # The request for a session's bar ends after the session, but long before the end of the day of the bar's label.
        recent = request.end if request.end <= past else past - request.timeframe.duration
    else:
        # The last close in the past, which is the opening time of the next bar, so that neither part is empty.
        recent = past - (past - _EPOCH) % request.timeframe.duration
    return min(max(recent, request.start), request.end)


@dataclass(slots=True)
class _Whole:
    """A request that was divided into parts, some of which are not answered yet."""

    request: BarRequest
    parts_left: int
    is_failed: bool = False


class Parts:
    """Requests divided into parts by feed; it also joins the answers about the parts.

    `recent_feed` is the feed of the newest bars. `now` is None if one feed has all bars.
    """

    def __init__(self, requests: Sequence[BarRequest], recent_feed: str, now: datetime | None) -> None:
        # By id: two requests may be equal, and each is answered once. The parts are kept, so that no id is reused.
        self._wholes: dict[int, _Whole] = {}
        self._parts: list[BarRequest] = []
        old, recent = ([], list(requests)) if now is None else self.divided(requests, now)
        self.by_feed: dict[str, list[BarRequest]] = {SIP: old}
        self.by_feed.setdefault(recent_feed, []).extend(recent)

    def divided(self, requests: Iterable[BarRequest], now: datetime) -> tuple[list[BarRequest], list[BarRequest]]:
        """Divide `requests` at their recent bars as of `now`; return the requests or parts before, and from there."""
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
        """Return `batch` with requests instead of parts: completed with their last part, failed with any part."""
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
