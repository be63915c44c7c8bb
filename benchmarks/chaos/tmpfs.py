"""A small file system in memory for the database, so that a disk can be full without filling the machine's."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOM = 2 * 2**30


def resize(folder: Path, size: int = _ROOM) -> None:
    """Change how many bytes there is room for."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)  # noqa: S607


@contextmanager
def mounted(folder: Path) -> Iterator[Path | None]:
    """A file system at `folder` while the block runs; None, and nothing done, where we are not root or may not."""
    if os.geteuid() != 0:
        yield None
        return
    folder.mkdir(mode=0o700, parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={_ROOM},mode=700", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607
