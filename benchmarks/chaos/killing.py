"""What the faults share that kill a process."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from random import Random

from benchmarks.chaos.world import World, wait_for

_SECONDS = 120.0


def kill(pid: int) -> None:
    """Send SIGKILL; a process that has just ended is as dead."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def killing(words: str, title: str) -> Callable[[World, Random], AbstractContextManager[Sequence[str]]]:
    """Kill one of the processes of `up` whose command line holds `words`, at a random moment."""

    @contextmanager
    def cause(world: World, chance: Random) -> Iterator[Sequence[str]]:
        time.sleep(chance.uniform(0, 5))
        wait_for(lambda: world.up.pids(words), _SECONDS, f"{title} to kill")
        pid = chance.choice(world.up.pids(words))
        kill(pid)
        world.say(f"{title} killed (pid {pid})")
        yield ()

    return cause
