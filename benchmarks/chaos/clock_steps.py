"""Steps of the machine's clock, for `up` and all that it starts, by a small library that is preloaded (clock_steps.c).

It is compiled when it is needed, and reads the step from a file four times per second. Nobody else's clock is touched.
The embedded PostgreSQL is started without it: it is the host with the right time.
"""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random

from benchmarks.chaos.world import World
from ema_assets_tests.timeframes import M5

_SOURCE = Path(__file__).with_suffix(".c")


def variables(file: Path) -> dict[str, str] | None:
    """What the environment of `up` needs so that `file` steps its clock; None where nothing compiles C."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = file.with_suffix(".so")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)], check=True)
    file.write_text("0\n")
    return {"LD_PRELOAD": str(library), "CLOCK_STEPS": str(file)}


def why_not(world: World) -> str | None:
    return None if world.steps_clock else "there is no C compiler `cc` for the library that steps the clock"


def stepping(sign: int) -> Callable[[World, Random], AbstractContextManager[Sequence[str]]]:
    """Step the clock by 15 to 40 s, forward for 1 and back for -1, and to the true time at the end."""

    @contextmanager
    def cause(world: World, chance: Random) -> Iterator[Sequence[str]]:
        assert world.steps_clock is not None
        seconds = sign * round(chance.uniform(15, 40))
        world.steps_clock.write_text(f"{seconds:+d}\n")
        world.say(f"the clock steps by {seconds:+d} s, which are {seconds * world.speed / 60:+.0f} minutes of market")
        try:
            yield ()
        finally:
            world.steps_clock.write_text("0\n")
        world.say("the clock steps to the true time")
        if seconds > 0:
            # Dagster 1.13 evaluates no sensor and no schedule before the time of its last tick has come once more.
            time.sleep(seconds)
            world.say("Dagster's last tick is no longer in the future")
            # What was asked for too early is asked for again with the next bar.
            time.sleep(M5.duration.total_seconds() / world.speed)

    return cause
