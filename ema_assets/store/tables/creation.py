"""Making tables from their declarations, and making tables that exist fit them. Reads and writes no rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ema_assets.model.declarations import Column, IsBelow
from ema_assets.model.errors import StoreError
from ema_assets.model.timeframes import ORDER, Timeframe
from ema_assets.store.database import Transaction, identifier
from ema_assets.store.tables.table import BARS, Filled, Table

# The types by kind, as they are written in DDL and as Postgres shows them.
_TYPES = {
    "float8": "double precision",
    "int8": "bigint",
    "text": 'text COLLATE "C"',
    "boolean": "boolean",
    "timestamptz": "timestamp with time zone",
}

# Any constant will do, as long as only this module takes it: of two processes one makes the tables.
_LOCK = 930_000_002

# Postgres rewrites what it stores of a condition. Its text as declared is kept as the comment of the constraint or
# index, by which a change of the declaration is seen. What has no such comment was made by somebody else, and stays.
_DECLARED = "Declared: "

_LONGEST_NAME = 63

_EXISTING = """
    WITH wanted AS (
        SELECT oid, relname FROM pg_class
        WHERE relnamespace = 'market'::regnamespace AND relname = ANY ($1::text[]) AND relkind = 'p'
    )
    SELECT relname::text AS table_name, 'table' AS what, relname::text AS name, '' AS type, false AS is_not_null,
           obj_description(oid, 'pg_class') AS comment
    FROM wanted
    UNION ALL
    SELECT w.relname::text, 'column', a.attname::text,
           format_type(a.atttypid, a.atttypmod) || CASE WHEN l.collname = 'C' THEN ' COLLATE "C"' ELSE '' END,
           a.attnotnull, col_description(w.oid, a.attnum)
    FROM wanted w
    JOIN pg_attribute a ON a.attrelid = w.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_collation l ON l.oid = a.attcollation
    UNION ALL
    SELECT w.relname::text, 'check', c.conname::text, '', false, obj_description(c.oid, 'pg_constraint')
    FROM wanted w JOIN pg_constraint c ON c.conrelid = w.oid AND c.contype = 'c'
    UNION ALL
    SELECT w.relname::text, 'index', c.relname::text, '', false, obj_description(c.oid, 'pg_class')
    FROM wanted w JOIN pg_index i ON i.indrelid = w.oid JOIN pg_class c ON c.oid = i.indexrelid
    UNION ALL
    SELECT w.relname::text, 'partition', c.relname::text, '', false, NULL
    FROM wanted w JOIN pg_inherits h ON h.inhparent = w.oid JOIN pg_class c ON c.oid = h.inhrelid
"""


@dataclass(slots=True)
class _Existing:
    """A table as it is in the database. Checks and indexes are those that were made from a declaration, by name."""

    comment: str | None = None
    types: dict[str, str] = field(default_factory=dict)
    not_null: set[str] = field(default_factory=set)
    column_comments: dict[str, str | None] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)
    indexes: dict[str, str] = field(default_factory=dict)
    partitions: set[str] = field(default_factory=set)


def ensure(
    transaction: Transaction, tables: Iterable[Table], timeframes: Sequence[Timeframe] | None = None
) -> list[str]:
    """Make every one of `tables` as declared; return the names of those whose rows must be computed again.

    A table gets the columns and indexes it lacks, and the partitions of `timeframes`, or of all that are configured.
    One that cannot be altered, because a column has another kind or must have a value in every row, is dropped and made
    anew: all it holds can be computed again. Columns that are no longer declared stay, empty in new rows; partitions of
    other timeframes stay with their rows.

    Raises:
        StoreError: when the table of bars cannot be altered, for bars cannot be computed again.
    """
    wanted, timeframes = list(tables), ORDER if timeframes is None else timeframes
    existing = _read_existing(transaction, wanted)
    if not any(_statements(table, existing.get(table.name), timeframes) for table in wanted):
        return []
    transaction.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    existing = _read_existing(transaction, wanted)
    changed = []
    for table in wanted:
        before = existing.get(table.name)
        for statement in _statements(table, before, timeframes):
            transaction.execute(statement)
        if before is None or _must_be_made_anew(table, before) or _missing_values(table, before):
            changed.append(table.name)
    return changed


def _read_existing(transaction: Transaction, tables: Sequence[Table]) -> dict[str, _Existing]:
    rows = transaction.query(_EXISTING, [table.name for table in tables])
    existing: dict[str, _Existing] = {}
    for table, what, name, type_, is_not_null, comment in rows.iter_rows():
        found = existing.setdefault(table, _Existing())
        declared = comment.removeprefix(_DECLARED) if comment and comment.startswith(_DECLARED) else None
        match what:
            case "table":
                found.comment = comment
            case "column":
                found.types[name], found.column_comments[name] = type_, comment
                if is_not_null:
                    found.not_null.add(name)
            case "check" if declared is not None:
                found.checks[name] = declared
            case "index" if declared is not None:
                found.indexes[name] = declared
            case "partition":
                found.partitions.add(name)
    return existing


# --- what to do -------------------------------------------------------------------------------------------------------


def _statements(table: Table, existing: _Existing | None, timeframes: Sequence[Timeframe]) -> list[str]:
    """What makes `table` as declared; nothing when it is so."""
    drop = []
    if existing is not None and _must_be_made_anew(table, existing):
        if table.name == BARS.name:
            raise StoreError(
                f"the table market.{table.name} differs from its declaration in a way that cannot be altered while it "
                "holds bars; load anew into another folder (EMA_HOME) or another database (EMA_DATABASE_URL)"
            )
        drop, existing = [f"DROP TABLE market.{identifier(table.name)} CASCADE"], None
    if existing is None:
        # All that a new table lacks is added to it as to one that exists, so that both come out the same.
        existing = _Existing(
            types=dict.fromkeys(("symbol", "timeframe", table.time), ""), not_null={"symbol", "timeframe", table.time}
        )
        drop.append(_create(table))
    return [
        *drop,
        *_column_statements(table, existing),
        *_check_statements(table, existing),
        *_index_statements(table, existing),
        *_comment_statements(table, existing),
        *_partition_statements(table, existing, timeframes),
    ]


def _must_be_made_anew(table: Table, existing: _Existing) -> bool:
    """True when a column has another kind, or existing rows may break what is declared."""
    columns = {column.name: column for column in (*table.columns, *table.extra)}
    has_other_kind = any(
        existing.types[name] != _TYPES[column.kind] for name, column in columns.items() if name in existing.types
    )
    lacks_values = any(not column.is_nullable and name not in existing.not_null for name, column in columns.items())
    has_other_checks = any(existing.checks.get(name) != sql for name, sql in _checks(table).items())
    return table.time not in existing.types or has_other_kind or lacks_values or has_other_checks


def _missing_values(table: Table, existing: _Existing) -> list[str]:
    return [name for name in table.values if name not in existing.types]


def _create(table: Table) -> str:
    time = identifier(table.time)
    return f"""
        CREATE TABLE market.{identifier(table.name)} (
            symbol text COLLATE "C" NOT NULL,
            timeframe text COLLATE "C" NOT NULL,
            {time} timestamptz NOT NULL,
            PRIMARY KEY (symbol, timeframe, {time})
        ) PARTITION BY LIST (timeframe)
        """


def _column_statements(table: Table, existing: _Existing) -> list[str]:
    """One ALTER TABLE for all columns that are missing, derived in another way, or no longer need a value."""
    changes = [
        f"ADD COLUMN {_definition(column)}"
        for column in (*table.columns, *table.extra)
        if column.name not in existing.types
    ]
    for filled in (*map(_derived, table.derived), *table.defaults):
        name = identifier(filled.name)
        is_there = filled.name in existing.types
        if is_there and filled not in table.defaults:
            is_there = (existing.column_comments.get(filled.name) or "").endswith(filled.rule)
            changes += [] if is_there else [f"DROP COLUMN {name}"]
        if not is_there:
            changes.append(f"ADD COLUMN {name} {_type(filled.kind)} NOT NULL {filled.rule}")
    required = {
        *("symbol", "timeframe", table.time),
        *(column.name for column in (*table.columns, *table.extra) if not column.is_nullable),
        *(each.name for each in table.derived),
        *(each.name for each in table.defaults),
    }
    changes += [f"ALTER COLUMN {identifier(name)} DROP NOT NULL" for name in sorted(existing.not_null - required)]
    return [f"ALTER TABLE market.{identifier(table.name)} {', '.join(changes)}"] if changes else []


def _check_statements(table: Table, existing: _Existing) -> list[str]:
    name, declared = f"market.{identifier(table.name)}", _checks(table)
    gone = [f"ALTER TABLE {name} DROP CONSTRAINT {identifier(each)}" for each in existing.checks.keys() - declared]
    new = []
    for check, sql in declared.items():
        if check not in existing.checks:
            new.append(f"ALTER TABLE {name} ADD CONSTRAINT {identifier(check)} CHECK ({sql})")
            new.append(f"COMMENT ON CONSTRAINT {identifier(check)} ON {name} IS {_literal(_DECLARED + sql)}")
    return [*gone, *new]


def _index_statements(table: Table, existing: _Existing) -> list[str]:
    declared = _indexes(table)
    other = [name for name, sql in existing.indexes.items() if declared.get(name) != sql]
    gone = [f"DROP INDEX market.{identifier(name)}" for name in other]
    new = []
    for name, sql in declared.items():
        if existing.indexes.get(name) != sql:
            new.append(f"CREATE INDEX {identifier(name)} ON market.{identifier(table.name)} {sql}")
            new.append(f"COMMENT ON INDEX market.{identifier(name)} IS {_literal(_DECLARED + sql)}")
    return [*gone, *new]


def _comment_statements(table: Table, existing: _Existing) -> list[str]:
    name = f"market.{identifier(table.name)}"
    wanted = {column.name: column.description for column in (*table.columns, *table.extra)}
    wanted |= {filled.name: filled.description for filled in table.defaults}
    # With the rule as declared, so that a change of it is seen.
    wanted |= {each.name: f"{each.description}. {each.rule}" for each in map(_derived, table.derived)}
    statements = [
        f"COMMENT ON COLUMN {name}.{identifier(column)} IS {_literal(text)}"
        for column, text in wanted.items()
        if (existing.column_comments.get(column) or "") != text
    ]
    if (existing.comment or "") != table.description:
        statements.append(f"COMMENT ON TABLE {name} IS {_literal(table.description)}")
    return statements


def _partition_statements(table: Table, existing: _Existing, timeframes: Sequence[Timeframe]) -> list[str]:
    name = identifier(table.name)
    return [
        f"CREATE TABLE {table.part(timeframe)} PARTITION OF market.{name} FOR VALUES IN ({_literal(timeframe.key)})"
        for timeframe in timeframes
        if f"{name}_{timeframe.key}" not in existing.partitions
    ]


# --- what is declared, as SQL -----------------------------------------------------------------------------------------


def _definition(column: Column) -> str:
    return f"{identifier(column.name)} {_type(column.kind)}{'' if column.is_nullable else ' NOT NULL'}"


def _derived(column: IsBelow) -> Filled:
    rule = f"GENERATED ALWAYS AS ({identifier(column.column)} < {column.limit:d}) STORED"
    return Filled(column.name, "boolean", rule, column.description)


def _checks(table: Table) -> dict[str, str]:
    """The conditions that rows meet, by name."""
    choices = {
        f"{column.name}_choices"[:_LONGEST_NAME]: (
            f"{identifier(column.name)} IN ({', '.join(map(_literal, column.choices))})"
        )
        for column in (*table.columns, *table.extra)
        if column.choices
    }
    return {**choices, **{check.name: check.sql for check in table.checks}}


def _indexes(table: Table) -> dict[str, str]:
    """The indexes beside that of the key, by name: the columns, and which rows are in it."""
    indexes = {}
    for index in table.indexes:
        columns = ", ".join(map(identifier, index.columns))
        only = identifier(index.only)
        where = f"{only} IS NOT NULL" if index.value is None else f"{only} = {_literal(index.value)}"
        indexes[f"{table.name}_{index.value or index.only}"[:_LONGEST_NAME]] = f"({columns}) WHERE {where}"
    return indexes


def _type(kind: str) -> str:
    if kind not in _TYPES:
        raise ValueError(f"`kind` must be one of {', '.join(_TYPES)}, received {kind!r}")
    return _TYPES[kind]


def _literal(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
