"""Requests for bars, their answers, and the protocol of all clients of providers. No HTTP here."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import polars as pl

from ema_assets.model.errors import ProviderError, RequestRefused
from ema_assets.model.schemas import ACTION_SCHEMA, BAR_SCHEMA
from ema_assets.model.symbols import Instrument, Series
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers.declaration import Provider

NO_BARS = BAR_SCHEMA.to_frame()
NO_ACTIONS = ACTION_SCHEMA.to_frame()


@dataclass(frozen=True, slots=True)
class BarRequest:
    """All bars of one series whose opening time is in `[start, end)`, both UTC and timezone-aware."""

    instrument: Instrument
    timeframe: Timeframe
    start: datetime
    end: datetime

    @property
    def series(self) -> Series:
        """The requested series."""
        return Series(self.instrument.symbol, self.timeframe)


@dataclass(frozen=True, slots=True)
class SeriesFailure:
    """One request that could not be answered, and the reason."""

    request: BarRequest
    error: ProviderError


@dataclass(frozen=True, slots=True)
class FetchBatch:
    """A part of the answer to a fetch.

    Attributes:
        bars: BAR_SCHEMA, sorted by symbol and ts, with the values that the vendor sent, unchecked. All times are inside
            the requests.
        completed: the requests that are completely answered by this part and the parts before it. In a whole fetch each
            request is in exactly one `completed` or one `failures`.
        failures: the requests that could not be answered.
        complete_through: by completed request, the time (UTC) up to which the vendor said that it has all trades, if it
            said so. It is later than the end of the request if nothing is missing.
        actions: ACTION_SCHEMA, corporate actions that the vendor sent with the bars.
    """

    bars: pl.DataFrame
    completed: tuple[BarRequest, ...]
    failures: tuple[SeriesFailure, ...]
    complete_through: Mapping[BarRequest, datetime] = field(default_factory=dict)
    actions: pl.DataFrame = field(default_factory=lambda: NO_ACTIONS)


class ProviderClient(Protocol):
    """A client that requests bars from one provider. One object serves one event loop and is closed with `aclose`."""

    name: str

    @property
    def calls(self) -> int:
        """The number of calls so far, retries included."""
        ...

    def fetch(self, requests: Sequence[BarRequest]) -> AsyncIterator[FetchBatch]:
        """Yield the bars of all `requests`, in parts of bounded size, in as few calls as the provider allows.

        The failure of a symbol does not affect others. Never raises a ProviderError: failures are in the parts.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


def without_calls(requests: Sequence[BarRequest], provider: Provider[Any]) -> tuple[FetchBatch, list[BarRequest]]:
    """Return the answer to the `requests` that need no call, and the other requests.

    An empty range is completed without bars. A timeframe that `provider` does not serve is a failure.

    Raises:
        ValueError: for a timeframe that is rolled up and not the provider's long history, or times without a zone.
    """
    words = provider.words
    for request in requests:
        _check(request, words)
    empty = tuple(request for request in requests if request.start >= request.end)
    asked = [request for request in requests if request.start < request.end]
    failures = tuple(
        SeriesFailure(request, _not_served(request, provider))
        for request in asked
        if request.timeframe.key not in words
    )
    return FetchBatch(NO_BARS, empty, failures), [each for each in asked if each.timeframe.key in words]


def _check(request: BarRequest, words: Mapping[str, str]) -> None:
    if not request.timeframe.is_fetched and request.timeframe.key not in words:
        raise ValueError(
            f"`timeframe` must be one of {', '.join(words)}, received {request.timeframe.key} "
            f"({request.series}): the others are rolled up"
        )
    if request.start.tzinfo is None or request.end.tzinfo is None:
        raise ValueError(f"`start` and `end` must have a time zone ({request.series})")


def _not_served(request: BarRequest, provider: Provider[Any]) -> RequestRefused:
    return RequestRefused(
        f"{provider.name} has no {request.timeframe.key} bars; it serves {', '.join(provider.timeframes)}",
        provider=provider.name,
        symbol=request.instrument.symbol,
    )
