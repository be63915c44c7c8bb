"""The file system of the database is full, and then has room again."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

from benchmarks.chaos.declaration import Fault
from benchmarks.chaos.tmpfs import resize
from benchmarks.chaos.world import World


def _why_not(world: World) -> str | None:
    return None if world.tmpfs else "a file system of a few megabytes can be mounted by root only"


@contextmanager
def _cause(world: World, chance: Random) -> Iterator[Sequence[str]]:  # noqa: ARG001 - as every cause
    assert world.tmpfs is not None
    seen = os.statvfs(world.tmpfs)
    used = (seen.f_blocks - seen.f_bfree) * seen.f_frsize
    resize(world.tmpfs, used)
    world.say(f"the disk is full ({used // 2**20} MB)")
    try:
        yield ()
    finally:
        resize(world.tmpfs)
    world.say("the disk has room again")


FAULT = Fault(
    name="disk-full",
    does="the file system of the database has no byte left for 20 s",
    heals="transactions are rolled back; a run that was created and not queued is failed after two minutes",
    cause=_cause,
    seconds=20.0,
    why_not=_why_not,
)
