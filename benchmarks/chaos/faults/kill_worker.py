"""SIGKILL of the process of a run, in the middle of it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from random import Random

from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.killing import kill
from benchmarks.chaos.world import World
from ema_assets.model.errors import EmaAssetsError

_SECONDS = 60.0


def kill_a_worker(world: World) -> bool:
    """Kill the process of a running run; False when none is running."""
    found = world.busy_worker()
    if found is None:
        return False
    pid, kind = found
    kill(pid)
    world.say(f"worker of a run of {kind} killed (pid {pid})")
    return True


@contextmanager
def _cause(world: World, chance: Random) -> Iterator[Sequence[str]]:
    time.sleep(chance.uniform(0, 5))
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        with suppress(EmaAssetsError):
            if kill_a_worker(world):
                break
        time.sleep(0.1)
    else:
        raise TimeoutError(f"no run began within {_SECONDS:g} s")
    yield ()


FAULT = Fault(
    name="kill-worker",
    does="SIGKILL of the process of a running run",
    heals="the run fails at once, and the sweep takes up its series",
    cause=_cause,
)
