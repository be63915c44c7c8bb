"""The guard: a small process that waits for the end of its supervisor, then stops what that has left behind.

`python -S -P -m ema_assets.runtime.guard SUPERVISOR_ID SUPERVISOR_PID` reads JSON lines from its standard input. When
that pipe ends without a "done", the supervisor is dead.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ema_assets.runtime import lean_process, processes
from ema_assets.runtime.postgres.server_files import Files, is_leased, locked
from ema_assets.runtime.processes import Family

GUARD_POLL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Orphan:
    """A process, such as PostgreSQL, that is stopped once the supervisor is dead and its children have ended.

    `folder` is the folder of an embedded server: it is left running while another process holds a lease on it.
    """

    pid: int
    identity: int
    after_seconds: float
    folder: str | None

    def stop(self) -> None:
        """Stop the process, unless another process uses it."""
        files = Files(Path(self.folder)) if self.folder and Path(self.folder).exists() else None
        with locked(files) if files else contextlib.nullcontext():
            if not (files and is_leased(files)) and processes.identity(self.pid) == self.identity != 0:
                processes.end(self.pid, {signal.SIGINT: self.after_seconds, signal.SIGQUIT: self.after_seconds})


class Guard:
    """The supervisor's end of the guard process. A guard that replaces another one receives all messages again."""

    def __init__(self, supervisor_id: str) -> None:
        self._supervisor_id = supervisor_id
        self._told: list[bytes] = []
        self._process = self._start()

    def tell(self, what: Family | Orphan) -> None:
        """Make the guard stop `what` when the supervisor dies; it replaces an entry with the same mark or folder."""
        self._told.append(json.dumps({type(what).__name__: asdict(what)}).encode())
        self._send(self._told[-1])

    def replace_if_dead(self) -> None:
        """Start a new guard if the old one has died."""
        if self._process.poll() is not None:
            self.dismiss()
            self._process = self._start()
            self._send(*self._told)

    def dismiss(self) -> None:
        """Make the guard end without doing anything."""
        self._send(b'"done"')
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> "subprocess.Popen[bytes]":
        arguments = (self._supervisor_id, str(os.getpid()))
        return lean_process.start("ema_assets.runtime.guard", *arguments, stdin=subprocess.PIPE)

    def _send(self, *lines: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # a dead guard is replaced sooner or later
            self._process.stdin.write(b"".join(line + b"\n" for line in lines))
            self._process.stdin.flush()


def _listen(supervisor_pid: int) -> Iterator[Any]:
    """Yield the supervisor's messages on stdin, until it is dead."""
    text = b""
    while True:
        # A process forked by the supervisor holds a copy of the pipe, which would keep it open, so the supervisor's pid
        # is watched, too. What a dead supervisor wrote last is still read.
        is_orphaned = os.getppid() != supervisor_pid
        if select.select([0], [], [], 0 if is_orphaned else GUARD_POLL_SECONDS)[0]:
            received = os.read(0, 65_536)
            if not received:
                return
            *lines, text = (text + received).split(b"\n")
            yield from map(json.loads, lines)
        elif is_orphaned:
            return


def main(supervisor_id: str, supervisor_pid: int) -> None:
    """Wait for the end of the supervisor. Then stop its children and all that carry its mark, then its orphans."""
    lean_process.ignore_stop_signals()
    families: dict[str, Family] = {}
    orphans: dict[str, Orphan] = {}
    for message in _listen(supervisor_pid):
        if message == "done":
            return
        if "Family" in message:
            family = Family(**message["Family"])
            families[family.mark] = family
        else:
            orphan = Orphan(**message["Orphan"])
            orphans[orphan.folder or str(orphan.pid)] = orphan
    for family in reversed(families.values()):
        processes.stop(family)
    processes.kill(lambda: processes.marked(supervisor_id))
    for orphan in orphans.values():
        orphan.stop()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
