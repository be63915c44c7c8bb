"""Waiting for what another process or thread is about to do, and event loops whose time is not the machine's.

A busy machine makes waiting longer and nothing else: what is waited for is noticed soon, and given up only when nothing
can be at work on it any more.
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
    """What `look` gives as soon as that is true; `evidence` is asked for when it never is."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > deadline:
            told = "" if evidence is None else f"\n{evidence()}"
            raise AssertionError(f"not within {seconds:g} s: {what}{told}")
        time.sleep(poll_seconds)
    return seen


def run_virtually(main: Callable[[Callable[[], float]], Coroutine[Any, Any, T]]) -> T:
    """The result of `main`, which gets the clock of its loop. Waiting takes no time; for code without I/O."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main(runner.get_loop().time))


class LeapingLoop(asyncio.SelectorEventLoop):
    """Its clock goes as the machine's does, and is put forward by whoever calls `leap`, from any thread.

    For code that talks to a real server: what takes a minute is over at once, and no limit has to be so short that a
    busy machine exceeds it by itself.
    """

    def __init__(self) -> None:
        self._leapt = 0.0
        self._leaps = threading.Lock()
        super().__init__()

    def time(self) -> float:
        """The machine's seconds and those leapt."""
        return super().time() + self._leapt

    def leap(self, seconds: float) -> None:
        """Put the clock forward, and wake the loop so that it sees what is due."""
        with self._leaps:
            self._leapt += seconds
        self.call_soon_threadsafe(lambda: None)
