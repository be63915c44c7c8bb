"""The base of clients whose vendor answers one symbol per call: the order of calls, and the handling of failures.

A vendor's module spells the symbols and turns one `SeriesQuery` into pages of bars.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec
import polars as pl

from ema_assets.model.errors import MalformedAnswer, ProviderError, UnknownSymbol
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers.declaration import Provider
from ema_assets.providers.fetching.base import (
    NO_ACTIONS,
    NO_BARS,
    BarRequest,
    FetchBatch,
    SeriesFailure,
    without_calls,
)
from ema_assets.providers.fetching.frames import ranges
from ema_assets.providers.fetching.workers import side_by_side
from ema_assets.providers.http.calls import CallSource
from ema_assets.providers.http.circuit_breaker import CircuitBreaker, CircuitOpen

Clock = Callable[[], datetime]
# The object that makes the calls of a client.
Source = TypeVar("Source", bound=CallSource[Any, Any])
Decoded = TypeVar("Decoded")


def utc_now() -> datetime:
    """Return the machine's time, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """A query for one series over `[start, end)`, UTC, in the vendor's spelling, and the requests that it answers."""

    symbol: str
    timeframe: Timeframe
    start: datetime
    end: datetime
    requests: tuple[BarRequest, ...]

    def ranges(self) -> pl.DataFrame:
        """Return the requested ranges as `frames.only_asked` takes them."""
        return ranges((self.symbol, request) for request in self.requests)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the answer to one query.

    Attributes:
        bars: BAR_SCHEMA.
        complete_through: up to when the vendor has all trades, UTC; None if it did not say.
        actions: ACTION_SCHEMA, corporate actions that the vendor sent with the bars.
    """

    bars: pl.DataFrame
    complete_through: datetime | None = None
    actions: pl.DataFrame = field(default_factory=lambda: NO_ACTIONS)


@dataclass(frozen=True, slots=True)
class _Round:
    """A round of calls of one fetch. `left` are the queries that were not made because the circuit opened, and why."""

    breaker: CircuitBreaker
    left: dict[SeriesQuery, ProviderError] = field(default_factory=dict)


class SingleSymbolClient(ABC, Generic[Source]):
    """A client whose vendor answers one symbol per call. Calls run concurrently over persistent connections.

    `clock` decides which bars have closed.
    """

    def __init__(self, provider: Provider[Any], http: Source, clock: Clock) -> None:
        self.name = provider.name
        self._provider = provider
        self._http = http
        self._clock = clock

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, host={self._http.host!r})"

    @property
    def calls(self) -> int:
        """The number of HTTP requests so far, retries included."""
        return self._http.calls

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def fetch(self, requests: Sequence[BarRequest]) -> AsyncIterator[FetchBatch]:
        """Yield the bars of `requests`, a page of one series at a time; short ranges come first.

        A bar belongs to a request if its `ts` is in `[start, end)`. A request for times before the vendor's history is
        completed without bars. When calls in a row failed, these may be symbols that fail by themselves, so what was
        left out because of them is requested after them: if some calls were answered, or else once from the other end.

        Raises:
            ValueError: for a timeframe that is rolled up, or times without a zone; never a ProviderError.
        """
        answered, asked = without_calls(requests, self._provider)
        if answered.completed or answered.failures:
            yield answered
        queries = self._plan(asked)
        may_turn = True
        while queries:
            round_ = _Round(CircuitBreaker())
            async with aclosing(
                side_by_side(queries, partial(self._run, round_), self._http.limits.max_concurrency)
            ) as batches:
                async for batch in batches:
                    yield batch
            queries = list(round_.left)
            if may_turn and round_.breaker.is_refused_at_first(self.name):
                queries.reverse()
            elif not round_.breaker.is_opened_by_calls(self.name):
                for query, error in round_.left.items():
                    yield _failed(query, error)
                return
            may_turn = False

    def _plan(self, requests: Sequence[BarRequest]) -> list[SeriesQuery]:
        by_series: dict[tuple[Instrument, Timeframe], list[BarRequest]] = {}
        for request in requests:
            by_series.setdefault((request.instrument, request.timeframe), []).append(request)
        queries = [
            SeriesQuery(
                self.vendor_symbol(instrument),
                timeframe,
                min(request.start for request in mine).astimezone(UTC),
                max(request.end for request in mine).astimezone(UTC),
                tuple(mine),
            )
            for (instrument, timeframe), mine in by_series.items()
        ]
        # Short ranges first, so that bars that have just closed do not wait for a backfill.
        return sorted(queries, key=lambda query: (query.end - query.start) / query.timeframe.duration)

    async def _run(self, round_: _Round, query: SeriesQuery) -> AsyncGenerator[FetchBatch, None]:
        page: Page | None = None
        try:
            async with aclosing(self.pages(query, round_.breaker)) as pages:
                async for following in pages:
                    if page is not None and len(page.bars):
                        yield FetchBatch(page.bars, (), ())
                    page = following
        except CircuitOpen as stop:
            # Bars must not be received twice, so a query that has begun is not made again.
            if page is None:
                round_.left[query] = stop.error
            else:
                yield _failed(query, stop.error)
        except ProviderError as error:
            round_.breaker.failed(self.name, error)
            yield _failed(query, _naming(query, error))
        else:
            page = page or Page(NO_BARS)
            through = page.complete_through
            said = {} if through is None else dict.fromkeys(query.requests, through)
            yield FetchBatch(page.bars, query.requests, (), said, page.actions)

    @abstractmethod
    def vendor_symbol(self, instrument: Instrument) -> str:
        """Return the vendor's spelling of a symbol."""

    @abstractmethod
    def pages(self, query: SeriesQuery, breaker: CircuitBreaker) -> AsyncGenerator[Page, None]:
        """Yield the bars of `query`, no bar twice, until all are received.

        `complete_through` and `actions` count only on the last page, for the whole query.

        Raises:
            ProviderError: when the bars cannot be received, for whatever reason.
        """

    def malformed(self, query: SeriesQuery, what: str) -> MalformedAnswer:
        """Return the error for an answer that is not bars."""
        return MalformedAnswer(
            f"{self.name} sent an answer for {query.symbol} that is not bars: {what}",
            provider=self.name,
            symbol=query.symbol,
        )

    def decoded(self, query: SeriesQuery, decode: Callable[[bytes], Decoded], body: bytes) -> Decoded:
        """Decode `body` with a decoder of msgspec.

        Raises:
            MalformedAnswer: when the decoder cannot read it.
        """
        try:
            return decode(body)
        except msgspec.DecodeError as error:
            raise self.malformed(query, str(error)) from None
        except RecursionError:
            raise self.malformed(query, "JSON nested too deep") from None

    def unknown(self, query: SeriesQuery, said: str) -> UnknownSymbol:
        """Return the error for a symbol that the vendor does not have."""
        return UnknownSymbol(
            f"{self.name} has no symbol {query.symbol!r}: {said}", provider=self.name, symbol=query.symbol
        )


def _failed(query: SeriesQuery, error: ProviderError) -> FetchBatch:
    return FetchBatch(NO_BARS, (), tuple(SeriesFailure(request, error) for request in query.requests))


def _naming(query: SeriesQuery, error: ProviderError) -> ProviderError:
    """Return `error` with the symbol of `query` if it is an unreadable answer that names no symbol yet."""
    if isinstance(error, MalformedAnswer) and error.symbol is None:
        return type(error)(f"{error} ({query.symbol})", provider=error.provider, symbol=query.symbol)
    return error
