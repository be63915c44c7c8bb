"""The files of one server's folder: where they are, how they are written, its lock and its leases."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ema_assets.model.errors import EmbeddedServerError

LOCK_SECONDS = 120.0
POLL_SECONDS = 0.02
INSTEAD = "or set EMA_DATABASE_URL to a PostgreSQL of your own"


class Files:
    """The paths below `folder`; the package's docstring describes each of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.pid = self.data / "postmaster.pid"
        self.passfile = self.folder / "passfile"
        self.port = self.folder / "port"
        self.lock = self.folder / "lock"
        self.leases = self.folder / "leases"
        self.settings = self.folder / "server.conf"
        self.logins = self.folder / "pg_hba.conf"
        self.log = self.folder / "log"
        self.start_log = self.folder / "start.log"

    def log_sizes(self) -> dict[Path, int]:
        """Return the current size of each log in bytes.

        What the server says before it opens a log is in `start_log`.
        """
        return {path: path.stat().st_size for path in (self.start_log, *self.log.glob("*.log")) if path.exists()}

    def log_tail(self, since: dict[Path, int] | None = None, lines: int = 15) -> str:
        """Return the last lines that the server wrote, since `log_sizes()` if `since` is given."""
        written = b"".join(path.read_bytes()[(since or {}).get(path, 0) :] for path in self.log_sizes())
        return "\n".join(written.decode(errors="replace").splitlines()[-lines:]) or "(its log is empty)"


def make_folder(folder: Path) -> None:
    """Make `folder`, for its owner only.

    Raises:
        EmbeddedServerError: when it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o066:
            folder.chmod(0o700)
    except OSError as error:
        raise EmbeddedServerError(f"{folder} cannot hold a PostgreSQL: {error}; choose another, {INSTEAD}") from error


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file that never has a wider mode. It replaces an existing file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.chmod(mode)
    temporary.replace(path)


def give_to_the_owner(files: Files) -> None:
    """Give files to the folder's owner, who must be able to open what root wrote, e.g. in `sudo ema-assets …`."""
    owner = files.folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for path in files.folder.iterdir():
        if not path.is_dir():
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise EmbeddedServerError(f"{path.parent} cannot be used by uid {os.geteuid()}: {error}") from error


def _lock_now(descriptor: int, how: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        return True
    return False


@contextmanager
def locked(files: Files) -> Iterator[None]:
    """Lock the folder: one process at a time starts or stops its server.

    Raises:
        EmbeddedServerError: when another process keeps the lock for LOCK_SECONDS.
    """
    descriptor = _open(files.lock)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while not _lock_now(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"another process has been starting or stopping PostgreSQL for {LOCK_SECONDS:.0f} s: it has "
                    f"locked {files.lock}"
                )
            time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


class Lease:
    """This process's right to find the server running: a shared lock, which the kernel releases when the process ends.

    So there is no list of pids to maintain: a killed process holds no lock, even if another process gets its pid.
    """

    def __init__(self, files: Files) -> None:
        self._path = files.leases
        self._descriptor: int | None = None

    @property
    def is_taken(self) -> bool:
        """Whether this object holds the lease."""
        return self._descriptor is not None

    def take(self) -> None:
        """Take the lease, unless it is taken.

        Called with the folder locked, so that nobody checks for the last lease meanwhile.
        """
        if self._descriptor is None:
            self._descriptor = _open(self._path)
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
            # For a person who wonders why the server still runs. Ended processes stay listed until no lease is left.
            # On a full disk nobody is listed: the lease is the lock.
            with suppress(OSError):
                os.lseek(self._descriptor, 0, os.SEEK_END)
                os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def give_back(self) -> None:
        """Give the lease back, if it is taken. Called with the folder locked."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_leased(files: Files) -> bool:
    """Return whether any process holds a lease. Empties the file when none does. Called with the folder locked."""
    descriptor = _open(files.leases)
    try:
        is_free = _lock_now(descriptor, fcntl.LOCK_EX)
        if is_free:
            os.ftruncate(descriptor, 0)
        return not is_free
    finally:
        os.close(descriptor)
