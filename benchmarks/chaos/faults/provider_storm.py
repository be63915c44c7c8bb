"""The provider refuses every call: 429 without a word when to come back, and pages of errors from a gateway."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.world import World
from ema_assets.sandbox.faults import AnyFault, RateLimit, ServerError


@contextmanager
def _cause(world: World, chance: Random) -> Iterator[Sequence[str]]:
    faults = world.sandbox.handle.faults
    kinds: list[AnyFault] = [
        RateLimit(headers=False, times=8),
        ServerError(status=503, html=True, times=8),
        ServerError(status=500),
    ]
    chance.shuffle(kinds)
    numbers = [faults.add(kind) for kind in kinds]
    yield ()
    acted = sum(each["acted"] for each in faults.report() if each["id"] in numbers)
    for number in numbers:
        faults.clear(number)
    world.say(f"the provider has refused {acted} calls")


FAULT = Fault(
    name="provider-storm",
    does="every call is refused for 20 s: 429, 503 as a page of HTML, 500",
    heals="calls are tried again; then the series fail, and are tried again after a pause",
    cause=_cause,
    seconds=20.0,
)
