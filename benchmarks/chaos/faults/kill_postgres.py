"""SIGKILL of PostgreSQL: crash recovery, and everybody's connections are gone."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.killing import kill
from benchmarks.chaos.world import World, wait_for
from ema_assets.runtime.postgres.server import EmbeddedServer

_SECONDS = 120.0


def kill_postgres(world: World) -> None:
    """Kill the postmaster, and wait until `up` has started another one."""
    server = EmbeddedServer(world.up.home / "postgres")
    pid, began = server.pid, time.monotonic()
    assert pid is not None
    kill(pid)
    wait_for(lambda: server.pid not in (None, pid), _SECONDS, "another PostgreSQL")
    world.say(f"PostgreSQL killed (pid {pid}), another one started after {time.monotonic() - began:.1f} s")


@contextmanager
def _cause(world: World, chance: Random) -> Iterator[Sequence[str]]:
    time.sleep(chance.uniform(0, 5))
    kill_postgres(world)
    yield ()


FAULT = Fault(
    name="kill-postgres",
    does="SIGKILL of the postmaster",
    heals="`up` starts PostgreSQL again on the same port; steps are tried again, or the sweep takes up their series",
    cause=_cause,
)
