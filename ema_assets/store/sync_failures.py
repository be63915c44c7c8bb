"""Why the last sync of the watchlist to the database failed: kept until a sync succeeds. SQL only."""

from dataclasses import dataclass
from datetime import datetime

from ema_assets.store.database import Transaction


@dataclass(frozen=True, slots=True)
class SyncFailure:
    """The reason of a failed sync, in a sentence, and since when it has failed for this reason (UTC)."""

    reason: str
    since: datetime


def note(transaction: Transaction, reason: str) -> None:
    """Store `reason`. If it is stored already, it keeps its time."""
    transaction.execute(
        """
        INSERT INTO ema_assets.sync_failure AS f (reason) VALUES ($1)
        ON CONFLICT (is_only) DO UPDATE SET reason = excluded.reason, since = excluded.since
        WHERE f.reason <> excluded.reason
        """,
        reason[:1000],
    )


def forget(transaction: Transaction) -> None:
    """Delete the stored reason: the last sync succeeded, or there is nothing to sync."""
    transaction.execute("DELETE FROM ema_assets.sync_failure")


def last(transaction: Transaction) -> SyncFailure | None:
    """Return the stored failure; None when the last sync succeeded, or in a database of a version without this table.

    Such a version gave its readers no access to the schema, so they see nothing until the first sync by this version.
    """
    is_old = """
        SELECT NOT EXISTS (
            SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'ema_assets' AND c.relname = 'sync_failure' AND has_schema_privilege(n.oid, 'USAGE')
        ) AS is_old
        """
    if transaction.query(is_old).item():
        return None
    found = transaction.query("SELECT reason, since FROM ema_assets.sync_failure")
    return SyncFailure(*found.row(0)) if found.height else None
