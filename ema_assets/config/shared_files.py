"""Text files that several processes may edit: one process at a time, and every reader sees a whole file."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def locked(path: Path) -> Iterator[Path]:
    """Wait until no other process edits the file at `path`, and lock it; yield `path` with links followed.

    The lock is a hidden file next to that file, `.NAME.lock`, which is deleted after the edit. The folder must exist.

    Raises:
        OSError: naming `path`, when nothing may be written next to it.
    """
    target = path.resolve()
    lock_path = target.with_name(f".{target.name}.lock")
    while True:
        with _opened_and_locked(lock_path, target) as lock:
            if _is_still_there(lock, lock_path):
                try:
                    yield target
                finally:
                    lock_path.unlink(missing_ok=True)
                return
        # The process that had the lock has deleted the file: lock a new one.


@contextmanager
def _opened_and_locked(lock_path: Path, target: Path) -> Iterator[IO[bytes]]:
    with _errors_name(target):
        lock = lock_path.open("ab")
    with lock:
        with _errors_name(target):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def _is_still_there(lock: IO[bytes], lock_path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), lock_path.stat())
    except FileNotFoundError:
        return False


def replace_text(path: Path, text: str) -> None:
    """Write `text` to the file at `path`, which keeps its permissions and, where that is allowed, its owner.

    The text goes to a file next to it first, which then takes its place: a crash leaves the old text or the new one.

    Raises:
        OSError: naming `path`; the file is unchanged.
    """
    draft = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    with _errors_name(path):
        try:
            with draft.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                owner = path.stat()
                with suppress(PermissionError):
                    os.chown(draft, owner.st_uid, owner.st_gid)
                shutil.copymode(path, draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def _errors_name(path: Path) -> Iterator[None]:
    """Make errors about the files next to `path` name `path`: the user knows no other."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
