"""The check of signals and strategies, the user's own among them: whether they load and fit together, and in time."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ema_assets.doctor.declaration import Check, Finding, Surroundings, error, ok
from ema_assets.model.errors import ConfigurationError

# Every process loads them, and a run waits for it.
SECONDS = 15.0


class _TooLong(BaseException):
    """No Exception, which a file of the user's own might catch."""


def _look(seen: Surroundings) -> Iterator[Finding]:
    from ema_assets.refresh.graph import build

    settings = seen.settings
    folders = [folder for folder in (settings.signals_folder, settings.strategies_folder) if folder is not None]
    where = " and ".join(map(str, folders)) if folders else "of your own there are none"
    if seen.watched is None:
        return
    try:
        with _at_most(SECONDS):
            graph = build(seen.watched, settings.signals_folder, settings.strategies_folder)
    except _TooLong:
        yield error(
            f"loading {where} takes more than {SECONDS:g} s",
            "look for a loop or a download at the top of a file there; every process waits for it",
        )
    except ConfigurationError as refused:
        yield error(str(refused), "correct the file, or move it out of the folder")
    else:
        own = sum(1 for folder in folders for path in folder.glob("*.py") if not path.name.startswith("_"))
        yield ok(f"{len(graph.nodes)} assets, from {own} files of your own" if own else f"{len(graph.nodes)} assets")


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise `_TooLong` in the block after so long, also out of an endless loop. Only the main thread can be woken."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def wake(_signal: int, _frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, wake)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


CHECK = Check("signals and strategies", 70, _look)
