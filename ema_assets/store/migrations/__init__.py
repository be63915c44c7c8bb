"""Numbered SQL files, applied in order, each in its own transaction. A file that was applied is never edited."""

import functools
import hashlib
import re
from contextlib import closing
from dataclasses import dataclass
from importlib import resources
from typing import Any

import psycopg2

from ema_assets.model.errors import NewerDatabase, StoreError, StoreUnavailable
from ema_assets.model.timeframes import DEFAULT
from ema_assets.model.urls import masked_url
from ema_assets.store import roles, tables
from ema_assets.store.advisory_locks import AdvisoryLock
from ema_assets.store.database import Database, Transaction
from ema_assets.store.driver_errors import READ_ONLY_ADVICE

_OWN_SCHEMAS = ("dagster", "ema_assets")
_OWN_TABLES = """
CREATE TABLE IF NOT EXISTS ema_assets.migration (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
-- What the tables that are made from declarations were made of: see store/tables/ddl.py.
CREATE TABLE IF NOT EXISTS ema_assets.declaration (
    table_name text COLLATE "C" NOT NULL,
    part       text COLLATE "C" NOT NULL,
    sql        text NOT NULL,
    PRIMARY KEY (table_name, part)
);
-- Why the watchlist is not taken up, at most one row: see store/sync_failures.py.
CREATE TABLE IF NOT EXISTS ema_assets.sync_failure (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    reason  text NOT NULL,
    since   timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""
# How long a migration waits for a table that others read or write.
_LOCK_WAIT = "30s"
_IF_LOCKED = (
    "; another session has the table in use, such as an older version that still runs, a backup, or a transaction that "
    "was left open: end it and try again"
)
_OWN_NAMES = ("ema_assets.migration", "ema_assets.declaration", "ema_assets.sync_failure")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The hash of its SQL, by which an edited file is recognised."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}.sql"


def all_migrations() -> list[Migration]:
    """Return every migration that this version knows, in order."""
    found = [
        Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8"))
        for entry in resources.files(__name__).iterdir()
        if (match := re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name))
    ]
    return sorted(found, key=lambda each: each.number)


@functools.cache
def _newest_known() -> int:
    """Return the number of the newest migration at the first call. An upgrade may add files to a process's code."""
    return all_migrations()[-1].number


# The URLs of the databases that this process has migrated.
_migrated: set[str] = set()


def migrate_once(url: str) -> None:
    """Migrate the database at `url` unless this process has done so already: for callers that cannot know."""
    if url not in _migrated:
        migrate(url)


def migrate(url: str) -> list[Migration]:
    """Bring the database at `url` (libpq form) to this version; return the migrations that were applied.

    Also creates the schema `dagster`, in which Dagster's own storage creates its tables, and the table of bars. If
    nothing is missing, nothing is written, so a user who may only read can call this, too.

    Raises:
        StoreUnavailable: when the database cannot be reached.
        StoreError: when the database has an incompatible version or encoding, when a file was edited after it had been
            applied, or when the database refuses a migration.
    """
    try:
        connection = psycopg2.connect(url, connect_timeout=10)
    except psycopg2.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise StoreUnavailable(
            f"cannot connect to {masked_url(url)}: {reason}; is the server running and EMA_DATABASE_URL right?"
        ) from None
    if_refused = f"; have its owner run `ema-assets migrate`, and make this user a member of {roles.READER}"
    # Closing the connection releases the lock.
    with closing(connection):
        try:
            with connection.cursor() as cursor:
                _check_age(cursor, url)
                if _is_whole(cursor) and not _missing(cursor, url):
                    _migrated.add(url)
                    return []
                connection.rollback()
                if_refused = "; have its owner run `ema-assets migrate`"
                _wait_as_long_as_it_takes(cursor)
                cursor.execute("SELECT pg_advisory_lock(%s)", (int(AdvisoryLock.MIGRATION),))
                _check_age(cursor, url)
                _check_encoding(cursor, url)
                # Readers of a table queue behind a migration that waits for it.
                cursor.execute("SELECT set_config('lock_timeout', %s, false)", (_LOCK_WAIT,))
                _make_own_tables(cursor)
                connection.commit()
                missing = _missing(cursor, url)
                for migration in missing:
                    cursor.execute(migration.sql)
                    cursor.execute(
                        "INSERT INTO ema_assets.migration (number, name, sha256) VALUES (%s, %s, %s)",
                        (migration.number, migration.name, migration.sha256),
                    )
                    connection.commit()
                # Checked each time: a process may have been killed between its migrations and this step.
                cursor.execute("SELECT to_regclass(%s) IS NULL", (f"market.{tables.STORED_BARS.name}",))
                (lacks_bars,) = cursor.fetchone() or (True,)
        except psycopg2.Error as error:
            raise StoreError(
                f"{masked_url(url)} cannot be migrated: {_said(error)}{_advice(error, if_refused)}"
            ) from error
        if lacks_bars:
            with Database(url) as database, database.transaction() as transaction:
                tables.ensure(transaction, [tables.STORED_BARS], DEFAULT)
    _migrated.add(url)
    return missing


def check_not_newer(transaction: Transaction) -> None:
    """Refuse a database that a newer version has migrated since this process started.

    Raises:
        NewerDatabase: saying what to do.
    """
    (version,) = transaction.query("SELECT coalesce(max(number), 0) AS version FROM ema_assets.migration")["version"]
    if version > (known := _newest_known()):
        raise NewerDatabase(
            f"nothing is launched: the database was migrated to {version} by a newer ema-assets, and this one, which "
            f"still runs, knows {known}: stop it and start the newer version"
        )


def _wait_as_long_as_it_takes(cursor: Any) -> None:
    """Lift the time limits of server, database or role on statements, which are meant for queries, as pg_restore does.

    Otherwise a migration that takes longer, or waits for that of another process, would never complete.
    """
    cursor.execute(
        """
        SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('statement_timeout', 'transaction_timeout')
        """
    )


def _make_own_tables(cursor: Any) -> None:
    """Create the schemas and tables that are in no numbered file, if they are missing.

    `CREATE SCHEMA IF NOT EXISTS` would require the right to create schemas even if the schema exists.
    """
    cursor.execute("SELECT name FROM unnest(%s) AS t(name) WHERE to_regnamespace(name) IS NULL", ([*_OWN_SCHEMAS],))
    for (name,) in cursor.fetchall():
        cursor.execute(f"CREATE SCHEMA {name}")
    cursor.execute(_OWN_TABLES)


def _said(error: psycopg2.Error) -> str:
    """Return PostgreSQL's message in one line, without the statement."""
    said = (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)
    parts = [part.rstrip(".") for part in said if part]
    return " ".join("; ".join(parts or [str(error).strip()]).split())


def _advice(error: psycopg2.Error, if_refused: str) -> str:
    """Return the advice for a migration that the database refuses; empty if there is none."""
    match error:
        case psycopg2.errors.InsufficientPrivilege():
            return if_refused
        case psycopg2.errors.LockNotAvailable():
            return _IF_LOCKED
        case psycopg2.errors.ReadOnlySqlTransaction():
            return f"; {READ_ONLY_ADVICE}"
    return ""


def _is_whole(cursor: Any) -> bool:
    """Return whether everything that is not in a numbered file exists."""
    cursor.execute(
        """
        SELECT bool_and(to_regclass(name) IS NOT NULL) AND to_regnamespace('dagster') IS NOT NULL
        FROM unnest(%s) AS t(name)
        """,
        ([*_OWN_NAMES, f"market.{tables.STORED_BARS.name}"],),
    )
    (is_whole,) = cursor.fetchone() or (False,)
    return bool(is_whole)


def _check_age(cursor: Any, url: str) -> None:
    """Refuse a database from before the baseline, whose files were numbered in another way."""
    cursor.execute(
        """
        SELECT count(*) FILTER (WHERE attname = 'sha256') FROM pg_attribute
        WHERE attrelid = to_regclass('ema_assets.migration') HAVING count(*) > 0
        """
    )
    if cursor.fetchone() == (0,):
        raise StoreError(
            f"{masked_url(url)} was made by ema-assets before 0.1.0, whose tables this one cannot take over; "
            "nothing was changed. To start again, set EMA_HOME to another folder, or EMA_DATABASE_URL to an empty "
            "database, and start `ema-assets up`"
        )


def _check_encoding(cursor: Any, url: str) -> None:
    """Refuse a database that cannot store every text: the first foreign letter would end a run or a restore."""
    cursor.execute("SELECT getdatabaseencoding()")
    (encoding,) = cursor.fetchone() or ("",)
    if encoding != "UTF8":
        raise StoreError(
            f"{masked_url(url)} has the encoding {encoding}, and only UTF8 holds every text; nothing was changed. "
            "Make one with CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0, and set EMA_DATABASE_URL "
            "to it"
        )


def _missing(cursor: Any, url: str) -> list[Migration]:
    """Return the migrations that are still to be applied.

    Raises:
        StoreError: when a newer version has migrated the database, or an applied file was edited.
    """
    known = all_migrations()
    cursor.execute("SELECT number, sha256 FROM ema_assets.migration ORDER BY number")
    applied = dict(cursor.fetchall())
    version = max(applied, default=0)
    if version > known[-1].number:
        raise NewerDatabase(
            f"{masked_url(url)} was migrated to {version} by a newer ema-assets; this one knows "
            f"{known[-1].number}: install the newer version"
        )
    for migration in known:
        if applied.get(migration.number, migration.sha256) != migration.sha256:
            raise StoreError(
                f"{migration} was edited after it had been applied to {masked_url(url)}: put the file back as it was "
                "and write what is new into another one"
            )
    return [migration for migration in known if migration.number not in applied]
