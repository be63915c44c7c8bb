"""Process families: which processes belong to a child, and how all of them are stopped. Knows no supervisor.

A family is the child, its descendants, all processes in their sessions and groups, and all that carry its mark in the
environment. This includes daemons that have left the session and the family tree.
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
    """A child and how it is stopped. `identity` distinguishes it from a later owner of its pid."""

    pid: int
    identity: int
    mark: str
    stop_signal: int
    stop_main_only: bool
    grace_seconds: float


class Process(NamedTuple):
    """The parent, group and session of a process."""

    parent: int
    group: int
    session: int


def read(pid: int) -> Process | None:
    """Return what the system knows about a process. None when there is none, or only its zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return Process(process.ppid(), os.getpgid(pid), os.getsid(pid))
    except (psutil.Error, OSError):
        return None


def identity(pid: int) -> int:
    """Return a number from a process's pid and start time, the same for every caller; 0 when there is no such process.

    psutil counts the start from boot where it can, so that setting the system's clock changes no identity.
    """
    try:
        return hash(psutil.Process(pid)) if read(pid) is not None else 0
    except psutil.Error:
        return 0


def table() -> dict[int, Process]:
    """Return all live processes by pid."""
    return {pid: process for pid in psutil.pids() if (process := read(pid)) is not None}


def children(pid: int) -> list[int]:
    """Return the living children of a process, without grandchildren."""
    try:
        found = psutil.Process(pid).children()
    except psutil.Error:
        return []
    return [each.pid for each in found if read(each.pid) is not None]


def marked(mark: str) -> set[int]:
    """Return all processes except this one that carry `mark`, or a mark below it."""
    return {pid for pid in psutil.pids() if pid != os.getpid() and _is_marked(pid, mark)}


def _is_marked(pid: int, mark: str) -> bool:
    try:
        value = str(psutil.Process(pid).environ().get(MARK, ""))
    except (psutil.Error, OSError):
        return False
    return (value == mark or value.startswith(f"{mark}.")) and read(pid) is not None


def members(family: Family) -> set[int]:
    """Return the living members of `family`, without this process."""
    processes = table()
    is_reused = family.pid in processes and identity(family.pid) != family.identity
    ids = set() if is_reused else {family.pid}
    found = {pid for pid in processes if _is_marked(pid, family.mark)}
    mine = os.getpid()
    while True:
        ids |= {number for pid in found for number in (processes[pid].group, processes[pid].session)}
        ids -= {0, processes[mine].session, processes[mine].group}  # 0 stands for a process outside of a container
        more = {
            pid
            for pid, process in processes.items()
            if pid in found or process.parent in found or process.group in ids or process.session in ids
        } - {mine}
        if more == found:
            return found
        found = more


def _is_there(family: Family) -> bool:
    """Return whether the process that was started first still lives."""
    return family.identity != 0 and identity(family.pid) == family.identity


def send(targets: Iterable[int], number: int) -> None:
    """Send a signal to all `targets` that still exist."""
    for target in targets:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(target, number)


def _never() -> bool:
    return False


def wait_until(is_true: Callable[[], bool], seconds: float, is_hurried: Callable[[], bool] = _never) -> None:
    """Wait until `is_true` or `is_hurried` returns True, for at most `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_true() and not is_hurried() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def stop(family: Family, is_hurried: Callable[[], bool] = _never) -> None:
    """Send the family's stop signal, then SIGTERM, then SIGKILL, each only while a process is left."""
    left = members(family)
    if not left:
        return
    send([family.pid] if family.stop_main_only and family.pid in left else left, family.stop_signal)
    # Wait for the child only: looking at every process of the machine takes longer than all else when `up` ends.
    wait_until(lambda: not _is_there(family), family.grace_seconds, is_hurried)
    left = members(family)
    if left and family.pid not in left:
        # No process is left to stop the others: they get enough time to end by themselves, no more.
        wait_until(lambda: not members(family), min(1.0, family.grace_seconds), is_hurried)
    asked_all = not family.stop_main_only and family.stop_signal == signal.SIGTERM
    left = members(family)
    if left and not (asked_all and family.pid in left):
        send(left, signal.SIGTERM)
        wait_until(lambda: not members(family), min(TERM_SECONDS, family.grace_seconds), is_hurried)
    kill(lambda: members(family))


def end(pid: int, signals: Mapping[int, float]) -> bool:
    """Send a process several signals, each with a time in seconds to take effect; return whether it has ended.

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
    """Send SIGKILL until no process is left: a process may fork between being seen and being killed."""
    deadline = time.monotonic() + KILL_SECONDS
    while (left := who()) and time.monotonic() < deadline:
        send(left, signal.SIGKILL)
        time.sleep(POLL_SECONDS / 5)
