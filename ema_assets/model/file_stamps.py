"""Stamps that show whether a file has changed. No file is read or imported."""

import os
from collections.abc import Iterable
from pathlib import Path

# A file's path, inode, time of last change in nanoseconds and size; zeros if there is no file.
Stamp = tuple[str, int, int, int]


def stamp(path: str | Path) -> Stamp:
    """Return the stamp of one file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a tenth of the time of a Path, for thousands of files
    except OSError:
        return str(path), 0, 0, 0
    return str(path), found.st_ino, found.st_mtime_ns, found.st_size


def stamps(paths: Iterable[str | Path]) -> tuple[Stamp, ...]:
    """Return the stamps of all `paths`, in their order."""
    return tuple(stamp(path) for path in paths)
