"""Loads modules from a user's own folder, such as `.ema/signals/`. What they declare is not known here."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import TypeVar

from ema_assets.model.errors import ConfigurationError, printable
from ema_assets.model.file_stamps import Stamp
from ema_assets.model.own_packages import module_of, place_beside, state_of
from ema_assets.model.time_limits import Overdue, time_limit

T = TypeVar("T")

# Even a module that imports a very large library from a slow disk takes less.
LIMIT_SECONDS = 30.0
# The time limit of a call, plus a time per bar, which is 100 times that of one step of Python. So new bars of other
# series wait for at most about a minute, and a history of 400,000 bars has more than seven.
COMPUTE_SECONDS, _SECONDS_PER_BAR = 60.0, 0.001
# Files that took longer, with their stamps. A process that checks every few seconds must not wait each time.
_overdue: dict[str, tuple[Stamp, ...]] = {}


def files_of(folder: Path, what: str, without: Collection[Path] = ()) -> Iterator[Path]:
    """Yield the *.py files of a folder of `what`, sorted; not those in `without`, nor names that start with `_` or `.`.

    Editors and file systems make hidden files, such as `.#mine.py` while `mine.py` is edited, or `._mine.py` of macOS.

    Raises:
        ConfigurationError: when there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: there is no such folder of {what}")
    for path in sorted(folder.glob("*.py")):
        if not path.name.startswith(("_", ".")) and path not in without:
            yield path


def all_files(folders: Iterable[Path | None]) -> list[Path]:
    """Return every *.py file in and below `folders`, also those that only others import; None is no folder.

    Hidden files and folders are left out.
    """
    return [
        path
        for folder in folders
        if folder is not None
        for path in sorted(folder.rglob("*.py"))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def load(path: Path, kind: str) -> ModuleType:
    """Load the module in the file `path` under a name of its own, so that it shadows no other module.

    Raises:
        ConfigurationError: when it cannot be imported; it names the file, the line and the reason.
    """
    with limited(path):
        return _load(path, kind)


@contextmanager
def limited(path: str | Path) -> Iterator[None]:
    """Limit the time of a block that runs code of the file `path`. A module of this package has no limit.

    Raises:
        ConfigurationError: when the block takes too long, or did so before and the file has not changed since.
    """
    if not str(path).endswith(".py"):
        yield
        return
    line = beside = ""
    if _overdue.get(str(path)) != state_of(path):
        try:
            with time_limit(LIMIT_SECONDS):
                yield
            return
        except Overdue as error:
            _overdue[str(path)], line, beside = state_of(path), line_of(error, path), place_beside(error)
    raise ConfigurationError(
        f"{path}:{line} is not done after {LIMIT_SECONDS:g} seconds{beside}; is there a loop without an end?"
    )


class TooLong(Exception):
    """A call of a user's own code took too long; its cause says where the code was then."""


def in_time(call: Callable[[], T], bars: int) -> T:
    """Return the result of `call`, which runs a user's own code on `bars` bars, within a time limit.

    Raises:
        TooLong: when it does not end in time. Code that waits in a library, and not in Python, is not interrupted.
    """
    began, seconds = time.monotonic(), _seconds_for(bars)
    try:
        with time_limit(seconds):
            return call()
    except (Overdue, Exception) as error:
        # polars converts what interrupts a function that it calls into an error of its own.
        if isinstance(error, Overdue) or time.monotonic() - began >= seconds:
            raise TooLong(
                f"is not done with {bars:,} bars after {seconds:.0f} seconds; is there a loop without an end?"
            ) from error
        raise


def _seconds_for(bars: int) -> float:
    return COMPUTE_SECONDS + bars * _SECONDS_PER_BAR


def _load(path: Path, kind: str) -> ModuleType:
    try:
        return module_of(path, kind)
    except (Exception, SystemExit) as error:
        reason = f"{told(error)}{_by_a_dot(error, path.parent)}"
        raise ConfigurationError(f"{path}:{line_of(error, path)} cannot be imported: {reason}") from error


def _by_a_dot(error: BaseException, folder: Path) -> str:
    """Return how to import a file of `folder` if `error` is about this missing module, else an empty text."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    is_beside = name is not None and (folder / f"{name.partition('.')[0]}.py").is_file()
    return f"; it is a file next to this one: `from .{name} import …`" if is_beside else ""


def is_own(function: object) -> bool:
    """Return whether `function` was defined outside this package, such as in a file that `load` has read."""
    return not str(getattr(function, "__module__", "")).startswith("ema_assets.")


def told(error: BaseException) -> str:
    """Return the kind and the message of `error` on one line."""
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    # In errors of polars the failed query follows.
    message = next(iter(said.strip().splitlines()), "")
    kind = type(error).__name__
    return printable(f"{kind}: {message}" if message else kind) + place_beside(error)


def line_of(error: BaseException, path: str | Path) -> str:
    """Return the line of `path` that caused `error`, such as ` line 3:`, or an empty text if it is not known."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f" line {error.lineno}:"
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f" line {lines[-1]}:" if lines else ""
