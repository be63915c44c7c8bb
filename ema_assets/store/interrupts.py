"""Work with a connection that ends when it is interrupted: by a signal, or by a wish that holds for all threads.

The driver takes SIGINT for itself while the main thread is in one of its calls, and Python does not hear of the signal:
a statement fails as if the server had refused it, between two statements nothing happens at all, and in the middle of
rows the process may crash. So the main thread leaves what it has for the driver to another thread, which costs 0.05 ms,
and waits: there a signal does what it does elsewhere.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

# How often a statement that goes on is canceled again: the server ignores what comes a moment before it.
_AGAIN_SECONDS = 0.5
# A signal does not end the waiting of a thread by itself where polars has put its handler before that of Python.
_LOOK_SECONDS = 0.1


class _Job:
    """Something that another thread does, and what came of it."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self._do = do
        self.result: Any = None
        self.error: BaseException | None = None
        self.over = threading.Lock()
        self.over.acquire()

    def run(self) -> None:
        """Called by that thread."""
        try:
            self.result = self._do()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self.error = error
        self.over.release()


class _Helper:
    """A thread that does one job after another for the main thread. It begins with the first."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, job: _Job) -> None:
        """Have the job done after those that were put before."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="statements", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            job.run()
            # Its rows belong to whoever has waited for them.
            del job


class _State:
    """What the functions below share; a process that is forked begins with another one, for it has none of the threads.

    `cancels` has what cancels the statements that threads other than the main one wait for.
    """

    def __init__(self) -> None:
        self.wish: type[BaseException] | None = None
        self.cancels: set[Callable[[], None]] = set()
        self.turn = threading.Lock()
        self.helper = _Helper()


_state = _State()
os.register_at_fork(after_in_child=_state.__init__)  # type: ignore[misc]


def interrupt(error: type[BaseException]) -> None:
    """Have the statements of all threads fail with `error`, those at work and later ones. May be said again."""
    _state.wish = error
    with _state.turn:
        for cancel in _state.cancels:
            with suppress(Exception):
                cancel()


def go_on() -> None:
    """Take the wish back: what follows is other work."""
    _state.wish = None


def check() -> None:
    """Raise what `interrupt` was called with, if it was: between two pieces of work, and before one is blamed."""
    if _state.wish is not None:
        raise _state.wish


def interruptibly(do: Callable[[], T], cancel: Callable[[], None]) -> T:
    """What `do` returns; `cancel`, called by another thread, makes it fail. Neither goes on when this is left."""
    check()
    if threading.current_thread() is threading.main_thread():
        return _aside(do, cancel)
    with _state.turn:
        _state.cancels.add(cancel)
    try:
        # The wish may have come in between.
        check()
        return do()
    except Exception as error:
        if _state.wish is not None:
            raise _state.wish from error
        raise
    finally:
        # Nobody cancels a statement that is being closed.
        with _state.turn:
            _state.cancels.discard(cancel)


def completely(do: Callable[[], T]) -> T:
    """What `do` returns, which takes no time worth interrupting: whatever comes meanwhile is raised afterwards."""
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
        # It holds this frame, which would hold it.
        del job


def _end(cancel: Callable[[], None]) -> None:
    """Cancel what the helper does, and wait until it does nothing: only then is the connection ours again.

    A further signal changes nothing. How long this can take is limited by the time a lost connection is waited for.
    """
    while True:
        with suppress(BaseException):
            # Whether the job was put before the interrupt cannot be known; what is put after it is done after it.
            last = _Job(_nothing)
            _state.helper.put(last)
            is_over = False
            while not is_over:
                with suppress(Exception):
                    cancel()
                is_over = last.over.acquire(timeout=_AGAIN_SECONDS)
            return
