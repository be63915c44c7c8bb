"""Roles of the database, each with only the rights that one kind of process needs. SQL only.

No role can log in: database users are made members of them. A migration creates the roles if it may, and so does each
`ema-assets migrate`; a role that does not exist is granted nothing.
"""

from dataclasses import dataclass

from ema_assets.store.database import Transaction

READER = "ema_reader"
METRICS = "ema_metrics"
ALERTS = "ema_alerts"

# The schemas that each role may read; each role also has the rights of the one before it.
_READ = {READER: ("results", "market", "ema_assets"), METRICS: ("dagster",), ALERTS: ()}
EVERY = tuple(_READ)
# Pairs of a role and the role that it is a member of.
_MEMBERS = ((METRICS, READER), (ALERTS, METRICS))
MAKING = (
    *(f"CREATE ROLE {role} NOLOGIN" for role in EVERY),
    *(f"GRANT {role} TO {member}" for member, role in _MEMBERS),
)
_WRITTEN_BY_ALERTS = ("alert", "alert_delivery", "alert_channel", "alert_trouble")


def statements(role: str) -> list[str]:
    """Return the statements that grant `role` its rights on existing and future tables."""
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
    for role in _known(transaction):
        for statement in statements(role):
            transaction.execute(statement)


@dataclass(frozen=True, slots=True)
class Setup:
    """What was done for the roles: which were created, and which have got further rights.

    `lacking` are the statements that create what is still missing, for somebody who may create roles.
    """

    made: tuple[str, ...]
    granted: tuple[str, ...]
    lacking: tuple[str, ...]


def set_up(transaction: Transaction) -> Setup:
    """Create missing roles if that is allowed, and give each role its rights on everything that exists.

    Does nothing if the user is not the owner of the schema `market`.
    """
    before, rights = lacking(transaction), _rights(transaction)
    if not _is_owner(transaction):
        return Setup((), (), before)
    for statement in before:
        # A refused statement must not abort the rest.
        transaction.execute(
            f"""
            DO $do$ BEGIN {statement}; EXCEPTION
                WHEN insufficient_privilege OR duplicate_object OR unique_violation OR undefined_object THEN NULL;
            END $do$
            """
        )
    grant(transaction)
    after = lacking(transaction)
    now = _rights(transaction)
    done = set(before) - set(after)
    made = tuple(role for role, statement in zip(EVERY, MAKING, strict=False) if statement in done)
    return Setup(made, tuple(role for role in EVERY if now.get(role) != rights.get(role)), after)


def lacking(transaction: Transaction) -> tuple[str, ...]:
    """Return the statements that create missing roles and memberships, in order."""
    known = set(_known(transaction))
    members = transaction.query(
        """
        SELECT m.rolname::text AS member, r.rolname::text AS role FROM pg_auth_members a
        JOIN pg_roles m ON m.oid = a.member JOIN pg_roles r ON r.oid = a.roleid WHERE m.rolname = ANY ($1::text[])
        """,
        list(EVERY),
    )
    joined = set(members.iter_rows())
    there = [role in known for role in EVERY] + [each in joined for each in _MEMBERS]
    return tuple(statement for statement, is_there in zip(MAKING, there, strict=True) if not is_there)


def without_rights(transaction: Transaction) -> list[str]:
    """Return existing roles that may not read all of their schemas, such as a role created after the tables."""
    found = transaction.query(
        """
        SELECT DISTINCT r.rolname::text AS role
        FROM unnest($1::text[], $2::text[]) AS w(role, schema)
        JOIN pg_roles r ON r.rolname = w.role JOIN pg_namespace n ON n.nspname = w.schema
        WHERE NOT has_schema_privilege(r.oid, n.oid, 'USAGE')
           OR EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm')
                         AND NOT has_table_privilege(r.oid, c.oid, 'SELECT'))
        """,
        [role for role in EVERY for _ in _READ[role]],
        [schema for role in EVERY for schema in _READ[role]],
    )["role"]
    return [role for role in EVERY if role in found]


def _is_owner(transaction: Transaction) -> bool:
    found = transaction.query(
        "SELECT coalesce(pg_has_role(nspowner, 'USAGE'), false) AS is_owner FROM pg_namespace WHERE nspname = 'market'"
    )
    return bool(found["is_owner"].any())


def _known(transaction: Transaction) -> list[str]:
    found = transaction.query(
        "SELECT rolname::text AS name FROM pg_roles WHERE rolname = ANY ($1::text[])", list(EVERY)
    )["name"]
    return [role for role in EVERY if role in found]


def _rights(transaction: Transaction) -> dict[str, tuple[int, int]]:
    """Return, per existing role, the number of schemas that it may use and the number of its rights on tables."""
    found = transaction.query(
        """
        SELECT r.rolname::text AS role, count(DISTINCT n.oid) FILTER (WHERE s.may_use) AS schemas,
               sum(t.reads::integer + t.writes::integer) AS tables
        FROM pg_roles r
        JOIN pg_namespace n ON n.nspname IN ('results', 'market', 'ema_assets', 'dagster')
        CROSS JOIN LATERAL (SELECT has_schema_privilege(r.oid, n.oid, 'USAGE') AS may_use) s
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm')
        CROSS JOIN LATERAL (SELECT has_table_privilege(r.oid, c.oid, 'SELECT') AS reads,
                                   has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE') AS writes) t
        WHERE r.rolname = ANY ($1::text[]) GROUP BY 1
        """,
        list(EVERY),
    )
    return {role: (schemas, tables) for role, schemas, tables in found.iter_rows()}
