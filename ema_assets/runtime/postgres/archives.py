"""Backup and restore by PostgreSQL's own programs: those of the wheel, or else those of the system.

A backup is one archive of pg_dump, a consistent snapshot while everything runs. A restore is one transaction: it
replaces everything, or nothing. Passwords reach the programs in their environment, never as an argument.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from urllib.parse import unquote, urlsplit

from ema_assets.model.errors import ConfigurationError, EmbeddedServerError, StoreError
from ema_assets.model.urls import masked_url, without_password
from ema_assets.runtime.postgres import cluster
from ema_assets.store import archived, own_views, results, retention, roles
from ema_assets.store.database import Database
from ema_assets.store.driver_errors import refusal
from ema_assets.store.migrations import all_migrations, migrate

# pg_restore 17 and newer sets this first; older servers do not know it.
_UNKNOWN_BELOW_17 = b"SET transaction_timeout = 0;\n"
# The security releases of November 2026 note this for each column. A pg_dump that is older than its server writes it as
# a user's option, which a server that is older, too, refuses.
_OF_ITS_SERVER = re.compile(rb"ALTER TABLE ONLY [^;]+ SET \(pg_attver=\d+\);\n")
_LOCK_WAIT_MILLISECONDS = 60_000


@dataclass(frozen=True, slots=True)
class Archive:
    """What a file of `back_up` holds: whether it has Dagster's tables, and its newest migration."""

    has_dagster: bool
    migration: int

    @property
    def schemas(self) -> tuple[str, ...]:
        """The schemas in the archive."""
        return (*archived.SCHEMAS, *([archived.DAGSTER] if self.has_dagster else []))


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of a restore: the archive, migrations applied afterwards, and how many series to report to Dagster.

    `lost` says for each view of a user that could not be restored why, and how it was made.
    """

    archive: Archive
    migrations: int
    series_to_record: int
    lost: tuple[str, ...] = ()


def back_up(url: str, path: Path, *, with_dagster: bool = False, overwrite: bool = False) -> int:
    """Write the database at `url` (libpq form) to the archive `path`, readable by its owner only; return its bytes.

    Raises:
        ConfigurationError: when `path` exists and is not to be overwritten.
        StoreError: when the database cannot be reached or pg_dump refuses. There is no archive then, or the old one.
    """
    # A link is followed: the archive is wanted where it leads.
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise ConfigurationError(f"{path} is not a file that can be overwritten; choose another one")
    if path.exists() and not overwrite:
        raise ConfigurationError(f"{path} exists; choose another file, or say `--overwrite`")
    if not path.parent.is_dir():
        raise ConfigurationError(f"{path} cannot be written: there is no folder {path.parent}")
    schemas = (*archived.SCHEMAS, *([archived.DAGSTER] if with_dagster else []))
    with Database(url) as database, database.transaction() as transaction:
        version = archived.server_version(transaction)
        is_ours = archived.is_ours(transaction)
    if not is_ours:
        raise StoreError(f"{masked_url(url)} holds nothing of ema-assets")
    options = [
        *("--format=custom", "--no-owner", "--no-privileges", "--no-unlogged-table-data", "--no-password"),
        *(f"--schema={schema}" for schema in schemas),
        f"--lock-wait-timeout={_LOCK_WAIT_MILLISECONDS}",
    ]
    unfinished = path.with_name(f"{path.name}.unfinished")
    with suppress(FileNotFoundError):
        unfinished.unlink()
    try:
        # Created here, so that it never has a wider mode than this.
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            _run(_folder(version) / "pg_dump", [*options, f"--file={unfinished}"], url)
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path.stat().st_size


def check_is_there(path: Path) -> None:
    """Refuse a path that is not a file.

    Raises:
        ConfigurationError: when there is no such file.
    """
    if not path.is_file():
        raise ConfigurationError(f"{path}: there is no such file")


def look_into(path: Path, folder: Path | None = None) -> Archive:
    """Return what the archive `path` holds.

    Raises:
        ConfigurationError: when it is not an archive of `back_up`, or one of a newer version of ema-assets.
    """
    check_is_there(path)
    program = (folder or _folder(0)) / "pg_restore"
    try:
        listed = _output(program, ["--list", path])
        schema, _, table = archived.MIGRATIONS.partition(".")
        rows = _output(program, ["--data-only", f"--schema={schema}", f"--table={table}", "--file=-", path])
    except StoreError as error:
        raise ConfigurationError(f"{path} is not a backup of ema-assets: {error}") from None
    numbers = [int(number) for number in re.findall(r"^(\d+)\t\w+\t[0-9a-f]{64}\t", rows, re.MULTILINE)]
    if not numbers:
        raise ConfigurationError(f"{path} is not a backup of ema-assets: no migration of ours is in it")
    known = all_migrations()[-1].number
    if max(numbers) > known:
        raise ConfigurationError(
            f"{path} was written by a newer ema-assets, with migration {max(numbers)}; this one knows {known}: install "
            "the newer version"
        )
    return Archive(f" SCHEMA - {archived.DAGSTER} " in listed, max(numbers))


def restore(url: str, path: Path, *, replace: bool = False) -> Restored:
    """Replace the database at `url` (libpq form) by the content of the archive `path`, and migrate it to this version.

    Raises:
        ConfigurationError: when `path` is no such archive, when there is data and `replace` is false, or when views of
            other users read what would be dropped.
        StoreError: when a program or the database refuses. The database is then unchanged, unless the message says that
            the archive was restored.
    """
    with Database(url) as database:
        with database.transaction() as transaction:
            version = archived.server_version(transaction)
        folder = _folder(version)
        archive = look_into(path, folder)
        with database.transaction() as transaction:
            if not replace and archived.has_data(transaction, archive.schemas):
                raise ConfigurationError(
                    f"{masked_url(url)} holds data, which a restore would delete; say `--replace`, or restore into "
                    "another EMA_HOME or an empty database"
                )
            others = archived.views_of_others(transaction, archive.schemas)
            own = own_views.noted(transaction, results.VIEWS)
        if others:
            raise ConfigurationError(f"views of yours read what would be dropped; drop them first: {', '.join(others)}")
    _load(url, path, archive, folder, version)
    with _after_the_load(path, own):
        applied = migrate(url)
        # A new connection, which knows the types of the new tables.
        with Database(url) as database:
            with database.transaction() as transaction:
                to_record = 0 if archive.has_dagster else archived.forget_dagster(transaction)
                roles.grant(transaction)
                tables = retention.changed_tables(transaction)
            for table in tables:
                with database.transaction() as transaction:
                    retention.analyze(transaction, table)
            lost = tuple(_put_back(database, own))
    return Restored(archive, len(applied), to_record, lost)


@contextmanager
def _after_the_load(path: Path, own: Sequence[own_views.OwnView]) -> Iterator[None]:
    """Say of an error in the block that the archive itself was restored, and how the views `own` were made."""
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, StoreError) else refusal(error)
        if reason is None:
            raise
        # Of a query with several lines, too, the sentence is one line.
        made_by = "; ".join(" ".join(view.statements[0].split()) for view in own)
        views = f". Views of yours may be missing: {made_by}" if own else ""
        raise StoreError(
            f"{path} was restored, but what follows a restore was not finished: {reason}; restore it once more, with "
            f"`--replace`{views}"
        ) from error


def _put_back(database: Database, own: Sequence[own_views.OwnView]) -> Iterator[str]:
    """Recreate those views of `own` that the archive lacks; yield, for each that cannot be, why and how it was made."""
    for view in own:
        try:
            with database.transaction() as transaction:
                own_views.put_back(transaction, [view])
        except StoreError as error:
            yield f"{error}. It was made by: {view.statements[0]}"


def _load(url: str, path: Path, archive: Archive, folder: Path, version: int) -> None:
    """Send the archive as SQL to psql. COMMIT is sent last, once the whole archive was read without an error."""
    arguments, env = _called(url)
    reading: list[str | Path] = [folder / "pg_restore", "--no-owner", "--no-privileges", "--file=-", path]
    writing: list[str | Path] = [
        folder / "psql",
        "--no-psqlrc",
        "--quiet",
        "--no-password",
        "--set=ON_ERROR_STOP=1",
        *arguments,
    ]
    with TemporaryFile() as read_errors, TemporaryFile() as write_errors:
        with (
            _started(writing, env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=write_errors) as psql,
            _started(reading, _environment(), stdout=subprocess.PIPE, stderr=read_errors) as pg_restore,
        ):
            assert psql.stdin is not None
            assert pg_restore.stdout is not None
            with suppress(BrokenPipeError):  # psql has said why
                psql.stdin.write((archived.BEGIN + archived.make_room(archive.schemas)).encode())
                _copy(pg_restore.stdout, psql.stdin, version)
                if pg_restore.wait() == 0:
                    psql.stdin.write(archived.COMMIT.encode())
            with suppress(BrokenPipeError):
                psql.stdin.close()
            psql.wait()
            pg_restore.stdout.close()
            pg_restore.wait()
        if psql.returncode != 0 or pg_restore.returncode != 0:
            # An error of psql makes pg_restore fail, too.
            said = write_errors if psql.returncode != 0 else read_errors
            reason = _said(said)
            raise StoreError(f"{path} was not restored, and nothing was changed: {reason}{_advice(reason, url)}")


def _advice(reason: str, url: str) -> str:
    """Return advice when psql reports missing rights of the user in `url`; empty for other errors."""
    if found := re.search(r"permission denied for database (\S+)", reason):
        user = unquote(urlsplit(url).username or "…")
        return (
            "; a restore makes schemas, and this user may not: log in as the owner of the database, or let it: "
            f"GRANT CREATE ON DATABASE {found[1]} TO {user}"
        )
    if re.search(r"must be owner of |permission denied for schema ", reason):
        return "; a restore drops the schemas that are there, which only their owner may: log in as that user"
    return ""


def _copy(source: IO[bytes], target: IO[bytes], version: int) -> None:
    """Copy SQL to a server of `version`, except statements that it may not know, which all precede the first rows."""
    for line in iter(source.readline, b""):
        is_unknown = line == _UNKNOWN_BELOW_17 and version < 170_000
        if not is_unknown and not _OF_ITS_SERVER.fullmatch(line):
            target.write(line)
        if line.startswith(b"COPY "):
            break
    shutil.copyfileobj(source, target, 1 << 20)
    target.flush()


def _folder(version: int) -> Path:
    """Return the folder of programs that support a server of `version`: the wheel's, or else the system's."""
    folders = []
    with suppress(EmbeddedServerError):
        folders.append(cluster.programs())
    on_path = shutil.which("pg_dump")
    if on_path is not None:
        folders.append(Path(on_path).parent)
    for folder in folders:
        found = re.search(r"\(PostgreSQL\) (\d+)", _output(folder / "pg_dump", ["--version"]))
        if found and int(found[1]) >= version // 10_000:
            return folder
    raise StoreError(
        f"there is no pg_dump for PostgreSQL {version // 10_000}: install the client programs of that version, such as "
        f"the package postgresql-client-{version // 10_000}"
    )


def _called(url: str) -> tuple[list[str], dict[str, str]]:
    """Return the arguments by which a program connects to `url`, and its environment with the password."""
    without, password = without_password(url)
    if "sslpassword=" in without:
        raise ConfigurationError("`sslpassword` of EMA_DATABASE_URL cannot be handed on; use a key without a password")
    env = _environment()
    if password is not None:
        env["PGPASSWORD"] = password
    return [f"--dbname={without}"], env


def _environment() -> dict[str, str]:
    """Return the programs' environment: no provider keys, and of the PG… variables only PGPASSFILE."""
    names = ("HOME", "PATH", "TMPDIR", "LD_LIBRARY_PATH", "PGPASSFILE")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {"LC_ALL": "C.UTF-8", "PGAPPNAME": "ema-assets archive", **kept}


def _run(program: Path, options: Sequence[str], url: str) -> None:
    arguments, env = _called(url)
    with TemporaryFile() as errors:
        with _started([program, *options, *arguments], env, stdout=subprocess.DEVNULL, stderr=errors) as process:
            process.wait()
        if process.returncode != 0:
            raise StoreError(f"{program.name} could not read {masked_url(url)}: {_said(errors)}")


def _output(program: Path, arguments: Sequence[str | Path]) -> str:
    """Return what a program prints that needs no database."""
    with TemporaryFile() as errors:
        with _started([program, *arguments], _environment(), stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            printed = process.stdout.read().decode(errors="replace")
            process.wait()
        if process.returncode != 0:
            raise StoreError(_said(errors))
    return printed


@contextmanager
def _started(
    argv: Sequence[str | Path],
    env: dict[str, str],
    *,
    stdout: int,
    stderr: IO[bytes],
    stdin: int = subprocess.DEVNULL,
) -> "Iterator[subprocess.Popen[bytes]]":
    """Start a program for the block, and end it with the block in any case."""
    process = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr, env=env)  # noqa: S603
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def _said(errors: IO[bytes]) -> str:
    """Return the first error that a program wrote, as one line."""
    errors.seek(0)
    lines = [line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error|fatal", line, re.IGNORECASE)]
    first = next(iter(telling or lines), "it did not say why")
    return re.sub(r"^(psql|pg_dump|pg_restore)[^ ]*: (error: )?|^(ERROR|FATAL): +", "", first)
