"""The guard: a small process that waits for the end of its supervisor, then stops what that has left behind.

`python -S -P -m ema_assets.runtime.guard SUPERVISOR_ID SUPERVISOR_PID` reads JSON lines from its standard input: the
end of that pipe says that the supervisor is dead, unless it has said "done" before.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ema_assets.runtime import processes
from ema_assets.runtime.postgres.files import Files, is_leased, locked

GUARD_POLL_SECONDS = 2.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Orphan:
    """A process that is stopped once the supervisor is dead and its children are gone.

    `folder` is that of an embedded server: it is left alone while another process holds a lease on it.
    """

    pid: int
    started: float
    signal: int
    then: int
    after_seconds: float
    folder: str | None

    def is_gone(self) -> bool:
        """Whether it has ended."""
        process = processes.read(self.pid)
        return process is None or not processes.is_same(process, self.started)

    def stop(self) -> None:
        """Stop it, unless somebody else uses it."""
        if self.folder is None or not Path(self.folder).exists():
            self._stop()
            return
        files = Files(Path(self.folder))
        with locked(files):
            if not is_leased(files.leases):
                self._stop()

    def _stop(self) -> None:
        if not self.is_gone():
            processes.send([self.pid], self.signal)
            processes.wait_until(self.is_gone, self.after_seconds)
        if not self.is_gone():
            processes.send([self.pid], self.then)


class Guard:
    """The supervisor's end of the guard process."""

    def __init__(self, supervisor_id: str) -> None:
        psutil = find_spec("psutil")
        assert psutil is not None
        assert psutil.origin is not None
        paths = [Path(__file__).resolve().parents[2], Path(psutil.origin).resolve().parents[1]]
        environment = {
            "PATH": os.defpath,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        # -S: no site-packages, -P: no current folder; the guard needs neither and starts in half the time and memory.
        self._process = subprocess.Popen(  # noqa: S603 - this very module
            [sys.executable, "-S", "-P", "-m", "ema_assets.runtime.guard", supervisor_id, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id of the guard."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether the guard still waits."""
        return self._process.poll() is None

    def tell(self, message: dict[str, Any] | str) -> None:
        """Send one message; a guard that is dead is replaced by the supervisor."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def dismiss(self) -> None:
        """Have it end without doing anything."""
        self.tell("done")
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _listen(supervisor_pid: int) -> Iterator[Any]:
    """What the supervisor says on stdin, until it is dead."""
    text = b""
    while True:
        # A copy of the pipe in a process forked by the supervisor would keep it open: so its pid is watched too. What
        # a dead supervisor wrote last is still read.
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
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    families: list[processes.Family] = []
    orphans: list[Orphan] = []
    for message in _listen(supervisor_pid):
        if message == "done":
            return
        if "family" in message:
            families.append(processes.Family(**message["family"]))
        else:
            orphans.append(Orphan(**message["orphan"]))
    for family in reversed(families):
        processes.stop(family)
    processes.kill(lambda: processes.marked(supervisor_id))
    for orphan in orphans:
        orphan.stop()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
