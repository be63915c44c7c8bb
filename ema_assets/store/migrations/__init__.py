"""Numbered SQL files, applied in order, each in a transaction of its own. Never edit one that has been released."""

import re
from dataclasses import dataclass
from importlib import resources

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


def all_migrations() -> list[Migration]:
    """Every migration that this version knows, in order."""
    found = [
        Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8"))
        for entry in resources.files(__name__).iterdir()
        if (match := re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name))
    ]
    return sorted(found, key=lambda each: each.number)


def migrate(url: str) -> list[Migration]:
    """Bring the database at `url` (libpq form) to this version; return what was applied.

    Also makes the schema `dagster`, in which Dagster's own storage makes its tables.

    Raises:
        StoreUnavailable: when the database cannot be reached.
        StoreError: when the database is newer than this version, or refuses a migration.
    """
    try:
        connection = psycopg2.connect(url, connect_timeout=10)
    except psycopg2.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise StoreUnavailable(
            f"cannot connect to {masked_url(url)}: {reason}; is the server running and EMA_DATABASE_URL right?"
        ) from None
    known = all_migrations()
    applied = []
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            cursor.execute("CREATE SCHEMA IF NOT EXISTS dagster")
            cursor.execute("CREATE SCHEMA IF NOT EXISTS ema_assets")
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS ema_assets.migration "
                "(number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            connection.commit()
            cursor.execute("SELECT coalesce(max(number), 0) FROM ema_assets.migration")
            (version,) = cursor.fetchone() or (0,)
            if version > known[-1].number:
                raise StoreError(
                    f"{masked_url(url)} was migrated to {version} by a newer ema-assets; this one knows "
                    f"{known[-1].number}: install the newer version"
                )
            for migration in known:
                if migration.number > version:
                    cursor.execute(migration.sql)
                    cursor.execute(
                        "INSERT INTO ema_assets.migration (number, name) VALUES (%s, %s)",
                        (migration.number, migration.name),
                    )
                    connection.commit()
                    applied.append(migration)
    except psycopg2.Error as error:
        raise StoreError(f"{masked_url(url)} cannot be migrated: {str(error).strip()}") from error
    finally:
        # The lock goes with the connection.
        connection.close()
    return applied
