"""Numbered SQL files, applied in order, each in its own transaction. A file is never edited once it was applied."""

import re
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from typing import Any

import psycopg2

from ema_assets.model.errors import StoreError, StoreUnavailable
from ema_assets.model.urls import masked_url

# Any constant will do, as long as only migrations take it: two processes that start together migrate once.
_LOCK = 930_000_001


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    sql: str

    @property
    def file_name(self) -> str:
        """The name of the file."""
        return f"{self.number:04}_{self.name}.sql"

    @property
    def sha256(self) -> str:
        """The hash of its text, by which an edit is seen."""
        return sha256(self.sql.encode()).hexdigest()


def all_migrations() -> list[Migration]:
    """Every migration that this version knows, in order."""
    migrations = [
        Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8"))
        for entry in resources.files(__name__).iterdir()
        if (match := re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name))
    ]
    return sorted(migrations, key=lambda each: each.number)


def migrate(url: str) -> list[Migration]:
    """Bring the database at `url` (libpq form) to this version; return what was applied. Raises as `apply_missing`."""
    with closing(connect(url)) as connection:
        return apply_missing(connection, url)


def connect(url: str) -> Any:
    """A connection to the database at `url`.

    Raises:
        StoreUnavailable: when the database cannot be reached.
    """
    try:
        return psycopg2.connect(url, connect_timeout=10)
    except psycopg2.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise StoreUnavailable(
            f"cannot connect to {masked_url(url)}: {reason}; is the server running and EMA_DATABASE_URL right?"
        ) from None


def apply_missing(connection: Any, url: str) -> list[Migration]:
    """Apply what the database lacks; return it. Other processes wait for the lock until the connection is closed.

    Also makes the schema `dagster`, in which Dagster's own storage makes its tables.

    Raises:
        StoreError: when the database is newer than this version, or older than its first migration, or refuses a
            migration; or when a migration was edited after it was applied. Nothing is changed then, but for migrations
            before one that is refused.
    """
    applied = []
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            _refuse_unreleased(cursor, url)
            cursor.execute("CREATE SCHEMA IF NOT EXISTS dagster")
            cursor.execute("CREATE SCHEMA IF NOT EXISTS ema_assets")
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS ema_assets.migration (number integer PRIMARY KEY, name text NOT NULL, "
                "sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            connection.commit()
            for migration in _missing(cursor, url):
                cursor.execute(migration.sql)
                cursor.execute(
                    "INSERT INTO ema_assets.migration (number, name, sha256) VALUES (%s, %s, %s)",
                    (migration.number, migration.name, migration.sha256),
                )
                connection.commit()
                applied.append(migration)
    except psycopg2.Error as error:
        raise StoreError(f"{masked_url(url)} cannot be migrated: {str(error).strip()}") from error
    return applied


def _refuse_unreleased(cursor: Any, url: str) -> None:
    """Refuse a database from before the first release, whose six migrations the baseline has replaced.

    They kept no hashes.
    """
    cursor.execute(
        "SELECT count(*) > 0, count(*) FILTER (WHERE attname = 'sha256') > 0 FROM pg_attribute "
        "WHERE attrelid = to_regclass('ema_assets.migration') AND attnum > 0 AND NOT attisdropped"
    )
    is_there, has_hashes = cursor.fetchone()
    if is_there and not has_hashes:
        raise StoreError(
            f"{masked_url(url)} was made by a development version of ema-assets, cannot be brought to this one, and is "
            "left as it is; load anew with `EMA_HOME=… ema-assets up` into a new folder, or into an empty database at "
            "EMA_DATABASE_URL"
        )


def _missing(cursor: Any, url: str) -> list[Migration]:
    """The migrations that are still to be applied, once those that were are what they were."""
    cursor.execute("SELECT number, sha256 FROM ema_assets.migration ORDER BY number")
    applied = dict(cursor.fetchall())
    known = all_migrations()
    version = max(applied, default=0)
    if version > known[-1].number:
        raise StoreError(
            f"{masked_url(url)} was migrated to {version} by a newer ema-assets; this one knows {known[-1].number}: "
            "install the newer version"
        )
    for migration in known:
        if migration.number <= version and applied.get(migration.number) != migration.sha256:
            raise StoreError(
                f"the migration {migration.file_name} is not the one that was applied to {masked_url(url)}: a "
                "migration must not be edited, a change needs a new one; restore the file or install ema-assets again"
            )
    return [migration for migration in known if migration.number > version]
