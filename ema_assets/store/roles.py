"""Roles of the database, each with the rights that one kind of process needs and no more. SQL only.

No role can log in: a user of the database is made a member of one. A migration makes them where it may; where they do
not exist, nobody is granted anything.
"""

from ema_assets.store.database import Transaction

READER = "ema_reader"
METRICS = "ema_metrics"
ALERTS = "ema_alerts"

# Each role has the rights of the one before it.
_READ = {READER: ("results", "market", "ema_assets"), METRICS: ("dagster",), ALERTS: ()}
EVERY = tuple(_READ)
_WRITTEN_BY_ALERTS = ("alert", "alert_delivery", "alert_channel", "alert_trouble")


def statements(role: str) -> list[str]:
    """What grants `role` its rights, on tables that are there and on those to come."""
    granted = []
    for schema in _READ[role]:
        granted += [
            f"GRANT USAGE ON SCHEMA {schema} TO {role}",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role}",
        ]
    if role == ALERTS:
        tables = ", ".join(f"market.{name}" for name in _WRITTEN_BY_ALERTS)
        granted.append(f"GRANT INSERT, UPDATE, DELETE ON {tables} TO {role}")
    return granted


def grant(transaction: Transaction) -> None:
    """Give each role that exists its rights."""
    known = transaction.query(
        "SELECT rolname::text AS name FROM pg_roles WHERE rolname = ANY ($1::text[])", list(EVERY)
    )
    for role in known["name"].sort():
        for statement in statements(role):
            transaction.execute(statement)
