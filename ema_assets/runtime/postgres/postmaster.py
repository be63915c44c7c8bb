"""The running server of a folder: its identity, whether it answers, its first login, and its end."""

import os
import signal
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from ema_assets.model.errors import EmbeddedServerError
from ema_assets.runtime import processes
from ema_assets.runtime.postgres.server_files import POLL_SECONDS, Files

HOST = "127.0.0.1"
USER = "ema"
DATABASE = "ema"

FAST_STOP_SECONDS = 30.0
IMMEDIATE_STOP_SECONDS = 10.0
_NO_PROCESS = 2_147_483_646


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What postmaster.pid says about a server."""

    pid: int
    port: int
    is_ready: bool


def _read_pid_file(path: Path) -> Postmaster | None:
    """Return what postmaster.pid says, true or not. Line 1 is the pid, line 4 the port, line 8 the status."""
    try:
        lines = path.read_text().splitlines()
        is_ready = len(lines) > 7 and lines[7].strip() == "ready"
        return Postmaster(pid=int(lines[0]), port=int(lines[3]), is_ready=is_ready)
    except (OSError, ValueError, IndexError):
        return None


def find(files: Files) -> Postmaster | None:
    """Return the live server of the folder. Its pid in postmaster.pid may belong to another program by now."""
    written = _read_pid_file(files.pid)
    if written is None:
        return None
    return written if _is_server_of(written.pid, files.data) or _answers(files, written.port) else None


def _is_server_of(pid: int, data: Path) -> bool:
    """Return whether `pid` is a postgres in `data`, the current folder of every process of that PostgreSQL.

    False also for another user's process, whose folder cannot be read.
    """
    try:
        process = psutil.Process(pid)
        return process.name() == "postgres" and Path(process.cwd()).samefile(data)
    except (psutil.Error, OSError):
        return False


def _answers(files: Files, port: int) -> bool:
    """Return whether the server on `port` takes the folder's password and does not belong to a copy of this folder."""
    try:
        with closing(_log_in(files, port, seconds=2)) as connection, connection.cursor() as cursor:
            cursor.execute("show data_directory")
            theirs = Path(cursor.fetchone()[0])
    except (psycopg2.Error, OSError, EmbeddedServerError):
        return False
    # A path that does not exist here is this folder seen from another mount namespace: the server is running and must
    # not be started a second time.
    return not theirs.exists() or theirs.samefile(files.data)


def _password(files: Files) -> str:
    try:
        return files.passfile.read_text().strip().rpartition(":")[2]
    except FileNotFoundError:
        raise EmbeddedServerError(
            f"{files.passfile} is missing, and without it nothing can log in: put it back, or remove {files.folder} "
            f"to begin with an empty database"
        ) from None


def _log_in(files: Files, port: int, *, seconds: int) -> Any:
    """Return a psycopg2 connection to the maintenance database, regardless of PG… variables."""
    return psycopg2.connect(
        host=HOST,
        hostaddr=HOST,
        port=port,
        user=USER,
        password=_password(files),
        dbname="postgres",
        sslmode="disable",
        gssencmode="disable",
        options="",
        application_name="ema-assets start",
        connect_timeout=seconds,
    )


def log_in_and_prepare(files: Files, port: int, pid: int, deadline: float) -> bool:
    """Wait for a login and create the database if it is missing. Return False when the server `pid` ended meanwhile.

    Raises:
        EmbeddedServerError: when it refuses the password, or lets nobody log in before `deadline`.
    """
    while True:
        was_running = processes.read(pid) is not None
        try:
            connection = _log_in(files, port, seconds=5)
        except psycopg2.OperationalError as error:
            if not was_running:
                return False
            if "password authentication failed" in str(error):
                raise EmbeddedServerError(f"the PostgreSQL in {files.folder} refuses {files.passfile}") from error
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"the PostgreSQL in {files.folder} refused all logins: {str(error).strip()}\n{files.log_tail()}"
                ) from error
            time.sleep(POLL_SECONDS)
            continue
        with closing(connection):
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("select 1 from pg_database where datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(f'create database "{DATABASE}"')
        return True


def disarm_stale_pid_file(files: Files) -> None:
    """Keep a leftover postmaster.pid from preventing the start. Called with the folder locked and no server running.

    PostgreSQL itself replaces a file whose pid is dead, after checking through the shared memory named in the file that
    no backend of the dead server is left. It gives up when the pid belongs to any other process of the user. In that
    case, the number is replaced by one that no process can have, which preserves that check.
    """
    if not files.pid.exists():
        return
    written = _read_pid_file(files.pid)
    if written is None:
        files.pid.unlink()
    elif processes.read(written.pid) is not None:
        with os.fdopen(os.open(files.pid, os.O_RDWR | os.O_NOFOLLOW), "r+") as file:
            _, _, rest = file.read().partition("\n")
            file.seek(0)
            file.truncate()
            file.write(f"{_NO_PROCESS}\n{rest}")


def end(pid: int, fast_seconds: float = FAST_STOP_SECONDS) -> None:
    """Shut the server down: first fast, then immediately.

    Raises:
        EmbeddedServerError: when it belongs to another user, or is still running afterwards.
    """
    try:
        is_gone = processes.end(pid, {signal.SIGINT: fast_seconds, signal.SIGQUIT: IMMEDIATE_STOP_SECONDS})
    except PermissionError as error:
        raise EmbeddedServerError(f"the PostgreSQL with pid {pid} belongs to another user: {error}") from error
    if not is_gone:
        raise EmbeddedServerError(f"the PostgreSQL with pid {pid} does not stop")
