"""Child processes that never outlive this one. What to start, and what follows its end, is the caller's business.

A supervisor marks all it starts with an environment variable, which every descendant inherits, and keeps a guard: a
small process that waits for the supervisor to end without a goodbye, and then stops what it has left.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

from ema_assets.model.errors import ConfigurationError
from ema_assets.runtime import processes
from ema_assets.runtime.guard import Guard, Orphan
from ema_assets.runtime.lean_process import STOP_SIGNALS
from ema_assets.runtime.processes import MARK, Family

# When the block still runs this long after the first signal, some code has caught the exception that it raised.
_STUCK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Program:
    """What a supervisor starts, and how it is stopped."""

    name: str  # what messages call it
    argv: Sequence[str | Path]
    env: Mapping[str, str]  # all of it; the supervisor's mark is added
    log_path: Path  # stdout and stderr are appended; parent folders are made
    cwd: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_main_only: bool = False  # signal only the child itself, which then stops its own children (Dagster)
    grace_seconds: float = 10.0  # after this its whole family gets SIGTERM, and 5 s later SIGKILL


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
    """A program that a supervisor has started, in its own session. `pid` is also the id of that session."""

    def __init__(self, program: Program, mark: str) -> None:
        self.program = program
        self.is_told = False
        try:
            program.log_path.parent.mkdir(parents=True, exist_ok=True)
            with program.log_path.open("ab") as log:
                self._log_begin = log.tell()
                self._process = subprocess.Popen(  # noqa: S603 - what to start is the caller's business
                    [str(word) for word in program.argv],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**program.env, MARK: mark},
                    cwd=program.cwd,
                    start_new_session=True,
                )
        except OSError as error:
            raise ConfigurationError(f"`{program.name}` cannot be started: {error}") from error
        self.pid = self._process.pid
        stopping = (int(program.stop_signal), program.stop_main_only, program.grace_seconds)
        self.family = Family(self.pid, processes.identity(self.pid), mark, *stopping)

    def exit_code(self) -> int | None:
        """Return the exit code: None while it runs, negative when a signal ended it."""
        return self._process.poll()

    def has_ended(self) -> bool:
        """Return whether it has an exit code."""
        return self.exit_code() is not None

    def exit(self) -> ChildExit | None:
        """Return how it ended; None while it runs."""
        code, program = self.exit_code(), self.program
        return None if code is None else ChildExit(program.name, code, program.log_path, self.log_tail())

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of its output, without those of an earlier run."""
        try:
            with self.program.log_path.open("rb") as file:
                file.seek(max(self._log_begin, self.program.log_path.stat().st_size - 64_000))
                return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


class Supervisor:
    """Starts children, reports when one ends or a signal comes, and leaves none behind.

    Use it as a context manager, in the main thread if signals are wanted. SIGINT, SIGTERM and SIGHUP first end the
    `with` block by KeyboardInterrupt or SystemExit; after the first `until_signalled()`, that method returns them. A
    second signal during `close()` kills everything that is left. A second signal that comes while code continues in
    spite of the first ends this process, and the guard stops the rest. SIGHUP stays ignored under `nohup`.

    Children are stopped before anything that was entered earlier, so a database that they use is entered first.
    """

    def __init__(self) -> None:
        self.id = os.urandom(16).hex()
        self.children: list[Child] = []
        self._guard: Guard | None = None
        self._received: list[signal.Signals] = []
        self._first_received_at = 0.0
        self._keeps_signals = False
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._guard = Guard(self.id)
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                # A background job of a script ignores SIGINT, and its children would inherit that: Dagster could then
                # not be stopped by it. A handler is not inherited.
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def spawn(self, program: Program, instead_of: Child | None = None) -> Child:
        """Start a child. A child that it replaces is stopped first, with its whole family.

        Raises:
            ConfigurationError: when the program cannot be started.
        """
        guard = self._living_guard()
        place = len(self.children)
        if instead_of is not None:
            processes.stop(instead_of.family, self._is_hurried)
            processes.wait_until(instead_of.has_ended, 1.0)
            place = self.children.index(instead_of)
        child = Child(program, f"{self.id}.{place}")
        self.children[place : place + 1] = [child]
        guard.tell(child.family)
        return child

    def on_orphan(self, pid: int, *, after_seconds: float = 30.0, folder: Path | None = None) -> None:
        """Make the guard stop `pid` when this process dies without `close()`, after all children have ended.

        It gets SIGINT, and SIGQUIT when it is still running `after_seconds` later: PostgreSQL's fast and immediate
        shutdown. With the `folder` of an embedded server, it is left running while another process holds a lease there.
        An orderly `close()` does not touch it.
        """
        guard = self._living_guard()
        guard.tell(Orphan(pid, processes.identity(pid), after_seconds, str(folder) if folder else None))

    def check(self) -> ChildExit | None:
        """Return how a child has ended, each end once; None when there is nothing new."""
        self._living_guard().replace_if_dead()
        for child in self.children:
            if not child.is_told and child.has_ended():
                child.is_told = True
                return child.exit()
        return None

    def until_signalled(self, timeout_seconds: float | None = None) -> signal.Signals | ChildExit | None:
        """Wait for SIGINT, SIGTERM or SIGHUP, or for a child to end; return which. None after `timeout_seconds`."""
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

    def interruptibly(self, action: Callable[[], None]) -> None:
        """Call `action`, which a signal ends at once; `until_signalled()` returns that signal next."""
        try:
            self._keeps_signals = False
            if not self._received:
                action()
        except (KeyboardInterrupt, SystemExit):
            if not self._received:
                raise
        finally:
            self._keeps_signals = True

    def close(self) -> None:
        """Stop all children, the last started first, and return when no process of any family is left."""
        if self._guard is None:
            return
        self._keeps_signals = True
        self._received.clear()
        for child in reversed(self.children):
            processes.stop(child.family, self._is_hurried)
        processes.kill(lambda: processes.marked(self.id))
        for child in self.children:
            processes.wait_until(child.has_ended, 1.0)
        self._guard.dismiss()
        self._guard = None
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _living_guard(self) -> Guard:
        if self._guard is None:
            raise RuntimeError("a Supervisor works only inside its `with` block")
        return self._guard

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        self._first_received_at = self._first_received_at if self._received else now
        self._received.append(signal.Signals(number))
        if not self._keeps_signals:
            if now - self._first_received_at > _STUCK_SECONDS:
                # Some code has caught the exception of the first signal. The guard stops everything.
                os._exit(128 + number)
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + number)

    def _is_hurried(self) -> bool:
        for child in self.children:
            child.exit_code()  # reaps it
        return bool(self._received)
