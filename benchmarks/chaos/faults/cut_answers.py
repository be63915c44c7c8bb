"""Answers end in the middle of their body."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.world import World
from ema_assets.sandbox.faults import CutBody


@contextmanager
def _cause(world: World, chance: Random) -> Iterator[Sequence[str]]:
    with world.exchange_fault(CutBody(times=chance.randint(3, 8))):
        yield ()


FAULT = Fault(
    name="cut-answers",
    does="3 to 8 answers end in the middle of their body, within 20 s",
    heals="the call is tried again; nothing of half an answer is stored",
    cause=_cause,
    seconds=20.0,
)
