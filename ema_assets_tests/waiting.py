"""Waits for other processes and threads, and runs event loops whose time is not that of the machine.

On a busy machine, waiting only takes longer. A result is noticed soon after it is there, and the limit is so long that
no process can still be working on it.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from benchmarks.budget import VirtualLoop

T = TypeVar("T")

GIVEN_UP_AFTER_SECONDS = 600.0


def wait_until(
    look: Callable[[], T],
    what: str,
    *,
    evidence: Callable[[], object] | None = None,
    seconds: float = GIVEN_UP_AFTER_SECONDS,
    poll_seconds: float = 0.05,
) -> T:
    """Return the result of `look` as soon as it is true. If it never is, raise an error that shows `evidence()`."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > deadline:
            told = "" if evidence is None else f"\n{evidence()}"
            raise AssertionError(f"not within {seconds:g} s: {what}{told}")
        time.sleep(poll_seconds)
    return seen


def run_virtually(main: Callable[[Callable[[], float]], Coroutine[Any, Any, T]]) -> T:
    """Return the result of `main`, which gets the clock of its loop. For code without I/O: waiting takes no time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main(runner.get_loop().time))


class LeapingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock runs as that of the machine does. Any thread can move it forward with `leap`.

    For code that talks to a real server: a pause of a minute is over at once, so no test needs a limit that is so short
    that a busy machine exceeds it.
    """

    def __init__(self) -> None:
        self._leapt = 0.0
        self._leaps = threading.Lock()
        super().__init__()

    def time(self) -> float:
        """The seconds of the machine plus those of all leaps."""
        return super().time() + self._leapt

    def leap(self, seconds: float) -> None:
        """Move the clock forward, and wake the loop so that it runs what is due."""
        with self._leaps:
            self._leapt += seconds
        self.call_soon_threadsafe(lambda: None)
