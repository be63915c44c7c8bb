"""Users' views over this project's: noted before those are replaced, and created again over the new ones. SQL only."""

from collections.abc import Sequence
from dataclasses import dataclass

import adbc_driver_manager

from ema_assets.model.errors import StoreError
from ema_assets.store.database import Transaction, first_line

# SQL: which view reads from which table or view, by OID.
READS = """
SELECT DISTINCT r.ev_class AS reader, d.refobjid AS source
FROM pg_depend d JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
"""
# A user's view may read another user's view, so readers of readers are included.
_NOTED = rf"""
    WITH RECURSIVE reads AS ({READS}), found AS (
        SELECT reads.reader, 1 AS depth
        FROM reads JOIN pg_class c ON c.oid = reads.source JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('results', 'market')
        UNION
        SELECT reads.reader, found.depth + 1 FROM found JOIN reads ON reads.source = found.reader
    ), deepest AS (
        SELECT reader, max(depth) AS depth FROM found GROUP BY 1
    ), named AS (
        SELECT v.*, d.depth, format('%I.%I', n.nspname, v.relname) AS name,
               CASE v.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END AS kind
        FROM deepest d JOIN pg_class v ON v.oid = d.reader JOIN pg_namespace n ON n.oid = v.relnamespace
        WHERE v.relkind IN ('v', 'm')
          AND NOT (format('%I.%I', n.nspname, v.relname) = ANY ($1::text[])
                   OR (n.nspname = 'results' AND v.relname ~ '^screener_[0-9]+_[0-9]+$'))
    )
    SELECT name,
           ARRAY[format('CREATE %s %s %s AS %s', kind, name, 'WITH (' || array_to_string(reloptions, ', ') || ')',
                        rtrim(pg_get_viewdef(oid), ';'))]
           || ARRAY (SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = oid)
           || ARRAY (SELECT format('COMMENT ON %s %s IS %L', kind, name, said)
                     FROM obj_description(oid, 'pg_class') AS said WHERE said IS NOT NULL)
           || ARRAY (SELECT format('GRANT %s ON %s TO %s', privilege_type, name,
                                   CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
                     FROM aclexplode(relacl) WHERE grantee <> relowner)
           || ARRAY (SELECT format('ALTER %s %s OWNER TO %I', kind, name, pg_get_userbyid(relowner))
                     WHERE pg_get_userbyid(relowner) <> current_user) AS statements
    FROM named ORDER BY depth, name
"""


@dataclass(frozen=True, slots=True)
class OwnView:
    """A view's name with its schema, and the statements that create it."""

    name: str
    statements: tuple[str, ...]


def noted(transaction: Transaction, ours: Sequence[str]) -> list[OwnView]:
    """Return the views that read from `results` or `market` and are not among `ours`, each before its readers."""
    rows = transaction.query(_NOTED, list(ours))
    return [OwnView(str(name), tuple(statements)) for name, statements in rows.iter_rows()]


def put_back(transaction: Transaction, views: Sequence[OwnView]) -> None:
    """Create again those of `views` that were dropped with the views they read.

    Raises:
        StoreError: naming the view that cannot be created again, such as one that reads a deleted column.
    """
    for view in views:
        if not transaction.query("SELECT to_regclass($1) IS NULL AS gone", view.name).item():
            continue
        try:
            for statement in view.statements:
                transaction.execute(statement)
        except adbc_driver_manager.Error as error:
            raise StoreError(
                f"the view {view.name} of yours reads what has changed and cannot be made again: {first_line(error)}; "
                "change or drop it"
            ) from error
