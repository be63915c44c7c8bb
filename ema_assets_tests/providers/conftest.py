"""Fixtures and helpers of the tests of providers: the sandbox on a real socket, complete fetches, scripted vendors."""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ema_assets.model.errors import ProviderError
from ema_assets.model.schemas import BAR_SCHEMA
from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers import alpaca as alpaca_provider
from ema_assets.providers import binance as binance_provider
from ema_assets.providers import coinbase as coinbase_provider
from ema_assets.providers import yahoo as yahoo_provider
from ema_assets.providers.fetching.base import BarRequest, FetchBatch, ProviderClient
from ema_assets.providers.http.budget import Budget, HttpLimits
from ema_assets.providers.http.source import HttpOptions
from ema_assets.providers.vendors.alpaca import AlpacaClient
from ema_assets.providers.vendors.binance import BinanceClient
from ema_assets.providers.vendors.coinbase import CoinbaseClient
from ema_assets.providers.vendors.yahoo import YahooClient
from ema_assets.sandbox.server import RunningSandbox, running_sandbox, serving
from ema_assets_tests.timeframes import M5
from ema_assets_tests.waiting import LeapingLoop

# A Wednesday in the middle of a New York session.
MIDDAY = datetime(2026, 7, 15, 18, 3, tzinfo=UTC)
STOCKS = tuple(Instrument(f"S{chr(65 + i // 26)}{chr(65 + i % 26)}") for i in range(90))
PAIRS = tuple(Instrument(f"C{chr(65 + i)}-USD", ALWAYS_OPEN) for i in range(10))
# Retries with almost no pause. A healthy server answers within a minute even on a busy machine.
QUICK = HttpLimits(requests_per_minute=10_000, backoff_seconds=0.01, answer_timeout_seconds=60, waiting_seconds=5)


@dataclass(frozen=True)
class Fetched:
    """The complete result of one fetch."""

    batches: list[FetchBatch]
    bars: pl.DataFrame
    completed: list[BarRequest]
    complete_through: dict[BarRequest, datetime]
    errors: dict[str, ProviderError]
    calls: int

    def only_error(self) -> ProviderError:
        (error,) = set(self.errors.values())
        return error


async def collect(provider: ProviderClient, requests: Sequence[BarRequest]) -> Fetched:
    before = provider.calls
    batches = [batch async for batch in provider.fetch(requests)]
    for batch in batches:
        assert batch.bars.schema == BAR_SCHEMA
        assert batch.bars.equals(batch.bars.sort("symbol", "ts"))
    completed = [request for batch in batches for request in batch.completed]
    failures = [failure for batch in batches for failure in batch.failures]
    answered = completed + [failure.request for failure in failures]
    assert sorted(map(repr, answered)) == sorted(map(repr, requests)), "each request ends exactly once"
    return Fetched(
        batches=batches,
        bars=pl.concat([BAR_SCHEMA.to_frame(), *(batch.bars for batch in batches)]),
        completed=completed,
        complete_through={request: at for batch in batches for request, at in batch.complete_through.items()},
        errors={str(failure.request.series): failure.error for failure in failures},
        calls=provider.calls - before,
    )


def alpaca(
    base_url: str,
    key_id: str | None = "the-key-id",
    secret_key: str | None = "the-secret",
    *,
    limits: HttpLimits = QUICK,
    budget: Budget | None = None,
    feed: str = "iex",
    history_feed: str = "iex",
    clock: Callable[[], datetime] = lambda: MIDDAY,
    symbols_per_call: int = 200,
    page_limit: int = 10_000,
) -> AlpacaClient:
    config = alpaca_provider.AlpacaConfig(
        base_url=base_url, key_id=key_id, secret_key=secret_key, feed=feed, history_feed=history_feed
    )
    provider = replace(alpaca_provider.PROVIDER, symbols_per_call=symbols_per_call)
    return AlpacaClient(provider, config, HttpOptions(limits=limits, budget=budget), page_limit, clock)


def yahoo(
    base_url: str,
    *,
    limits: HttpLimits = QUICK,
    budget: Budget | None = None,
    clock: Callable[[], datetime] = lambda: MIDDAY,
) -> ProviderClient:
    config = yahoo_provider.YahooConfig(base_url=base_url)
    return YahooClient(yahoo_provider.PROVIDER, config, HttpOptions(limits=limits, budget=budget), clock)


def binance(
    base_url: str,
    *,
    limits: HttpLimits = QUICK,
    budget: Budget | None = None,
    clock: Callable[[], datetime] = lambda: MIDDAY,
) -> ProviderClient:
    config = binance_provider.BinanceConfig(base_url=base_url)
    return BinanceClient(binance_provider.PROVIDER, config, HttpOptions(limits=limits, budget=budget), clock)


def coinbase(
    base_url: str,
    *,
    limits: HttpLimits = QUICK,
    budget: Budget | None = None,
    clock: Callable[[], datetime] = lambda: MIDDAY,
) -> ProviderClient:
    config = coinbase_provider.CoinbaseConfig(base_url=base_url)
    return CoinbaseClient(coinbase_provider.PROVIDER, config, HttpOptions(limits=limits, budget=budget), clock)


def fetch(
    base_url: str,
    requests: Sequence[BarRequest],
    opened: Callable[..., ProviderClient] = alpaca,
    loop: asyncio.AbstractEventLoop | None = None,
    **options: Any,
) -> Fetched:
    """Run one complete fetch with a new client. `loop` is closed afterwards."""

    async def run() -> Fetched:
        provider = opened(base_url, **options)
        try:
            return await collect(provider, requests)
        finally:
            await provider.aclose()

    with asyncio.Runner(loop_factory=None if loop is None else lambda: loop) as runner:
        return runner.run(run())


def ask(
    instruments: Sequence[Instrument], start: datetime, end: datetime = MIDDAY, timeframe: Timeframe = M5
) -> list[BarRequest]:
    return [BarRequest(instrument, timeframe, start, end) for instrument in instruments]


def expected(sandbox: RunningSandbox, request: BarRequest) -> pl.DataFrame:
    """Return the bars of a request from the market itself, without HTTP."""
    bars = sandbox.handle.market.bars(
        request.instrument,
        request.timeframe.minutes,
        int(request.start.timestamp()),
        int(request.end.timestamp()) - 1,
        int(MIDDAY.timestamp()),
        100_000,
    )
    return pl.DataFrame(
        {"ts": bars.ts, "open": bars.open, "high": bars.high, "close": bars.close, "volume": bars.volume}
    )


def assert_exact(
    sandbox: RunningSandbox, requests: Sequence[BarRequest], bars: pl.DataFrame, *, tolerance: float = 1e-8
) -> None:
    """Assert that each requested series has exactly the bars of the market.

    Volumes may differ by `tolerance`: Binance sends eight decimals.
    """
    for request in requests:
        mine = bars.filter(pl.col("symbol") == request.instrument.symbol, pl.col("timeframe") == request.timeframe.key)
        got = mine.select(pl.col("ts").dt.epoch("s"), "open", "high", "close", "volume")
        wanted = expected(sandbox, request)
        assert_frame_equal(got.drop("volume"), wanted.drop("volume"), check_exact=True)
        assert_frame_equal(got.select("volume"), wanted.select("volume"), rel_tol=0, abs_tol=tolerance)


class Reset(Response):
    """Sends half of the body, then resets the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": bytes(self.body)[: len(self.body) // 2], "more_body": True})
        await asyncio.sleep(0.01)
        transport = scope["transport"]
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class Drip(Response):
    """Sends the body one byte at a time, for longer than a client waits for an answer.

    `waiting` is the client's loop. A client waits for ten minutes, and every byte advances the loop's clock by two.
    """

    def __init__(self, body: str, waiting: LeapingLoop) -> None:
        super().__init__(body)
        self._waiting = waiting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for at in range(5):
            await send({"type": "http.response.body", "body": bytes(self.body)[at : at + 1], "more_body": True})
            self._waiting.leap(120)
            await asyncio.sleep(0.01)
        # The client disconnects. If it does not, it receives a cut body.
        with suppress(TimeoutError):
            await asyncio.wait_for(_left(receive), 60)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class NotedBudget:
    """A budget that lets every request through, counts them and records the pauses that the vendor asked for."""

    def __init__(self) -> None:
        self.taken = 0
        self.pauses: list[float] = []

    async def take(self) -> None:
        """Count the call and return at once."""
        self.taken += 1

    def close_for(self, seconds: float) -> None:
        if seconds > 0:
            self.pauses.append(seconds)


class _Scripted:
    """A vendor that answers with one function. Tests share it, because starting and stopping a server takes 0.2 s."""

    def __init__(self) -> None:
        self.answer: Callable[[Request], Response] | None = None
        self.seen: list[Request] = []
        self._routes = Starlette(routes=[Route("/{path:path}", self.handle)])
        self.base_url = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Only uvicorn's own `send`, before Starlette wraps it, gives access to the connection.
        scope["transport"] = send.__self__.transport  # type: ignore[attr-defined]
        await self._routes(scope, receive, send)

    async def handle(self, request: Request) -> Response:
        assert self.answer is not None
        self.seen.append(request)
        return self.answer(request)


_idle: list[_Scripted] = []
_servers = ExitStack()


@contextmanager
def vendor(answer: Callable[[Request], Response]) -> Iterator[tuple[str, list[Request]]]:
    """Serve `answer` on a real socket; yield the base URL and the list of requests received so far."""
    if _idle:
        scripted = _idle.pop()
    else:
        scripted = _Scripted()
        scripted.base_url = _servers.enter_context(serving(scripted))
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
