"""Named database sessions, by which other processes see that the process behind a session is alive. SQL only.

A session gets its name when it is opened (`Database(url, name)`) or by `rename`, and ends with its process, however
that ends.
"""

from collections.abc import Sequence

from ema_assets.store.database import Database, Transaction


def living(transaction: Transaction, names: Sequence[str]) -> set[str]:
    """Return those of `names` that an open session of this database has."""
    found = transaction.query(
        """
        SELECT DISTINCT application_name FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = ANY ($1::text[])
        """,
        list(names),
    )
    return set(found["application_name"])


def rename(database: Database, name: str) -> None:
    """Rename the open session of `database` and later ones.

    Raises:
        StoreUnavailable: when the open session was lost. The next one carries the new name.
    """
    database.name = name
    with database.transaction() as transaction:
        transaction.query("SELECT set_config('application_name', $1, false) AS name", name)
