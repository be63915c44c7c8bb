"""Modules in files of a user's own folder, such as `.ema/signals/`. What they declare is not known here."""

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec
from pathlib import Path
from traceback import extract_tb
from types import CodeType, ModuleType
from typing import TypeVar

from ema_assets.model.errors import ConfigurationError
from ema_assets.model.time_limits import Overdue, time_limit

T = TypeVar("T")

# A module that imports the largest of libraries from a slow disk takes less.
LIMIT_SECONDS = 30.0
# For a call with bars, and for each of them: a step of Python per bar takes a hundredth of that. New bars of the others
# wait for no longer than a minute, and a history of 400,000 has seven.
COMPUTE_SECONDS, _SECONDS_PER_BAR = 60.0, 0.001
# Files that took longer, and how they stood then. Who looks every few seconds must not wait each time.
_overdue: dict[str, tuple[int, int, int]] = {}


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
    status = os.stat(path)  # noqa: PTH116 - beside the import of a module it costs nothing
    stamp = status.st_ino, status.st_mtime_ns, status.st_size
    line = ""
    if _overdue.get(str(path)) != stamp:
        try:
            with time_limit(LIMIT_SECONDS):
                yield
            return
        except Overdue as error:
            _overdue[str(path)], line = stamp, line_of(error, path)
    raise ConfigurationError(
        f"{path}:{line} is not done after {LIMIT_SECONDS:g} seconds; is there a loop without an end?"
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
    name = f"_ema_assets_{kind}_{path.stem}"
    spec = ModuleSpec(name, _Loader(name, str(path)), origin=str(path))
    spec.has_location = True
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"{path}:{line_of(error, path)} cannot be imported: {told(error)}") from error
    return module


def is_own(function: object) -> bool:
    """True when `function` was made outside of this package, such as in a file that `load` has read."""
    return not str(getattr(function, "__module__", "")).startswith("ema_assets.")


def told(error: BaseException) -> str:
    """What `error` says, in a line."""
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    # Errors of polars go on with the query that failed.
    message = next(iter(said.strip().splitlines()), "")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


class _Loader(SourceFileLoader):
    """Compiles each time: bytecode would be written beside the user's file, and be taken for newer than it is."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the caller's signature
        return self.source_to_code(self.get_data(self.path), self.path)


def line_of(error: BaseException, path: str | Path) -> str:
    """` line 3:`, where it is known which line of `path` is to blame."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f" line {error.lineno}:"
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f" line {lines[-1]}:" if lines else ""
