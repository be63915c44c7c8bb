"""Fixtures of the tests of the sandbox: one server on a real socket, with its clock and faults reset for each test."""

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.sandbox.server import RunningSandbox, running_sandbox

with warnings.catch_warnings():
    # alpaca-py imports websockets.legacy, which warns at import that it is deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import alpaca.data  # noqa: F401

# A Wednesday in the middle of a New York session.
MIDDAY = datetime(2026, 7, 15, 18, 3, tzinfo=UTC)
UNIVERSE = (
    Instrument("AAPL"),
    Instrument("BRK.B"),
    Instrument("MSFT"),
    Instrument("BTC-USD", ALWAYS_OPEN),
    Instrument("DOGE-USD", ALWAYS_OPEN),
)


class VirtualClock:
    """A market clock that shows the time to which it was set."""

    def __init__(self) -> None:
        self.now = MIDDAY

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="session")
def _served() -> Iterator[tuple[RunningSandbox, VirtualClock]]:
    clock = VirtualClock()
    with running_sandbox(UNIVERSE, 7, clock=clock) as sandbox:
        yield sandbox, clock


@pytest.fixture
def clock(_served: tuple[RunningSandbox, VirtualClock]) -> VirtualClock:
    _served[1].now = MIDDAY
    return _served[1]


@pytest.fixture
def sandbox(_served: tuple[RunningSandbox, VirtualClock], clock: VirtualClock) -> RunningSandbox:
    _served[0].handle.faults.clear()
    _served[0].handle.stats.reset()
    return _served[0]


@pytest.fixture
def client(sandbox: RunningSandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sandbox.base_url, trust_env=False, timeout=60) as client:
        yield client
