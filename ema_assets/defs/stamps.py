"""What tells that a file is another one than before: of the configuration, and of code. Nothing is read or imported."""

import os
from collections.abc import Iterable
from pathlib import Path

from ema_assets.config.settings import Settings
from ema_assets.model.own_modules import all_files

# Of a file: its path, inode, time of last change in nanoseconds and size; zeros when there is none.
Stamp = tuple[str, int, int, int]


def stamp(path: str | Path) -> Stamp:
    """The stamp of one file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a tenth of the time of a Path, for thousands of files
    except OSError:
        return str(path), 0, 0, 0
    return str(path), found.st_ino, found.st_mtime_ns, found.st_size


def stamps(paths: Iterable[str | Path]) -> tuple[Stamp, ...]:
    """The stamps of all `paths`, in their order."""
    return tuple(stamp(path) for path in paths)


def configuration_files(settings: Settings) -> list[Path]:
    """The watchlist, and the files of the user's signals and strategies with what they import."""
    return [settings.watchlist_path, *all_files((settings.signals_folder, settings.strategies_folder))]
