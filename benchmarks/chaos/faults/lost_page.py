"""Answers that are well-formed and lack their later half, as when a page is lost."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.world import World, spelt
from ema_assets.sandbox.faults import HalfAnswer


@contextmanager
def _cause(world: World, chance: Random) -> Iterator[Sequence[str]]:
    names = [spelt(symbol) for symbol in world.symbols]
    with world.exchange_fault(HalfAnswer(symbols=names, times=chance.randint(3, 8))):
        yield ()


FAULT = Fault(
    name="lost-page",
    does="3 to 8 answers are well-formed and lack their later half, within 20 s",
    heals="a bar that has not come is requested again",
    cause=_cause,
    seconds=20.0,
)
