"""Every call that names one symbol is refused: the others must not suffer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.world import World, spelt
from ema_assets.sandbox.faults import Refuse


@contextmanager
def _cause(world: World, chance: Random) -> Iterator[Sequence[str]]:
    victim = chance.choice(world.pairs)
    with world.exchange_fault(Refuse(status=422, symbols=[spelt(victim)])):
        world.say(f"every call with {victim} is refused")
        yield [symbol for symbol in world.symbols if symbol != victim]


FAULT = Fault(
    name="poisoned-symbol",
    does="every call that names one symbol is refused with 422 for 50 s",
    heals="the call is divided until only that symbol is left; the others stay fresh meanwhile",
    cause=_cause,
    seconds=50.0,
)
