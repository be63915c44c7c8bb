"""The exchange changes a bar of each symbol after its close."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from random import Random

from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.world import World, spelt
from ema_assets.sandbox.faults import CorrectedBar

# The last 5m bar of a day in New York, of a day with an early close, and of a pair: hour and minute, UTC, in winter.
_LAST_BARS = {(20, 55), (17, 55), (23, 55)}
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Correction:
    """A bar that the exchange changed after its close."""

    number: int
    symbol: str
    ts: datetime
    close: float


def correct_a_bar(world: World, symbol: str, share: float = 0.3) -> Correction | None:
    """Let the exchange change the newest stored bar of `symbol`, within its high and low; None where it cannot be."""
    found = world.sql(
        "SELECT ts, high, low, close FROM market.ohlc_5m WHERE symbol = $1 ORDER BY ts DESC LIMIT 1", symbol
    )
    if found.is_empty():
        return None
    ts, high, low, close = found.row(0)
    changed = round(low + (high - low) * share, 4)
    # When nobody requests the last bar of a day again the correction is withdrawn, but its 1d bar would contain it.
    if (ts.hour, ts.minute) in _LAST_BARS or not low <= changed <= high or changed == close:
        return None
    number = world.sandbox.handle.faults.add(CorrectedBar(symbols=[spelt(symbol)], ts=ts, close=changed))
    return Correction(number, symbol, ts, changed)


def unseen(world: World, corrections: Sequence[Correction]) -> list[Correction]:
    """Those whose bar was not requested again since."""
    return [
        each
        for each in corrections
        if world.sql("SELECT close FROM market.ohlc_5m WHERE symbol = $1 AND ts = $2", each.symbol, each.ts).item()
        != each.close
    ]


@contextmanager
def _cause(world: World, chance: Random) -> Iterator[Sequence[str]]:
    asked = [correct_a_bar(world, symbol, chance.uniform(0.2, 0.8)) for symbol in world.symbols]
    made = [each for each in asked if each is not None]
    yield ()
    deadline = time.monotonic() + _SECONDS
    while (left := unseen(world, made)) and time.monotonic() < deadline:
        time.sleep(1)
    for each in left:
        # Nobody can know of it: a session has ended, and the bar is asked for again when the next one begins.
        world.sandbox.handle.faults.clear(each.number)
    world.say(f"{len(made) - len(left)} bars corrected, {len(left)} corrections withdrawn: their bar was not asked for")


FAULT = Fault(
    name="corrections",
    does="the exchange changes the newest bar of each symbol after its close",
    heals="the bar is requested again with the next one; what rests on it is computed again",
    cause=_cause,
)
