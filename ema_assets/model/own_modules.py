"""Modules in files of a user's own folder, such as `.ema/signals/`. What they declare is not known here."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import TypeVar

from ema_assets.model.errors import ConfigurationError
from ema_assets.model.file_stamps import Stamp
from ema_assets.model.own_packages import module_of, place_beside, state_of
from ema_assets.model.time_limits import Overdue, time_limit

T = TypeVar("T")

# A module that imports the largest of libraries from a slow disk takes less.
LIMIT_SECONDS = 30.0
# For a call with bars, and for each of them: a step of Python per bar takes a hundredth of that. New bars of the others
# wait for no longer than a minute, and a history of 400,000 has seven.
COMPUTE_SECONDS, _SECONDS_PER_BAR = 60.0, 0.001
# Files that took longer, and how they stood then. Who looks every few seconds must not wait each time.
_overdue: dict[str, tuple[Stamp, ...]] = {}


def files_of(folder: Path, what: str, without: Collection[Path] = ()) -> Iterator[Path]:
    """The *.py files of a folder of `what`, sorted. Those `without`, or whose name starts with `_`, are left alone.

    Raises:
        ConfigurationError: when there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: there is no such folder of {what}")
    for path in sorted(folder.glob("*.py")):
        if not path.name.startswith("_") and path not in without:
            yield path


def all_files(folders: Iterable[Path | None]) -> list[Path]:
    """Every *.py file in and below `folders`, also those that are only imported by others; None is no folder."""
    return [path for folder in folders if folder is not None for path in sorted(folder.rglob("*.py"))]


def load(path: Path, kind: str) -> ModuleType:
    """The module in the file `path`, under a name of its own: no other module is shadowed by it.

    Raises:
        ConfigurationError: when it cannot be imported; with the file, the line and the reason.
    """
    with limited(path):
        return _load(path, kind)


@contextmanager
def limited(path: str | Path) -> Iterator[None]:
    """A block that runs code of the file `path`, which may loop for ever. A module of this package has no limit.

    Raises:
        ConfigurationError: when it takes too long, or has done so before and the file is the same.
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
    """A call of a user's own code took too long; its cause says where it was then."""


def in_time(call: Callable[[], T], bars: int) -> T:
    """What `call` returns, which runs code of a user's own on so many bars.

    Raises:
        TooLong: when it is not done in time. What waits in a library and not in Python is not ended.
    """
    began, seconds = time.monotonic(), _seconds_for(bars)
    try:
        with time_limit(seconds):
            return call()
    except (Overdue, Exception) as error:
        # polars makes an error of its own of what ends a function that it calls.
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
    """How to import a file of `folder`, when `error` says that there is no such module; else nothing."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    is_beside = name is not None and (folder / f"{name.partition('.')[0]}.py").is_file()
    return f"; it is a file beside this one: `from .{name} import …`" if is_beside else ""


def is_own(function: object) -> bool:
    """True when `function` was made outside of this package, such as in a file that `load` has read."""
    return not str(getattr(function, "__module__", "")).startswith("ema_assets.")


def told(error: BaseException) -> str:
    """What `error` says, in a line."""
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    # Errors of polars go on with the query that failed.
    message = next(iter(said.strip().splitlines()), "")
    kind = type(error).__name__
    return (f"{kind}: {message}" if message else kind) + place_beside(error)


def line_of(error: BaseException, path: str | Path) -> str:
    """` line 3:`, where it is known which line of `path` is to blame."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f" line {error.lineno}:"
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f" line {lines[-1]}:" if lines else ""
