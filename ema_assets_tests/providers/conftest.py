"""The sandbox on a real socket, and helpers to run a whole fetch and to script a hostile vendor."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ema_assets.errors import ProviderError
from ema_assets.keys import ALWAYS_OPEN, Instrument
from ema_assets.providers.alpaca import AlpacaProvider
from ema_assets.providers.base import RAW_BAR_SCHEMA, BarRequest, FetchBatch
from ema_assets.providers.http import HttpLimits
from ema_assets.sandbox.server import RunningSandbox, running_sandbox, serving
from ema_assets.timeframes import Timeframe

# A Wednesday in the middle of a New York session.
MIDDAY = datetime(2026, 7, 15, 18, 3, tzinfo=UTC)
STOCKS = tuple(Instrument(f"S{chr(65 + i // 26)}{chr(65 + i % 26)}") for i in range(90))
PAIRS = tuple(Instrument(f"C{chr(65 + i)}-USD", ALWAYS_OPEN) for i in range(10))
# Retries without the waiting.
QUICK = HttpLimits(requests_per_minute=10_000, backoff_seconds=0.01, answer_timeout_seconds=5, waiting_seconds=5)


@dataclass(frozen=True)
class Fetched:
    """Everything one fetch gave."""

    batches: list[FetchBatch]
    bars: pl.DataFrame
    completed: list[BarRequest]
    errors: dict[str, ProviderError]
    calls: int

    def only_error(self) -> ProviderError:
        (error,) = set(self.errors.values())
        return error


async def collect(provider: AlpacaProvider, requests: Sequence[BarRequest]) -> Fetched:
    before = provider.calls
    batches = [batch async for batch in provider.fetch(requests)]
    for batch in batches:
        assert batch.bars.schema == RAW_BAR_SCHEMA
        assert batch.bars.equals(batch.bars.sort("symbol", "ts"))
    completed = [request for batch in batches for request in batch.completed]
    failures = [failure for batch in batches for failure in batch.failures]
    answered = completed + [failure.request for failure in failures]
    assert sorted(map(repr, answered)) == sorted(map(repr, requests)), "each request ends exactly once"
    return Fetched(
        batches=batches,
        bars=pl.concat([RAW_BAR_SCHEMA.to_frame(), *(batch.bars for batch in batches)]),
        completed=completed,
        errors={str(failure.request.series): failure.error for failure in failures},
        calls=provider.calls - before,
    )


def fetch(base_url: str, requests: Sequence[BarRequest], **options: Any) -> Fetched:
    """One whole fetch by a provider of its own."""

    async def run() -> Fetched:
        provider = AlpacaProvider(base_url, "the-key-id", "the-secret", **{"limits": QUICK, **options})
        try:
            return await collect(provider, requests)
        finally:
            await provider.aclose()

    return asyncio.run(run())


def ask(
    instruments: Sequence[Instrument], start: datetime, end: datetime = MIDDAY, timeframe: Timeframe = Timeframe.M5
) -> list[BarRequest]:
    return [BarRequest(instrument, timeframe, start, end) for instrument in instruments]


class _Scripted:
    """A vendor of one function, which every test replaces: starting and stopping a server takes 0.2 seconds."""

    def __init__(self) -> None:
        self.answer: Callable[[Request], Response] | None = None
        self.seen: list[dict[str, str]] = []
        self.app = Starlette(routes=[Route("/{path:path}", self.handle)])
        self.base_url = ""

    async def handle(self, request: Request) -> Response:
        assert self.answer is not None
        self.seen.append(dict(request.query_params))
        return self.answer(request)


_idle: list[_Scripted] = []
_servers = ExitStack()


@contextmanager
def vendor(answer: Callable[[Request], Response]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A vendor of one function on a real socket: its base URL, and the parameters of every request so far."""
    if _idle:
        scripted = _idle.pop()
    else:
        scripted = _Scripted()
        scripted.base_url = _servers.enter_context(serving(scripted.app))
    scripted.answer, scripted.seen = answer, []
    try:
        yield scripted.base_url, scripted.seen
    finally:
        scripted.answer = None
        _idle.append(scripted)


@pytest.fixture(scope="session", autouse=True)
def _stop_vendors() -> Iterator[None]:
    yield
    _idle.clear()
    _servers.close()


@pytest.fixture(scope="session")
def _served() -> Iterator[RunningSandbox]:
    with running_sandbox([*STOCKS, *PAIRS], 7, clock=lambda: MIDDAY) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_served: RunningSandbox) -> RunningSandbox:
    _served.handle.faults.clear()
    _served.handle.stats.reset()
    return _served
