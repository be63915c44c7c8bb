"""What tells that a file is another one than before. Nothing is read or imported."""

import os
from collections.abc import Iterable
from pathlib import Path

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
