"""A second `up` with another EMA_HOME on the database of the first, by mistake."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.world import UP_SECONDS, Up, World, wait_for
from ema_assets.runtime.services import free_port


@contextmanager
def _cause(world: World, chance: Random) -> Iterator[Sequence[str]]:  # noqa: ARG001 - as every cause
    home = world.folder / "second"
    home.mkdir(exist_ok=True)
    shutil.copy(world.up.home / "watchlist.toml", home)
    second = Up(home, free_port(), {**world.up.env, "EMA_HOME": str(home), "EMA_DATABASE_URL": world.url})
    try:
        second.launch()
        wait_for(lambda: "Dagster UI" in second.said() or not second.is_running(), UP_SECONDS, "a second `up`")
        how = "runs" if second.is_running() else f"has refused: {second.said().strip().splitlines()[-1]}"
        world.say(f"a second `up` on the same database {how}")
        yield ()
    finally:
        second.stop()
    world.say("the second `up` has ended")


FAULT = Fault(
    name="two-stacks",
    does="a second `up` with another EMA_HOME works on the same database for 20 s",
    heals="each run locks its series; what one has done the other finds fresh",
    cause=_cause,
    seconds=20.0,
)
