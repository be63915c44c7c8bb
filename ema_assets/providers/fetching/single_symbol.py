"""The base of clients whose vendor answers one symbol per call: the order of calls, and what a failure costs.

A vendor's module says how a symbol is spelt, and turns one `SeriesQuery` into pages of bars.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
# What makes its calls.
Source = TypeVar("Source", bound=CallSource[Any, Any])
Decoded = TypeVar("Decoded")


def utc_now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """One series over `[start, end)`, UTC, in the vendor's spelling, and the requests that it answers."""

    symbol: str
    timeframe: Timeframe
    start: datetime
    end: datetime
    requests: tuple[BarRequest, ...]

    def ranges(self) -> pl.DataFrame:
        """What the requests want, as `frames.only_asked` takes it."""
        return ranges((self.symbol, request) for request in self.requests)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the answer to one query: bars in BAR_SCHEMA, and what the vendor said beside them.

    That is up to when it has all trades, and corporate actions in ACTION_SCHEMA.
    """

    bars: pl.DataFrame
    complete_through: datetime | None = None
    actions: pl.DataFrame = field(default_factory=lambda: NO_ACTIONS)


class SingleSymbolClient(ABC, Generic[Source]):
    """A client whose vendor answers one symbol per call. Calls run side by side over connections that are kept.

    `clock` tells which bars have closed.
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
        """HTTP requests sent so far, retries included."""
        return self._http.calls

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def fetch(self, requests: Sequence[BarRequest]) -> AsyncIterator[FetchBatch]:
        """Yield the bars of `requests`, a page of one series at a time; short ranges go first.

        A bar belongs to a request when its `ts` is in `[start, end)`. What the vendor does not reach back to is
        completed without bars.

        Raises:
            ValueError: for a timeframe that is rolled up, or times without a zone; never a ProviderError.
        """
        answered, asked = without_calls(requests, self._provider)
        if answered.completed or answered.failures:
            yield answered
        breaker = CircuitBreaker()
        async with aclosing(
            side_by_side(self._plan(asked), lambda query: self._run(query, breaker), self._http.limits.max_concurrency)
        ) as batches:
            async for batch in batches:
                yield batch

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
        # So that the bars just closed do not wait behind a backfill.
        return sorted(queries, key=lambda query: (query.end - query.start) / query.timeframe.duration)

    async def _run(self, query: SeriesQuery, breaker: CircuitBreaker) -> AsyncIterator[FetchBatch]:
        page = Page(NO_BARS)
        try:
            async for following in self.pages(query, breaker):
                if len(page.bars):
                    yield FetchBatch(page.bars, (), ())
                page = following
        except CircuitOpen as stop:
            yield _failed(query, stop.error)
        except ProviderError as error:
            breaker.failed(self.name, error)
            yield _failed(query, _naming(query, error))
        else:
            through = page.complete_through
            said = {} if through is None else dict.fromkeys(query.requests, through)
            yield FetchBatch(page.bars, query.requests, (), said, page.actions)

    @abstractmethod
    def vendor_symbol(self, instrument: Instrument) -> str:
        """The vendor's spelling of a symbol."""

    @abstractmethod
    def pages(self, query: SeriesQuery, breaker: CircuitBreaker) -> AsyncIterator[Page]:
        """Yield the bars of `query`, no bar twice, and end when all have come. What the last page says counts for all.

        Raises:
            ProviderError: for whatever keeps the bars from coming.
        """

    def malformed(self, query: SeriesQuery, what: str) -> MalformedAnswer:
        """The error for an answer that is not bars."""
        return MalformedAnswer(
            f"{self.name} sent an answer for {query.symbol} that is not bars: {what}",
            provider=self.name,
            symbol=query.symbol,
        )

    def decoded(self, query: SeriesQuery, decode: Callable[[bytes], Decoded], body: bytes) -> Decoded:
        """What a decoder of msgspec makes of `body`.

        Raises:
            MalformedAnswer: when it is not what the decoder reads.
        """
        try:
            return decode(body)
        except msgspec.DecodeError as error:
            raise self.malformed(query, str(error)) from None
        except RecursionError:
            raise self.malformed(query, "JSON nested too deep") from None

    def unknown(self, query: SeriesQuery, said: str) -> UnknownSymbol:
        """The error for a symbol that the vendor does not have."""
        return UnknownSymbol(
            f"{self.name} has no symbol {query.symbol!r}: {said}", provider=self.name, symbol=query.symbol
        )


def _failed(query: SeriesQuery, error: ProviderError) -> FetchBatch:
    return FetchBatch(NO_BARS, (), tuple(SeriesFailure(request, error) for request in query.requests))


def _naming(query: SeriesQuery, error: ProviderError) -> ProviderError:
    """An unreadable answer is one symbol's, also where it broke before it was parsed."""
    if isinstance(error, MalformedAnswer) and error.symbol is None:
        return type(error)(f"{error} ({query.symbol})", provider=error.provider, symbol=query.symbol)
    return error
