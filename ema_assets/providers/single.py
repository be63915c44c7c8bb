"""What vendors have in common whose call answers one symbol: who is asked in which order, and what a failure costs.

A vendor's module says how a symbol is spelt, and turns one `Ask` into pages of bars.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from ema_assets.model.errors import MalformedAnswer, ProviderError, UnknownSymbol
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers.base import BarRequest, FetchBatch, SeriesFailure, check_request
from ema_assets.providers.frames import NO_BARS, ranges
from ema_assets.providers.http import Blown, Fuse, HttpSource
from ema_assets.providers.workers import side_by_side

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Ask:
    """One series over `[start, end)`, UTC, in the vendor's spelling, and the requests that it answers."""

    symbol: str
    timeframe: Timeframe
    start: datetime
    end: datetime
    requests: tuple[BarRequest, ...]

    def ranges(self) -> pl.DataFrame:
        """What the requests want, as `frames.only_asked` takes it."""
        return ranges((self.symbol, request) for request in self.requests)


class SingleSymbolProvider(ABC):
    """A Provider whose vendor answers one symbol a call. Calls run side by side over connections that are kept.

    `clock` tells which bars have closed.
    """

    def __init__(self, http: HttpSource, *, is_synthetic: bool, clock: Clock) -> None:
        self.name = http.name
        self.is_synthetic = is_synthetic
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
        for request in requests:
            check_request(request)
        nothing = tuple(request for request in requests if request.start >= request.end)
        if nothing:
            yield FetchBatch(NO_BARS, nothing, ())
        fuse = Fuse()
        asks = self._plan([request for request in requests if request.start < request.end])
        async with aclosing(
            side_by_side(asks, lambda ask: self._run(ask, fuse), self._http.limits.max_concurrency)
        ) as batches:
            async for batch in batches:
                yield batch

    def _plan(self, requests: Sequence[BarRequest]) -> list[Ask]:
        by_series: dict[tuple[Instrument, Timeframe], list[BarRequest]] = {}
        for request in requests:
            by_series.setdefault((request.instrument, request.timeframe), []).append(request)
        asks = [
            Ask(
                self.vendor_symbol(instrument),
                timeframe,
                min(request.start for request in mine).astimezone(UTC),
                max(request.end for request in mine).astimezone(UTC),
                tuple(mine),
            )
            for (instrument, timeframe), mine in by_series.items()
        ]
        # So that the bars just closed do not wait behind a backfill.
        return sorted(asks, key=lambda ask: (ask.end - ask.start) / ask.timeframe.duration)

    async def _run(self, ask: Ask, fuse: Fuse) -> AsyncIterator[FetchBatch]:
        page = NO_BARS
        try:
            async for following in self.pages(ask, fuse):
                if len(page):
                    yield FetchBatch(page, (), ())
                page = following
        except Blown as stop:
            yield _failed(ask, stop.error)
        except ProviderError as error:
            fuse.failed(self.name, error)
            yield _failed(ask, _naming(ask, error))
        else:
            yield FetchBatch(page, ask.requests, ())

    @abstractmethod
    def vendor_symbol(self, instrument: Instrument) -> str:
        """The vendor's spelling of a symbol."""

    @abstractmethod
    def pages(self, ask: Ask, fuse: Fuse) -> AsyncIterator[pl.DataFrame]:
        """Yield the bars of `ask` in RAW_BAR_SCHEMA, no bar twice, and end when all have come.

        Raises:
            ProviderError: for whatever keeps the bars from coming.
        """

    def malformed(self, ask: Ask, what: str) -> MalformedAnswer:
        """The error of an answer that is not bars."""
        return MalformedAnswer(
            f"{self.name} sent an answer for {ask.symbol} that is not bars: {what}",
            provider=self.name,
            symbol=ask.symbol,
        )

    def unknown(self, ask: Ask, said: str) -> UnknownSymbol:
        """The error of a symbol that the vendor does not have."""
        return UnknownSymbol(f"{self.name} has no symbol {ask.symbol!r}: {said}", provider=self.name, symbol=ask.symbol)


def _failed(ask: Ask, error: ProviderError) -> FetchBatch:
    return FetchBatch(NO_BARS, (), tuple(SeriesFailure(request, error) for request in ask.requests))


def _naming(ask: Ask, error: ProviderError) -> ProviderError:
    """An unreadable answer is one symbol's, also where it broke before it was parsed."""
    if isinstance(error, MalformedAnswer) and error.symbol is None:
        return type(error)(f"{error} ({ask.symbol})", provider=error.provider, symbol=ask.symbol)
    return error
