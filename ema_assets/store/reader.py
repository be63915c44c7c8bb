"""Reading without the right to write: the role `ema_reader`, one snapshot, a time limit for statements. SQL only."""

from dataclasses import dataclass

from ema_assets.store.database import Transaction
from ema_assets.store.roles import READER

_LONGEST_STATEMENT = "30s"


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of a reading transaction: whether it has the role, and whether there is anything to read yet."""

    has_role: bool
    is_made: bool


def become_reader(transaction: Transaction) -> Rights:
    """Restrict the rest of the transaction to one snapshot, to reading, and to the rights of `ema_reader`.

    A database user who is not a member of that role keeps their own rights, but still cannot write in the transaction.
    `is_made` is False in a database in which no configuration was ever synced.
    """
    transaction.read_one_moment()
    row = transaction.query(
        """
        WITH known AS (
            SELECT coalesce(bool_or(pg_has_role(current_user, r.oid, 'MEMBER')), false) AS is_member
            FROM pg_roles r WHERE r.rolname = $1
        ), made AS (
            SELECT count(*) = 2 AS is_made FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE (n.nspname, c.relname) IN (('results', 'screener'), ('market', 'ema_trend'))
        )
        SELECT is_member, is_made, set_config('statement_timeout', $2, true) AS timeout,
               CASE WHEN is_member AND is_made THEN set_config('role', $1, true) END AS role
        FROM known, made
        """,
        READER,
        _LONGEST_STATEMENT,
    ).row(0, named=True)
    return Rights(has_role=row["role"] is not None, is_made=row["is_made"])
