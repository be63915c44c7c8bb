"""Process families: which processes belong to a child, and how all of them are stopped. Knows no supervisor.

A family is the child, its descendants, all in their sessions and groups, and all that carry its mark in the
environment: so also daemons that left the session and the family tree.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import psutil

MARK = "EMA_SUPERVISOR_ID"
POLL_SECONDS = 0.05
TERM_SECONDS = 5.0
KILL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Family:
    """A child and how it is stopped. `identity` tells it from a later owner of its pid."""

    pid: int
    identity: int
    mark: str
    stop_signal: int
    stop_main_only: bool
    grace_seconds: float


class Process(NamedTuple):
    """Where a process belongs."""

    parent: int
    group: int
    session: int


def read(pid: int) -> Process | None:
    """What the system says of a process. None when there is none, or only its zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return Process(process.ppid(), os.getpgid(pid), os.getsid(pid))
    except (psutil.Error, OSError):
        return None


def identity(pid: int) -> int:
    """A number of a process's pid and start time, the same in every process that asks; 0 when there is none.

    psutil counts the start from boot where it can, so that setting the system's clock makes nobody a stranger.
    """
    try:
        return hash(psutil.Process(pid)) if read(pid) is not None else 0
    except psutil.Error:
        return 0


def table() -> dict[int, Process]:
    """All live processes by pid."""
    return {pid: process for pid in psutil.pids() if (process := read(pid)) is not None}


def children(pid: int) -> list[int]:
    """The living children of a process, without theirs."""
    try:
        found = psutil.Process(pid).children()
    except psutil.Error:
        return []
    return [each.pid for each in found if read(each.pid) is not None]


def marked(mark: str) -> set[int]:
    """All processes but this one that carry `mark`, or a mark below it."""
    return {pid for pid in psutil.pids() if pid != os.getpid() and _is_marked(pid, mark)}


def _is_marked(pid: int, mark: str) -> bool:
    try:
        value = str(psutil.Process(pid).environ().get(MARK, ""))
    except (psutil.Error, OSError):
        return False
    return (value == mark or value.startswith(f"{mark}.")) and read(pid) is not None


def members(family: Family) -> set[int]:
    """The living members of `family`, this process left out."""
    processes = table()
    is_reused = family.pid in processes and identity(family.pid) != family.identity
    ids = set() if is_reused else {family.pid}
    found = {pid for pid in processes if _is_marked(pid, family.mark)}
    mine = os.getpid()
    while True:
        ids |= {number for pid in found for number in (processes[pid].group, processes[pid].session)}
        ids -= {0, processes[mine].session, processes[mine].group}  # 0 stands for one outside of a container
        more = {
            pid
            for pid, process in processes.items()
            if pid in found or process.parent in found or process.group in ids or process.session in ids
        } - {mine}
        if more == found:
            return found
        found = more


def _is_there(family: Family) -> bool:
    """Whether the process that was started first still lives."""
    return family.identity != 0 and identity(family.pid) == family.identity


def send(targets: Iterable[int], number: int) -> None:
    """Send a signal to all `targets` that are still there."""
    for target in targets:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(target, number)


def _never() -> bool:
    return False


def wait_until(is_true: Callable[[], bool], seconds: float, is_hurried: Callable[[], bool] = _never) -> None:
    """Wait until something is true, for `seconds` at most, or until there is hurry."""
    deadline = time.monotonic() + seconds
    while not is_true() and not is_hurried() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def stop(family: Family, is_hurried: Callable[[], bool] = _never) -> None:
    """Ask as the family wants to be asked, then SIGTERM, then SIGKILL, each only while somebody is left."""
    left = members(family)
    if not left:
        return
    send([family.pid] if family.stop_main_only and family.pid in left else left, family.stop_signal)
    # To look at every process of the machine each time takes longer than all the rest of an `up` that ends.
    wait_until(lambda: not _is_there(family), family.grace_seconds, is_hurried)
    left = members(family)
    if left and family.pid not in left:
        # Nobody is left to see to the others: they get what it takes for them to end by themselves, no more.
        wait_until(lambda: not members(family), min(1.0, family.grace_seconds), is_hurried)
    asked_all = not family.stop_main_only and family.stop_signal == signal.SIGTERM
    left = members(family)
    if left and not (asked_all and family.pid in left):
        send(left, signal.SIGTERM)
        wait_until(lambda: not members(family), min(TERM_SECONDS, family.grace_seconds), is_hurried)
    kill(lambda: members(family))


def end(pid: int, signals: Mapping[int, float]) -> bool:
    """Send one process signals, each with the seconds that it has to work; whether the process is gone.

    Raises:
        PermissionError: when it belongs to another user.
    """
    for number, seconds in signals.items():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        wait_until(lambda: read(pid) is None, seconds)
        if read(pid) is None:
            return True
    return False


def kill(who: Callable[[], set[int]]) -> None:
    """SIGKILL until nobody is left: a process may fork between being seen and being killed."""
    deadline = time.monotonic() + KILL_SECONDS
    while (left := who()) and time.monotonic() < deadline:
        send(left, signal.SIGKILL)
        time.sleep(POLL_SECONDS / 5)
