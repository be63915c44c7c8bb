"""Interruptible calls of the database driver: they end on a signal, or on a request that holds for all threads.

The driver handles SIGINT itself while the main thread is in one of its calls, and Python never sees the signal: a
statement fails as if the server had refused it, between two statements nothing happens at all, and in the middle of
rows the process may crash. So the main thread hands its calls of the driver to another thread, which costs 0.05 ms, and
waits; while it waits, a signal has its usual effect.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

# The pause before a statement that still runs is canceled again: the server ignores a cancel that arrives just before
# the statement.
_AGAIN_SECONDS = 0.5
# The main thread wakes up this often: a signal does not end its wait if polars has put its handler before Python's.
_LOOK_SECONDS = 0.1


class _Job:
    """A call made by another thread, and its result or error."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self._do = do
        self.result: Any = None
        self.error: BaseException | None = None
        self.over = threading.Lock()
        self.over.acquire()

    def run(self) -> None:
        """Make the call; run by the other thread."""
        try:
            self.result = self._do()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self.error = error
        self.over.release()


class _Helper:
    """A thread that does one job after another for the main thread. The first job starts it."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, job: _Job) -> None:
        """Queue the job behind earlier ones."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="statements", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            job.run()
            # Only the waiting caller may keep the job's rows alive.
            del job


class _State:
    """State shared by the functions below. A forked process starts with a new one because it has none of the threads.

    `cancels` holds the functions that cancel the statements of threads other than the main one.
    """

    def __init__(self) -> None:
        self.wish: type[BaseException] | None = None
        self.cancels: set[Callable[[], None]] = set()
        self.turn = threading.Lock()
        self.helper = _Helper()


_state = _State()
os.register_at_fork(after_in_child=_state.__init__)  # type: ignore[misc]


def interrupt(error: type[BaseException]) -> None:
    """Make the running and later statements of all threads fail with `error`. May be called repeatedly."""
    _state.wish = error
    with _state.turn:
        for cancel in _state.cancels:
            with suppress(Exception):
                cancel()


def go_on() -> None:
    """Withdraw the interrupt: what follows is other work."""
    _state.wish = None


def check() -> None:
    """Raise the error of `interrupt`, if there was one. Call it between two pieces of work and before blaming one."""
    if _state.wish is not None:
        raise _state.wish


def interruptibly(do: Callable[[], T], cancel: Callable[[], None]) -> T:
    """Return what `do` returns; `cancel`, called by another thread, makes it fail. On exit, both have ended."""
    check()
    if threading.current_thread() is threading.main_thread():
        return _aside(do, cancel)
    with _state.turn:
        _state.cancels.add(cancel)
    try:
        # The interrupt may have come in between.
        check()
        return do()
    except Exception as error:
        if _state.wish is not None:
            raise _state.wish from error
        raise
    finally:
        # A statement that is being closed must not be canceled.
        with _state.turn:
            _state.cancels.discard(cancel)


def completely(do: Callable[[], T]) -> T:
    """Return what `do` returns, which is too short to be interrupted: a signal during it is raised afterwards."""
    if threading.current_thread() is threading.main_thread():
        return _aside(do, _nothing)
    return do()


def _nothing() -> None: ...


def _aside(do: Callable[[], T], cancel: Callable[[], None]) -> T:
    job = _Job(do)
    try:
        _state.helper.put(job)
        while not job.over.acquire(timeout=_LOOK_SECONDS):
            pass
    except BaseException:
        _end(cancel)
        raise
    if job.error is None:
        result: T = job.result
        return result
    try:
        raise job.error
    finally:
        # Avoid a cycle: the error refers to this frame, and the frame would refer to the error.
        del job


def _end(cancel: Callable[[], None]) -> None:
    """Cancel the helper's job and wait until the helper is idle: only then may this thread use the connection again.

    A further signal changes nothing. It takes at most as long as a lost connection is waited for.
    """
    while True:
        with suppress(BaseException):
            # It is unknown whether the job was queued before the interrupt, but a job queued now ends after it.
            last = _Job(_nothing)
            _state.helper.put(last)
            is_over = False
            while not is_over:
                with suppress(Exception):
                    cancel()
                is_over = last.over.acquire(timeout=_AGAIN_SECONDS)
            return
