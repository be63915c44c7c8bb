"""Sessions of the database that carry a name: by them others see that the process behind one lives.

A session gets its name when it is opened (`Database(url, name)`), or later, and ends with its process, however that
ends.
"""

from collections.abc import Sequence

from ema_assets.store.database import Database, Transaction


def living(transaction: Transaction, names: Sequence[str]) -> set[str]:
    """Those of `names` that a session of this database has at present."""
    found = transaction.query(
        """
        SELECT DISTINCT application_name FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = ANY ($1::text[])
        """,
        list(names),
    )
    return set(found["application_name"])


def rename(database: Database, name: str) -> None:
    """Give the sessions of `database` another name, the open one and those to come.

    Raises:
        StoreUnavailable: when the open one was lost. The next one carries the new name.
    """
    database.name = name
    with database.transaction() as transaction:
        transaction.query("SELECT set_config('application_name', $1, false) AS name", name)
