"""Child processes that never outlive this one. Processes and signals only; what is started is the caller's business.

A supervisor marks all it starts with an environment variable, which every descendant inherits, and keeps a guard: a
small process that does nothing but wait for the supervisor to end without having said goodbye, then stops what it left.

On Linux a family of processes is read from /proc: the child, its descendants, all in their sessions and groups, and
all that carry the mark, so also daemons that left the session and the family tree. Elsewhere it is the child's group.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from ema_assets.model.errors import ConfigurationError

MARK = "EMA_SUPERVISOR_ID"
POLL_SECONDS = 0.05
TERM_SECONDS = 5.0
KILL_SECONDS = 5.0
GUARD_POLL_SECONDS = 2.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_HAS_PROC = sys.platform == "linux" and Path("/proc/self/stat").exists()


@dataclass(frozen=True, slots=True)
class ChildExit:
    """How a child ended. `exit_code` is negative for a signal; `log_tail` is what it wrote last."""

    name: str
    exit_code: int
    log_path: Path
    log_tail: str

    def __str__(self) -> str:
        how = f"exit code {self.exit_code}"
        if self.exit_code < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-self.exit_code).name
        if not self.log_tail:
            return f"`{self.name}` ended with {how}; it wrote nothing to {self.log_path}"
        return f"`{self.name}` ended with {how}; the end of {self.log_path}:\n{self.log_tail}"


class Child:
    """One process started by a supervisor, in its own session, its output appended to `log_path`."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log_path: Path, log_begin: int) -> None:
        self.name = name
        self.log_path = log_path
        self._process = process
        self._log_begin = log_begin

    @property
    def pid(self) -> int:
        """Process id, also the id of its session and group."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.poll()

    def has_ended(self) -> bool:
        """Whether it has an exit code."""
        return self.exit_code() is not None

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its output, none of an earlier run's."""
        try:
            with self.log_path.open("rb") as file:
                file.seek(max(self._log_begin, self.log_path.stat().st_size - 64_000))
                return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


class Supervisor:
    """Starts children, says when one ends or a signal comes, and leaves none behind.

    Use as a context manager, in the main thread where signals are wanted. SIGINT, SIGTERM and SIGHUP first end the
    `with` block by KeyboardInterrupt or SystemExit; from the first `until_signalled()` on they are what it returns.
    A second one during `close()` ends the patience: everything left is killed. SIGHUP stays ignored under `nohup`.

    Children are stopped before anything that was entered earlier, so a database they use is entered first.
    """

    def __init__(self) -> None:
        self.id = os.urandom(16).hex()
        self.children: list[Child] = []
        self._families: list[_Family] = []
        self._orphans: list[_Orphan] = []
        self._guard: _Guard | None = None
        self._received: list[signal.Signals] = []
        self._keeps_signals = False
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._guard = _Guard(self.id)
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                # A background job of a script ignores SIGINT, and its children would inherit that: `dagster dev`
                # could then not be asked to stop. A handler is not inherited.
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def spawn(
        self,
        name: str,
        argv: Sequence[str | Path],
        env: Mapping[str, str],
        log_path: Path,
        cwd: Path | None = None,
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_main_only: bool = False,
        grace_seconds: float = 10.0,
    ) -> Child:
        """Start a child.

        Args:
            name: what messages call it.
            argv: the program and its arguments.
            env: its whole environment; the supervisor's mark is added.
            log_path: where stdout and stderr are appended; parent folders are made.
            cwd: its current folder, None for this process's.
            stop_signal: how it is asked to stop.
            stop_main_only: ask only the child itself, which then sees to its own children (`dagster dev`).
            grace_seconds: how long it has before its whole family gets SIGTERM, and 5 s later SIGKILL.

        Raises:
            ConfigurationError: when the program cannot be started.
        """
        if self._guard is None:
            raise RuntimeError("a Supervisor starts children only inside its `with` block")
        mark = f"{self.id}.{len(self.children)}"
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            begin = log.tell()
            try:
                process = subprocess.Popen(  # noqa: S603 - what to start is the caller's business
                    [str(word) for word in argv],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**env, MARK: mark},
                    cwd=cwd,
                    start_new_session=True,
                )
            except OSError as error:
                raise ConfigurationError(f"`{name}` cannot be started: {error}") from error
        family = _Family(process.pid, _started(process.pid), mark, int(stop_signal), stop_main_only, grace_seconds)
        child = Child(name, process, log_path, begin)
        self.children.append(child)
        self._families.append(family)
        self._guard.tell({"family": asdict(family)})
        return child

    def on_orphan(
        self,
        pid: int,
        number: signal.Signals = signal.SIGINT,
        *,
        then: signal.Signals = signal.SIGQUIT,
        after_seconds: float = 30.0,
    ) -> None:
        """Have `pid` signalled when this process dies without `close()`, after all children are gone.

        `then` follows when it is still there `after_seconds` later. The defaults are PostgreSQL's fast and immediate
        shutdown. An orderly `close()` does not touch it.
        """
        if self._guard is None:
            raise RuntimeError("a Supervisor takes orphans only inside its `with` block")
        orphan = _Orphan(pid, _started(pid), int(number), int(then), after_seconds)
        self._orphans.append(orphan)
        self._guard.tell({"orphan": asdict(orphan)})

    def check(self) -> ChildExit | None:
        """The first child that has ended, or None when all run."""
        if self._guard is not None and not self._guard.is_alive():
            self._guard.dismiss()
            self._guard = _Guard(self.id)
            for family in self._families:
                self._guard.tell({"family": asdict(family)})
            for orphan in self._orphans:
                self._guard.tell({"orphan": asdict(orphan)})
        for child in self.children:
            code = child.exit_code()
            if code is not None:
                return ChildExit(child.name, code, child.log_path, child.log_tail())
        return None

    def until_signalled(self, timeout_seconds: float | None = None) -> signal.Signals | ChildExit | None:
        """Wait for SIGINT, SIGTERM or SIGHUP, or for a child to end, and say which. None after `timeout_seconds`."""
        self._keeps_signals = True
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            if self._received:
                return self._received.pop(0)
            ended = self.check()
            if ended is not None:
                return ended
            if deadline is not None and time.monotonic() >= deadline:
                return None
            time.sleep(0.2)

    def close(self) -> None:
        """Stop all children, the last started first, and return when no process of any family is left."""
        if self._guard is None:
            return
        self._keeps_signals = True
        self._received.clear()
        for family in reversed(self._families):
            _stop(family, self._is_hurried)
        _kill(lambda: _marked_processes(self.id))
        for child in self.children:
            _wait_until(child.has_ended, 1.0)
        self._guard.dismiss()
        self._guard = None
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if not self._keeps_signals:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + number)
        self._received.append(signal.Signals(number))

    def _is_hurried(self) -> bool:
        for child in self.children:
            child.exit_code()  # reaps, so that where there is no /proc an ended child is not taken for a live one
        return bool(self._received)


# ---------------------------------------------------------------------------------------------- families


@dataclass(frozen=True, slots=True)
class _Family:
    """A child and how it is stopped. `started` is its start time, which tells it from a later owner of its pid."""

    pid: int
    started: int
    mark: str
    stop_signal: int
    stop_main_only: bool
    grace_seconds: float


@dataclass(frozen=True, slots=True)
class _Orphan:
    pid: int
    started: int
    signal: int
    then: int
    after_seconds: float

    def is_gone(self) -> bool:
        if _HAS_PROC:
            process = _read_process(self.pid)
            return process is None or process.started != self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def stop(self) -> None:
        if not self.is_gone():
            _send([self.pid], self.signal)
            _wait_until(self.is_gone, self.after_seconds)
        if not self.is_gone():
            _send([self.pid], self.then)


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    group: int
    session: int
    started: int


def _read_process(pid: int | str) -> _Process | None:
    """What /proc says of a process. None when there is none, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    if fields[0] in (b"Z", b"X"):
        return None
    return _Process(parent=int(fields[1]), group=int(fields[2]), session=int(fields[3]), started=int(fields[19]))


def _started(pid: int) -> int:
    """Start time in clock ticks after boot, 0 where there is no /proc."""
    process = _read_process(pid)
    return process.started if process else 0


def _processes() -> dict[int, _Process]:
    found = ((int(path.name), _read_process(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit())
    return {pid: process for pid, process in found if process is not None}


def _is_marked(pid: int, mark: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    value = f"{MARK}={mark}".encode()
    return any(entry == value or entry.startswith(value + b".") for entry in environment)


def _marked_processes(supervisor_id: str) -> set[int]:
    if not _HAS_PROC:
        return set()
    return {pid for pid in _processes() if pid != os.getpid() and _is_marked(pid, supervisor_id)}


def _members(family: _Family) -> set[int]:
    """Whom to signal: the pids of the living, or without /proc the negative group id, as `os.kill` takes both."""
    if not _HAS_PROC:
        return {-family.pid} if _group_is_alive(family.pid) else set()
    table = _processes()
    first = table.get(family.pid)
    is_reused = first is not None and first.started != family.started
    ids = set() if is_reused else {family.pid}
    members = {pid for pid in table if _is_marked(pid, family.mark)}
    mine = os.getpid()
    while True:
        ids |= {pid for member in members for pid in (table[member].group, table[member].session)}
        ids -= {0, table[mine].session, table[mine].group}  # 0 stands for one outside of a container
        found = {
            pid
            for pid, process in table.items()
            if pid in members or process.parent in members or process.group in ids or process.session in ids
        } - {mine}
        if found == members:
            return members
        members = found


def _group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS: only zombies are left
        return False
    return True


def _send(targets: Iterable[int], number: int) -> None:
    for target in targets:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(target, number)


def _never() -> bool:
    return False


def _wait_until(is_true: Callable[[], bool], seconds: float, is_hurried: Callable[[], bool] = _never) -> None:
    deadline = time.monotonic() + seconds
    while not is_true() and not is_hurried() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _stop(family: _Family, is_hurried: Callable[[], bool] = _never) -> None:
    """Ask as the family wants to be asked, then SIGTERM, then SIGKILL, each only while somebody is left."""

    def is_gone() -> bool:
        return not _members(family)

    def has_no_head() -> bool:
        return family.pid not in members and -family.pid not in members

    members = _members(family)
    if not members:
        return
    if family.stop_main_only and not has_no_head():
        _send([family.pid], family.stop_signal)
    else:
        _send(members, family.stop_signal)
    deadline = time.monotonic() + family.grace_seconds
    while members and not is_hurried() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        members = _members(family)
        if has_no_head():
            # Nobody is left to see to the others: they get what it takes for them to end by themselves, no more.
            _wait_until(is_gone, min(1.0, deadline - time.monotonic()), is_hurried)
            break
    asked_all = not family.stop_main_only and family.stop_signal == signal.SIGTERM
    members = _members(family)
    if members and not (asked_all and not has_no_head()):
        _send(members, signal.SIGTERM)
        _wait_until(is_gone, min(TERM_SECONDS, family.grace_seconds), is_hurried)
    _kill(lambda: _members(family))


def _kill(members: Callable[[], set[int]]) -> None:
    """SIGKILL until nobody is left: a process may fork between being seen and being killed."""
    deadline = time.monotonic() + KILL_SECONDS
    while (left := members()) and time.monotonic() < deadline:
        _send(left, signal.SIGKILL)
        time.sleep(POLL_SECONDS / 5)


# ---------------------------------------------------------------------------------------------- the guard


class _Guard:
    """The supervisor's end of the guard process: a pipe whose closing says that the supervisor is dead."""

    def __init__(self, supervisor_id: str) -> None:
        root = str(Path(__file__).resolve().parents[2])
        environment = {"PATH": os.defpath, "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1"}
        # -S: no site-packages, -P: no current folder; the guard needs neither and starts in half the time and memory.
        self._process = subprocess.Popen(  # noqa: S603 - this very module
            [sys.executable, "-S", "-P", "-m", "ema_assets.runtime.supervisor", supervisor_id, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def tell(self, message: dict[str, Any] | str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `check` replaces a dead guard
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
            read = os.read(0, 65_536)
            if not read:
                return
            *lines, text = (text + read).split(b"\n")
            yield from map(json.loads, lines)
        elif is_orphaned:
            return


def _guard(supervisor_id: str, supervisor_pid: int) -> None:
    """Wait for the end of the supervisor. Then stop its children and its mark's bearers, then its orphans."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    families: list[_Family] = []
    orphans: list[_Orphan] = []
    for message in _listen(supervisor_pid):
        if message == "done":
            return
        if "family" in message:
            families.append(_Family(**message["family"]))
        else:
            orphans.append(_Orphan(**message["orphan"]))
    for family in reversed(families):
        _stop(family)
    _kill(lambda: _marked_processes(supervisor_id))
    for orphan in orphans:
        orphan.stop()


if __name__ == "__main__":
    _guard(sys.argv[1], int(sys.argv[2]))
