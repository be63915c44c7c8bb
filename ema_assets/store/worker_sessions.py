"""Sessions of the database that carry a name: by them others see that the process behind one lives."""

from collections.abc import Sequence

from ema_assets.store.database import Transaction


def name_session(transaction: Transaction, name: str) -> None:
    """Give the session of this connection `name`; it ends with the process, however that ends."""
    transaction.execute("SELECT set_config('application_name', $1, false)", name)


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
