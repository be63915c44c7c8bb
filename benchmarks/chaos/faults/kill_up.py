"""SIGKILL of `up` itself, and a new start."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.killing import kill
from benchmarks.chaos.world import World, wait_for
from ema_assets.runtime.postgres.server import EmbeddedServer

_SECONDS = 120.0


@contextmanager
def _cause(world: World, chance: Random) -> Iterator[Sequence[str]]:
    time.sleep(chance.uniform(0, 5))
    process = world.up.process
    assert process is not None
    kill(process.pid)
    process.wait(timeout=10)
    server = EmbeddedServer(world.up.home / "postgres")
    wait_for(lambda: not world.up.pids("") and not server.is_running(), _SECONDS, "the guard stops what `up` started")
    world.say("`up` killed; its guard has stopped all else")
    world.up.start()
    world.say("`up` started again")
    yield ()


FAULT = Fault(
    name="kill-up",
    does="SIGKILL of `up`; started again by hand once nothing is left",
    heals="the guard stops what was left; the next `up` goes on with the data",
    cause=_cause,
)
