"""The client of Alpaca's Market Data v2 API for stocks and crypto. Budget and retries are in `http`.

One call requests many symbols; `alpaca_pages` reads its pages. Daily bars keep the vendor's `ts`: New York midnight for
stocks, UTC midnight for crypto. With feed `iex`, stock bars older than 16 minutes come from SIP: see `alpaca_feeds`.
"""

import itertools
import logging
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import polars as pl

from ema_assets.model.errors import ProviderError, RequestRefused, Unauthorized, UnknownSymbol
from ema_assets.model.symbols import Instrument
from ema_assets.providers.alpaca import AlpacaConfig
from ema_assets.providers.declaration import Provider
from ema_assets.providers.fetching.base import NO_BARS, BarRequest, FetchBatch, SeriesFailure, without_calls
from ema_assets.providers.fetching.packing import Call, pack
from ema_assets.providers.fetching.single_symbol import Clock, utc_now
from ema_assets.providers.fetching.workers import side_by_side
from ema_assets.providers.http.budget import HttpLimits
from ema_assets.providers.http.circuit_breaker import CircuitBreaker, CircuitOpen
from ema_assets.providers.http.refusals import Manners, ServerFailed
from ema_assets.providers.http.source import HttpCall, HttpOptions, HttpSource
from ema_assets.providers.vendors.alpaca_feeds import DELAY, FEED_DELAYS, SIP, Parts, begin_of_recent
from ema_assets.providers.vendors.alpaca_pages import Walk

_log = logging.getLogger(__name__)

_STOCKS, _CRYPTO = "stocks", "crypto"
_PATHS = {_STOCKS: "/v2/stocks/bars", _CRYPTO: "/v1beta3/crypto/us/bars"}
# The largest page that the vendor sends.
_PAGE_LIMIT = 10_000
# After a split or a spin-off, the vendor adjusts history, so that it has no cliff. Dividends do not change it.
_ADJUSTMENT = "split,spin-off"
# Pages of a call are fetched in sequence. Five keep the connections busy without many half-empty last pages.
_PAGES_PER_CALL = 5
# Two symbols among 200 that are refused without being named are found by bisecting 14 calls.
_MOST_BISECTED = 16
# A call at which the server has failed was tried often enough: each of its parts is tried again only once.
_ATTEMPTS_OF_PARTS = 2
_INVALID_SYMBOL = re.compile(r"invalid symbol:\s*(\S+)", re.IGNORECASE)
_RECENT_SIP = "subscription does not permit"
# No clock is ahead by more than this by accident, be it minutes of drift or the hours of a time zone.
_MOST_AHEAD = timedelta(days=1)


class _SipRefused(Unauthorized):
    """The plan lacks the SIP bars that even the free plan should have. This error never leaves this module."""


@dataclass(frozen=True, slots=True)
class _Course:
    """What the calls of one fetch share. `bisected` counts the calls that were repeated in parts."""

    parts: Parts
    breaker: CircuitBreaker
    bisected: Iterator[int]


def manners(config: AlpacaConfig) -> Manners:
    """Return the specifics of Alpaca's HTTP, with the keys of `config`, if any."""
    headers = {"Accept": "application/json"}
    if config.key_id is not None and config.secret_key is not None:
        headers |= {"APCA-API-KEY-ID": config.key_id, "APCA-API-SECRET-KEY": config.secret_key}
    secrets = tuple(secret for secret in (config.key_id, config.secret_key) if secret)
    return Manners(headers=headers, secrets=secrets)


class AlpacaClient:
    """A client of Alpaca, or of a server with its format. One object serves one event loop, closed with `aclose`.

    Without keys, only crypto or a sandbox is served. `clock` decides which bars the free plan has on which feed. If the
    plan refuses SIP, the clock may be ahead, so bars of the last day come from the configured feed from then on. If it
    refuses older bars, too, all bars do.
    """

    def __init__(
        self,
        provider: Provider[Any],
        config: AlpacaConfig,
        options: HttpOptions | None = None,
        page_limit: int = _PAGE_LIMIT,
        clock: Clock = utc_now,
    ) -> None:
        self.name = provider.name
        self._provider = provider
        self._feed = config.feed
        self._has_sip_history = (config.feed, config.history_feed) == ("iex", SIP)
        self._is_ahead = False
        self._clock = clock
        self._page_limit = page_limit
        limits = HttpLimits(requests_per_minute=config.requests_per_minute)
        self._http = HttpSource(provider.name, config.base_url, manners(config), limits, options)

    def __repr__(self) -> str:
        return f"AlpacaClient(name={self.name!r}, host={self._http.host!r})"

    @property
    def calls(self) -> int:
        """The number of HTTP requests so far, retries included."""
        return self._http.calls

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def fetch(self, requests: Sequence[BarRequest]) -> AsyncIterator[FetchBatch]:
        """Yield the bars of `requests`, a page of at most `page_limit` rows at a time, in as few calls as possible.

        Small calls and short timeframes come first. A bar belongs to a request if the vendor's `ts` is in its
        `[start, end)`. A symbol for which the vendor has no bars is completed without any.

        Raises:
            ValueError: for a timeframe that is rolled up, or times without a zone; never a ProviderError.
        """
        answered, asked = without_calls(requests, self._provider)
        if answered.completed or answered.failures:
            yield answered
        stocks, crypto = ([r for r in asked if r.instrument.is_crypto is is_crypto] for is_crypto in (False, True))
        parts = Parts(stocks, self._feed, self._clock() if self._has_sip_history else None)
        jobs = self._plan([(_STOCKS, feed, some) for feed, some in parts.by_feed.items()] + [(_CRYPTO, None, crypto)])
        course = _Course(parts, CircuitBreaker(), itertools.count())
        async with aclosing(
            side_by_side(jobs, lambda job: self._run(job, course), self._http.limits.max_concurrency)
        ) as batches:
            async for batch in batches:
                joined = parts.joined(batch)
                if len(joined.bars) or joined.completed or joined.failures:
                    yield joined

    def _plan(self, groups: Sequence[tuple[str, str | None, Sequence[BarRequest]]]) -> list["_Job"]:
        """Return the calls for requests, which are grouped by endpoint and feed."""
        jobs: list[_Job] = []
        for timeframe in sorted({request.timeframe for _, _, requests in groups for request in requests}):
            for endpoint, feed, requests in groups:
                calls = pack(
                    [request for request in requests if request.timeframe is timeframe],
                    symbols_per_call=self._provider.symbols_per_call,
                    page_limit=self._page_limit,
                    pages_per_call=_PAGES_PER_CALL,
                )
                jobs.extend(_Job(endpoint, feed, call) for call in calls)
        # Small calls first, so that bars that have just closed do not wait for a backfill.
        return sorted(jobs, key=lambda job: (job.call.expected_rows > self._page_limit, job.call.timeframe.rank))

    async def _run(self, job: "_Job", course: _Course) -> AsyncGenerator[FetchBatch, None]:
        """Request all pages of one call; in parts if it is refused, and with fewer SIP bars if these are refused."""
        again = self._with_less_sip(job, course.parts)
        if not again:
            try:
                async with aclosing(self._ask(job, course.breaker)) as batches:
                    async for batch in batches:
                        yield batch
            except _SipRefused as refused:
                self._heed(job, refused)
                again = [job]
            except (RequestRefused, ServerFailed) as error:
                again = self._divided(job, error, course)
                if not again:
                    yield job.fail(error)
                    return
        for each in again:
            async with aclosing(self._run(each, course)) as batches:
                async for batch in batches:
                    yield batch

    def _divided(self, job: "_Job", error: RequestRefused | ServerFailed, course: _Course) -> list["_Job"]:
        """Return the calls that replace one that was refused or at which the server failed; none if it is given up."""
        # A pause that the vendor demands is for all symbols.
        can_be_one_symbol = isinstance(error, RequestRefused) or not error.retry_after_seconds
        if len(job.pending) > 1 and can_be_one_symbol and next(course.bisected) < _MOST_BISECTED:
            return list(job.halves() if isinstance(error, RequestRefused) else job.parts(course.breaker))
        if not job.is_suspect:
            course.breaker.failed(job.endpoint, error)
        return []

    async def _ask(self, job: "_Job", breaker: CircuitBreaker) -> AsyncGenerator[FetchBatch, None]:
        """Request all pages of one call, and again without the symbols that the vendor rejects as malformed.

        Raises:
            RequestRefused: for a refusal that names no symbol.
            ServerFailed: for an answer of 5xx; the symbols that were complete before are no longer pending.
            _SipRefused: when the plan does not include the bars from SIP.
        """
        while job.pending:
            walk = Walk(job.pending, job.call, self.name)
            job.held.clear()
            if (hopeless := breaker.error(job.endpoint)) is not None:
                yield job.fail(hopeless)
                return
            try:
                async with aclosing(self._pages(job, walk, breaker)) as batches:
                    async for batch in batches:
                        yield batch
                return
            except CircuitOpen as stop:
                yield job.fail(stop.error)
                return
            except UnknownSymbol as error:
                if error.symbol in job.pending:
                    yield job.fail(error, error.symbol)
                    continue
                yield job.fail(error)
                return
            except _SipRefused:
                raise
            except ProviderError as error:
                if isinstance(error, ServerFailed) or (isinstance(error, RequestRefused) and not walk.has_bars):
                    raise
                breaker.failed(job.endpoint, error)
                yield job.fail(error)
                return

    async def _pages(self, job: "_Job", walk: "Walk", breaker: CircuitBreaker) -> AsyncGenerator[FetchBatch, None]:
        params = self._params(job)
        explain = partial(self._explain, params.get("feed", self._feed))
        while True:
            call = HttpCall(_PATHS[job.endpoint], params, job.endpoint, explain)
            bars, finished, token = walk.read(await self._http.get(call, breaker, job.attempts))
            breaker.answered(job.endpoint)
            if finished:
                for frame in job.held:
                    yield FetchBatch(frame, (), ())
                job.held.clear()
            begun = pl.col("symbol").is_in(job.symbols_of(walk.begun))
            job.held.append(bars.filter(begun))
            bars = bars.filter(~begun)
            for symbol in finished:
                if symbol in walk.unreadable:
                    yield job.fail(walk.unreadable[symbol], symbol)
            completed = tuple(request for symbol in finished for request in job.pending.pop(symbol, ()))
            if completed or len(bars):
                said = (
                    dict.fromkeys(completed, self._clock() - FEED_DELAYS[job.feed]) if job.feed in FEED_DELAYS else {}
                )
                yield FetchBatch(bars, completed, (), said)
            if token is None:
                return
            params["page_token"] = token

    def _params(self, job: "_Job") -> dict[str, str]:
        params = {
            "symbols": ",".join(sorted(job.pending)),
            "timeframe": self._provider.words[job.call.timeframe.key],
            "start": _rfc3339(job.call.start),
            # The vendor includes the end; the last microsecond before it makes the range half-open.
            "end": _rfc3339(job.call.end - timedelta(microseconds=1)),
            "limit": str(self._page_limit),
            "sort": "asc",
        }
        if job.feed is not None:
            feed = job.feed if self._has_sip_history else self._feed
            params |= {"feed": feed, "adjustment": _ADJUSTMENT}
        return params

    def _with_less_sip(self, job: "_Job", parts: Parts) -> list["_Job"]:
        """Return the calls that replace one for SIP bars of the last day, once these were refused; else none."""
        if job.feed != SIP or not self._has_sip_history or not self._is_ahead:
            return []
        old, recent = parts.divided(job.requests(), self._clock() - _MOST_AHEAD + DELAY)
        if not recent:
            return []
        sides = [(feed, tuple(some)) for feed, some in ((SIP, old), (self._feed, recent)) if some]
        return [job.of(feed, some) for feed, some in sides]

    def _heed(self, job: "_Job", refused: _SipRefused) -> None:
        """Request fewer SIP bars from now on. Calls that were already sent may be refused as well."""
        before = self._clock() - _MOST_AHEAD + DELAY
        if not self._has_sip_history:
            return
        if all(begin_of_recent(request, before) == request.end for request in job.requests()):
            _log.warning("%s; all bars come from the feed %s now", refused, self._feed)
            self._has_sip_history = False
        elif not self._is_ahead:
            _log.warning(
                "%s, though it is older than %d minutes by this machine's clock: if that is not ahead, the plan has no "
                "SIP at all; bars of the last day come from the feed %s now",
                refused,
                DELAY // timedelta(minutes=1),
                self._feed,
            )
            self._is_ahead = True

    def _explain(self, feed: str, status: int, said: str) -> ProviderError | None:
        if status in (400, 422) and (match := _INVALID_SYMBOL.search(said)):
            symbol = match[1].strip("\"',;")
            hint = "; class shares are spelt BRK.B and crypto pairs BTC-USD" if "-" in symbol else ""
            return UnknownSymbol(
                f"{self.name} says that {symbol!r} is not a symbol{hint}", provider=self.name, symbol=symbol
            )
        if status == 403 and _RECENT_SIP in said.lower():
            if feed != self._feed:
                return _SipRefused(
                    f"{self.name}: the plan of this key does not include what was requested from SIP ({said})",
                    provider=self.name,
                )
            return Unauthorized(
                f"{self.name}: the plan of this key does not include recent bars of the {self._feed!r} feed ({said}): "
                "set feed=iex, or ask for a plan that has them",
                provider=self.name,
            )
        return None


@dataclass(slots=True)
class _Job:
    """One call and its pending requests, neither completed nor failed, by the vendor's spelling of their symbol.

    `feed` is None if the endpoint has no feeds. It is tried at most `attempts` times. A job `is_suspect` if the vendor
    failed at a call that it is part of, and answers others: its failure does not show that the vendor is down. `held`
    has bars of the symbol that is not complete yet: a job that replaces this one requests them again.
    """

    endpoint: str
    feed: str | None
    call: Call
    is_suspect: bool = False
    attempts: int | None = None
    pending: dict[str, list[BarRequest]] = field(init=False)
    held: list[pl.DataFrame] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.pending = {}
        for request in self.call.requests:
            self.pending.setdefault(vendor_symbol(request.instrument), []).append(request)

    def halves(self) -> Iterator["_Job"]:
        """Yield two jobs, each for half of the pending symbols."""
        symbols = sorted(self.pending)
        middle = len(symbols) // 2
        return map(self._only, (symbols[:middle], symbols[middle:]))

    def parts(self, breaker: CircuitBreaker) -> Iterator["_Job"]:
        """Yield jobs that show whether the vendor is down, or fails at some of the pending symbols only.

        If it has answered another call, these are two halves. Otherwise two symbols are requested alone first: if both
        fail, the vendor counts as down, and the others are not requested. They are chosen at random, so that not every
        attempt can choose two that fail.
        """
        self.attempts = _ATTEMPTS_OF_PARTS
        if breaker.has_answered(self.endpoint):
            return (replace(half, is_suspect=True) for half in self.halves())
        symbols = random.sample(list(self.pending), len(self.pending))
        return map(self._only, filter(None, (symbols[:1], symbols[1:2], symbols[2:])))

    def symbols_of(self, vendor: str | None) -> list[str]:
        """Return the symbols of the pending requests that the vendor spells `vendor`; none for None."""
        return [request.instrument.symbol for request in self.pending.get(vendor or "", ())]

    def _only(self, symbols: Sequence[str]) -> "_Job":
        requests = tuple(request for symbol in symbols for request in self.pending[symbol])
        return replace(self, call=replace(self.call, requests=requests))

    def requests(self) -> Iterator[BarRequest]:
        """Return the pending requests."""
        return itertools.chain.from_iterable(self.pending.values())

    def of(self, feed: str, requests: tuple[BarRequest, ...]) -> "_Job":
        """Return a job for `requests`, which are pending requests or parts of them, on `feed`."""
        start, end = min(each.start for each in requests), max(each.end for each in requests)
        return replace(self, feed=feed, call=replace(self.call, requests=requests, start=start, end=end))

    def fail(self, error: ProviderError, only: str | None = None) -> FetchBatch:
        """Give up the pending requests, or those of one symbol; return their failures, and the held bars with all."""
        symbols = list(self.pending) if only is None else [only]
        failures = tuple(SeriesFailure(r, error) for symbol in symbols for r in self.pending.pop(symbol))
        return FetchBatch(pl.concat([NO_BARS, *(self.held if only is None else ())]), (), failures)


def vendor_symbol(instrument: Instrument) -> str:
    """Return the vendor's spelling: `BTC/USD` for our `BTC-USD`; stocks are spelt alike."""
    return instrument.symbol.replace("-", "/", 1) if instrument.is_crypto else instrument.symbol


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
