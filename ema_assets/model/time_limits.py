"""A time limit for code that is not ours, such as a user's own module. It ends an endless loop in any thread.

Another process could be limited, too, but would have to import everything again, for a mistake that few files have.
"""

import ctypes
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# The exception is raised again after this time, because the loop may catch it.
_AGAIN_SECONDS = 1.0


class Overdue(BaseException):
    """The time limit is exceeded. Not an Exception, so that code that catches these does not go on."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise Overdue within the block once it has taken `seconds`, then again every second until it ends.

    In the main thread this also ends waits, such as for a lock or in `sleep`; in other threads only Python code.
    """
    with _alarm(seconds) if threading.current_thread() is threading.main_thread() else _watch(seconds):
        yield


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    handler = signal.signal(signal.SIGALRM, _raise)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, interval)
        signal.signal(signal.SIGALRM, handler)


def _raise(_number: int, _frame: FrameType | None) -> None:
    raise Overdue


@contextmanager
def _watch(seconds: float) -> Iterator[None]:
    thread, turn, is_over = ctypes.c_ulong(threading.get_ident()), threading.Lock(), threading.Event()
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def watch() -> None:
        wait = seconds
        while not is_over.wait(wait):
            with turn:
                if not is_over.is_set():
                    set_exception(thread, ctypes.py_object(Overdue))
            wait = _AGAIN_SECONDS

    threading.Thread(target=watch, name="time limit", daemon=True).start()
    try:
        yield
    finally:
        # An exception that was set is not cleared, because Python 3.11 would then check for it forever at every call of
        # the process. It is raised here, in the second pass of the loop at the latest.
        late, is_left = None, True
        while is_left:
            try:
                with turn:
                    is_over.set()
                is_left = not is_over.is_set()
            except Overdue as overdue:
                late = overdue
        if late is not None:
            raise late
