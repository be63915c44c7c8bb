"""Answers lack one symbol: the others must not suffer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.world import World, spelt
from ema_assets.sandbox.faults import MissingSymbol


@contextmanager
def _cause(world: World, chance: Random) -> Iterator[Sequence[str]]:
    victim = chance.choice(world.pairs)
    with world.exchange_fault(MissingSymbol(symbols=[spelt(victim)])):
        world.say(f"answers lack {victim}")
        yield [symbol for symbol in world.symbols if symbol != victim]


FAULT = Fault(
    name="silent-symbol",
    does="answers lack one symbol for 50 s",
    heals="its bars are requested again; the others stay fresh meanwhile",
    cause=_cause,
    seconds=50.0,
)
