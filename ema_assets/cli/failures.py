"""Errors in one sentence for the person at the keyboard. The error classes are in `model.errors`."""

import errno
import os
from pathlib import Path

from ema_assets.config.settings import home_folder
from ema_assets.model.errors import EmaAssetsError
from ema_assets.store.driver_errors import refusal

_MAY_NOT = (errno.EACCES, errno.EPERM)
_CANNOT_BE_MADE = (*_MAY_NOT, errno.ENOENT, errno.ENOTDIR)


def sentence(error: Exception) -> str | None:
    """Return what `error` means to the user; None when it is a bug and must keep its traceback."""
    match error:
        case EmaAssetsError():
            return str(error)
        case OSError():
            # With EPIPE, the reader of our output has ended: click ends quietly.
            return None if error.errno == errno.EPIPE else _system_sentence(error)
    return refusal(error)


def _system_sentence(error: OSError) -> str:
    """Return what the operating system refused, with advice where it is known."""
    paths = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    where = f"{' to '.join(map(str, paths))}: " if paths else ""
    hint = "; EMA_HOME must be a folder that you may write to" if _is_home_refused(error, paths) else ""
    return f"{where}{error.strerror or error}{hint}"


def _is_home_refused(error: OSError, paths: list[Path]) -> bool:
    """Return whether the error says that EMA_HOME cannot be made or written to."""
    try:
        home = home_folder()
        own = [path for path in (path.absolute() for path in paths) if _is_about(path, home)]
    except OSError:  # the current folder was deleted
        return False
    if not own:
        return False
    # Not Path.is_dir, which raises when a folder above may not be searched.
    if not os.path.isdir(home):  # noqa: PTH112
        return error.errno in (*_CANNOT_BE_MADE, errno.EROFS)
    return error.errno == errno.EROFS or (error.errno in _MAY_NOT and not all(_is_writable(path) for path in own))


def _is_about(path: Path, home: Path) -> bool:
    """Return whether `path` lies in `home`, or is a folder above it, which had to be made first."""
    return path.is_relative_to(home) or home.is_relative_to(path) or path.is_relative_to(os.path.realpath(home))


def _is_writable(path: Path) -> bool:
    """Return whether `path` may be written, or created if it does not exist."""
    nearest = next(each for each in (path, *path.parents) if os.access(each, os.F_OK))
    # A file that can be read and written was to be replaced, for which its folder's permissions count.
    is_sound = nearest.is_file() and os.access(nearest, os.R_OK | os.W_OK)
    return os.access(nearest.parent if is_sound else nearest, os.W_OK)
