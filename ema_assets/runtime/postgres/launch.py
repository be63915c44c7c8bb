"""One start of the server: the port it gets, in as many attempts as needed."""

import random
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ema_assets.model.errors import EmbeddedServerError
from ema_assets.runtime.postgres import postmaster
from ema_assets.runtime.postgres.cluster import write_settings
from ema_assets.runtime.postgres.identity import Identity, environment
from ema_assets.runtime.postgres.last_lease import watch
from ema_assets.runtime.postgres.postmaster import HOST
from ema_assets.runtime.postgres.server_files import Files, write

# Below the ranges that Linux (32768-) and macOS (49152-) hand out to outgoing connections: a remembered port in those
# ranges is often taken by some client at the next start.
PORTS = range(20_000, 30_000)

# Servers started by this process that may still be running.
_started: "list[subprocess.Popen[bytes]]" = []
# What watches the leases on them, by folder.
_watching: "dict[Path, subprocess.Popen[bytes]]" = {}


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of the postmaster, in as many attempts as needed."""

    files: Files
    programs: Path
    identity: Identity
    configured_port: int | None
    deadline: float
    on_started: Callable[[int], object] | None

    def run(self) -> int:
        """Start the postmaster, wait for a login, remember the port, return the pid."""
        files = self.files
        refused: set[int] = set()
        files.log.mkdir(mode=0o700, exist_ok=True)
        for path in (files.data, files.log):
            self.identity.give(path)
        _remove_old_logs(files)
        while True:
            port = _choose_port(files, self.configured_port, refused)
            postmaster.disarm_stale_pid_file(files)
            write_settings(files, port)
            write(files.start_log, "")
            before = files.log_sizes()
            process = self._spawn()
            try:
                if self.on_started is not None:
                    self.on_started(process.pid)
                else:
                    self._watch(process.pid)
                ready = postmaster.log_in_and_prepare(files, port, process.pid, self.deadline)
            except BaseException:
                postmaster.end(process.pid, fast_seconds=0)
                raise
            if ready:
                write(files.port, f"{port}\n")
                return process.pid
            process.wait()
            said = files.log_tail(before)
            is_taken = "could not bind" in said and self.configured_port is None
            # Backends of a killed postmaster are still ending.
            is_too_early = "pre-existing shared memory block" in said
            if not (is_taken or is_too_early) or time.monotonic() > self.deadline:
                raise EmbeddedServerError(
                    f"the PostgreSQL in {files.folder} ended with exit code {process.returncode}:\n{said}"
                )
            if is_taken:
                refused.add(port)
            time.sleep(0.1)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        reap()  # a zombie with the pid of postmaster.pid would look like a server to PostgreSQL
        files = self.files
        argv = (self.programs / "postgres", "-D", files.data, f"--config-file={files.settings}")
        with files.start_log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - a program of the wheel
                self.identity.command(files, *argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
                cwd=files.folder,
                start_new_session=True,
            )
        _started.append(process)
        reap()
        return process

    def _watch(self, pid: int) -> None:
        dismiss(self.files)
        # In a program with a Python of its own, or one that has become another user since it began, there may be none
        # that can be started. Only a process that is killed leaves the server running then.
        with suppress(OSError):
            _watching[self.files.folder] = watch(self.files.folder, pid)


def reap() -> None:
    """Poll servers of this process that have ended: Python warns about children that were never polled."""
    _started[:] = [each for each in _started if each.poll() is None]


def dismiss(files: Files) -> None:
    """End the process of this one that watches the leases on a server that has ended. Called with the folder locked."""
    watching = _watching.pop(files.folder, None)
    if watching is not None:
        watching.kill()
        watching.wait()


def _remove_old_logs(files: Files) -> None:
    """Delete week-old logs: a server that is running at midnight overwrites them, but a start would append to them."""
    for path in files.log_sizes():
        if time.time() - path.stat().st_mtime > 6 * 86_400:
            path.unlink()


def _choose_port(files: Files, configured: int | None, refused: set[int]) -> int:
    if configured is not None:
        return configured
    candidates = random.sample(PORTS, 100)
    with suppress(OSError, ValueError):
        candidates.insert(0, int(files.port.read_text()))
    for port in candidates:
        if port not in refused and is_free(port):
            return port
    raise EmbeddedServerError(f"no free TCP port on {HOST} between {PORTS[0]} and {PORTS[-1]}")


def is_free(port: int) -> bool:
    """Return whether a server could listen on `port` of 127.0.0.1; False for a number that is no port."""
    if not 0 < port < 65_536:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, suppress(OSError):
        # Bind as PostgreSQL does: connections of the last server in TIME_WAIT do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return True
    return False
