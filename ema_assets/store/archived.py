"""Backup and restore: schemas that belong to an archive, data in the way, and what follows a restore. SQL only."""

from collections.abc import Sequence

from ema_assets.store.database import Transaction
from ema_assets.store.own_views import READS

# In the order in which they are dropped: views before the tables that they read.
SCHEMAS = ("results", "market", "ema_assets")
DAGSTER = "dagster"
# The table in which an archive says which migrations were applied.
MIGRATIONS = "ema_assets.migration"

# A restore is one transaction: nothing changes before its last line.
BEGIN = "BEGIN;\n"
COMMIT = "COMMIT;\n"


def server_version(transaction: Transaction) -> int:
    """Return the server's version as PostgreSQL's number: 180004 for 18.4."""
    return int(transaction.query("SELECT current_setting('server_version_num')::bigint AS n").item())


def is_ours(transaction: Transaction) -> bool:
    """Return whether the database was ever migrated by this project."""
    return bool(transaction.query(f"SELECT to_regclass('{MIGRATIONS}') IS NOT NULL AS is_ours").item())


def make_room(schemas: Sequence[str]) -> str:
    """Return the statements that drop `schemas` before an archive creates them again."""
    drops = "".join(f"DROP SCHEMA IF EXISTS {schema} CASCADE;\n" for schema in schemas)
    # Sessions that still read or write there are waited for this long; then the restore fails.
    return f"SET client_min_messages = warning;\nSET lock_timeout = '30s';\n{drops}SET lock_timeout = 0;\n"


def has_data(transaction: Transaction, schemas: Sequence[str]) -> bool:
    """Return whether a restore of `schemas` would delete symbols, bars or runs."""
    looked_at = ["market.instrument", "market.ohlc"]
    if DAGSTER in schemas:
        looked_at += [f"{DAGSTER}.runs", f"{DAGSTER}.event_logs"]
    for table in looked_at:
        there = transaction.query(f"SELECT to_regclass('{table}') IS NOT NULL AS is_there").item()
        if there and transaction.query(f"SELECT EXISTS (SELECT FROM {table}) AS has_rows").item():
            return True
    return False


def views_of_others(transaction: Transaction, schemas: Sequence[str]) -> list[str]:
    """Return views in other schemas that read from `schemas` and would be dropped with them; sorted."""
    found = transaction.query(
        f"""
        SELECT DISTINCT format('%I.%I', n.nspname, v.relname) AS name
        FROM ({READS}) r
        JOIN pg_class v ON v.oid = r.reader
        JOIN pg_namespace n ON n.oid = v.relnamespace
        JOIN pg_class t ON t.oid = r.source
        JOIN pg_namespace tn ON tn.oid = t.relnamespace
        WHERE tn.nspname = ANY ($1::text[]) AND n.nspname <> ALL ($1::text[])
        ORDER BY 1
        """,
        list(schemas),
    )
    return [str(name) for name in found["name"]]


def forget_dagster(transaction: Transaction) -> int:
    """Write that no series has been reported to Dagster; return how many had been.

    The ledger names events of a log that no longer exists. The next runs report each series to Dagster again.
    """
    found = transaction.query(
        """
        WITH forgotten AS (
            UPDATE market.series_state
            SET recorded_at = NULL, recorded_revision = NULL, recorded_event = NULL, recorded_first_event = NULL
            WHERE recorded_at IS NOT NULL RETURNING 1
        ) SELECT count(*) AS n FROM forgotten
        """
    )
    return int(found.item())
