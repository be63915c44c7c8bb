"""Why the database could not be made to fit the watchlist: kept from the first failure until it succeeds. SQL only."""

from dataclasses import dataclass
from datetime import datetime

from ema_assets.store.database import Transaction


@dataclass(frozen=True, slots=True)
class SyncFailure:
    """What went wrong, in a sentence, and since when it has been so (UTC)."""

    reason: str
    since: datetime


def note(transaction: Transaction, reason: str) -> None:
    """Keep `reason`. One that is kept already stays as it is, with its time."""
    transaction.execute(
        """
        INSERT INTO ema_assets.sync_failure AS f (reason) VALUES ($1)
        ON CONFLICT (is_only) DO UPDATE SET reason = excluded.reason, since = excluded.since
        WHERE f.reason <> excluded.reason
        """,
        reason[:1000],
    )


def forget(transaction: Transaction) -> None:
    """The last sync succeeded, or there is nothing to sync."""
    transaction.execute("DELETE FROM ema_assets.sync_failure")


def last(transaction: Transaction) -> SyncFailure | None:
    """What is kept; None when the last sync succeeded, also in a database of a version that kept nothing.

    Such a version let its readers not see into the schema, and they do not until the first sync by this one.
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
