"""The provider takes its time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.world import World
from ema_assets.sandbox.faults import Delay


@contextmanager
def _cause(world: World, chance: Random) -> Iterator[Sequence[str]]:
    with world.exchange_fault(Delay(seconds=chance.uniform(5, 15))):
        yield ()


FAULT = Fault(
    name="slow-answers",
    does="every answer comes 5 to 15 s late, for 30 s",
    heals="runs take longer; closes that come meanwhile are one run",
    cause=_cause,
    seconds=30.0,
)
