"""The check of EMA_HOME: whether it can be written to, and how much space is left on its disk."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ema_assets.doctor.declaration import Check, Finding, Surroundings, error, ok, warning

# Three trading days: with every signal on, 100 symbols add 0.6 GB per day before the first maintenance.
FEW_BYTES = 2 * 1024**3
# PostgreSQL stops when it cannot write its log, which grows to 1 GB between two checkpoints.
TOO_FEW_BYTES = 256 * 1024**2
_FEW_FILES = 10_000


def _look(seen: Surroundings) -> Iterator[Finding]:
    home = seen.settings.home
    nearest = next(each for each in (home, *home.parents) if each.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        yield error(f"{nearest} cannot be written to", "give yourself the right to, or set EMA_HOME to another folder")
    elif home == nearest:
        yield ok(str(home))
    else:
        yield ok(f"{home} is not there yet; the first command that needs it makes it")
    yield from _room(nearest)


def _room(folder: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(folder).free
    text = f"{free / 1024**3:,.1f} GB free on the disk of {folder}"
    remedy = "delete something, or move EMA_HOME to a larger disk; `ema-assets maintain` makes room inside the database"
    status = os.statvfs(folder)
    if free < TOO_FEW_BYTES:
        yield error(text, remedy)
    elif free < FEW_BYTES:
        yield warning(text, remedy)
    elif status.f_files and status.f_favail < _FEW_FILES:
        yield warning(f"{status.f_favail} files can still be made on the disk of {folder}", remedy)
    else:
        yield ok(text)


CHECK = Check("data folder", 10, _look)
