"""The check of roles: whether the roles of board, metrics, alerts and dashboards exist and have their rights."""

from collections.abc import Iterator

from ema_assets.doctor.declaration import Check, Finding, Surroundings, ok, warning
from ema_assets.store import roles


def _look(seen: Surroundings) -> Iterator[Finding]:
    if seen.database is None or not seen.is_migrated:
        return
    with seen.database.transaction() as transaction:
        transaction.read_one_moment()
        lacking, without = roles.lacking(transaction), roles.without_rights(transaction)
    if lacking:
        yield warning(
            f"missing for those who only read: {'; '.join(lacking)}",
            "have the owner of the database run `ema-assets migrate`, and where it may not create roles, somebody else "
            "that before",
        )
    elif without:
        yield warning(
            f"not all may be read by {', '.join(without)}", "have the owner of the database run `ema-assets migrate`"
        )
    else:
        yield ok(f"{', '.join(roles.EVERY)} may read what they need")


CHECK = Check("roles", 35, _look)
