"""What every market data provider looks like from outside. No HTTP here; vendors live beside this file."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import polars as pl

from ema_assets.model.errors import ProviderError
from ema_assets.model.symbols import Instrument, Series
from ema_assets.model.timeframes import FETCHED, Timeframe

# Column order and dtypes of every frame of bars that leaves a provider. `ts` is the bar's opening time in UTC.
RAW_BAR_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "timeframe": pl.String(),
        "ts": pl.Datetime("us", "UTC"),
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Float64(),
    }
)


@dataclass(frozen=True, slots=True)
class BarRequest:
    """All bars of one series whose opening time is in `[start, end)`, both UTC and timezone-aware."""

    instrument: Instrument
    timeframe: Timeframe
    start: datetime
    end: datetime

    @property
    def series(self) -> Series:
        """The series asked for."""
        return Series(self.instrument.symbol, self.timeframe)


def check_request(request: BarRequest) -> None:
    """Refuse what no provider is ever asked for.

    Raises:
        ValueError: for a timeframe that is rolled up, or times without a zone.
    """
    if not request.timeframe.is_fetched:
        raise ValueError(
            f"`timeframe` must be one of {', '.join(each.key for each in FETCHED)}, received {request.timeframe.value} "
            f"({request.series}): the others are rolled up"
        )
    if request.start.tzinfo is None or request.end.tzinfo is None:
        raise ValueError(f"`start` and `end` must have a time zone ({request.series})")


@dataclass(frozen=True, slots=True)
class SeriesFailure:
    """One request that could not be answered, and why."""

    request: BarRequest
    error: ProviderError


@dataclass(frozen=True, slots=True)
class FetchBatch:
    """A part of the answer to a fetch.

    `bars` follows RAW_BAR_SCHEMA, sorted by symbol and ts, as the vendor sent them: unchecked values, and only
    timestamps inside the requests. `completed` are the requests answered to the end by this part together with
    the parts before it; a request is in exactly one `completed` or one `failures` of a whole fetch.
    """

    bars: pl.DataFrame
    completed: tuple[BarRequest, ...]
    failures: tuple[SeriesFailure, ...]


class Provider(Protocol):
    """A source of bars. One object serves one event loop and is closed with `aclose`."""

    name: str
    is_synthetic: bool

    @property
    def calls(self) -> int:
        """HTTP requests sent so far, retries included."""
        ...

    def fetch(self, requests: Sequence[BarRequest]) -> AsyncIterator[FetchBatch]:
        """Yield the bars of all `requests`, in parts of bounded size, in as few calls as the vendor allows.

        A failure of one symbol costs only that symbol. Never raises a ProviderError: failures are in the parts.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...
