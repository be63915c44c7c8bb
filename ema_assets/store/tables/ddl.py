"""Creating tables from declarations: the table, its indexes and comments, one partition per timeframe. SQL only."""

from collections.abc import Iterable, Mapping, Sequence

from ema_assets.model.declarations import Column
from ema_assets.model.errors import StoreError
from ema_assets.model.timeframes import Timeframe
from ema_assets.store import lock_waits
from ema_assets.store.advisory_locks import AdvisoryLock
from ema_assets.store.database import Transaction, identifier
from ema_assets.store.tables.table import CROSSOVERS, TRADES, Table

# For the two queries that traders run over all series at once: which symbols crossed lately, and which trades are open.
_INDEXES = {
    CROSSOVERS: ("crossover", "ts", "crossover IS NOT NULL"),
    TRADES: ("open", "symbol", "status = 'open'"),
}


def ensure(transaction: Transaction, tables: Iterable[Table], timeframes: Iterable[Timeframe]) -> list[str]:
    """Make every one of `tables` as declared; return the names of those whose rows must be computed again.

    Missing nullable columns are added, changed descriptions are written, and a column that has become nullable loses
    its NOT NULL; rows stay. A table that differs in any other way is dropped and created again, because all its rows
    can be computed again. Columns that are no longer declared stay, null in new rows. Missing partitions for
    `timeframes` are added.

    Raises:
        StoreError: when a table that cannot be computed again differs from its declaration, or when another session
            uses one for too long.
    """
    wanted, parted = list(tables), list(timeframes)
    names = [table.name for table in wanted]
    declared = _declared(transaction, names)
    lacking = _missing_partitions(transaction, wanted, parted)
    if not lacking and all(declared.get(table.name) == _declaration(table) for table in wanted):
        return []
    transaction.execute("SELECT pg_advisory_xact_lock($1)", int(AdvisoryLock.TABLES))
    # Another process may have created them while this one waited for the lock.
    declared = _declared(transaction, names)
    with lock_waits.limited(transaction):
        changed = [table.name for table in wanted if _ensure(transaction, table, declared.get(table.name))]
        for table, timeframe in _missing_partitions(transaction, wanted, parted):
            _add_partition(transaction, table, timeframe)
    return changed


def _add_partition(transaction: Transaction, table: Table, timeframe: Timeframe) -> None:
    """Create the partition of `table` for `timeframe`.

    It is created by itself and then attached: `CREATE TABLE … PARTITION OF` would wait for all who read the table, and
    a run that has read it may wait for a series that a sync has locked.
    """
    parent, part = f"market.{identifier(table.name)}", table.part(timeframe)
    parts = ("DEFAULTS", "CONSTRAINTS", "GENERATED", "INDEXES", "STORAGE", "COMPRESSION")
    transaction.execute(f"CREATE TABLE {part} (LIKE {parent} {' '.join(f'INCLUDING {each}' for each in parts)})")
    transaction.execute(f"ALTER TABLE {parent} ATTACH PARTITION {part} FOR VALUES IN ({_literal(timeframe.key)})")


def outdated(transaction: Transaction, tables: Iterable[Table]) -> list[str]:
    """Return the names of those of `tables` that exist and that `ensure` would change."""
    wanted = {table.name: _declaration(table) for table in tables}
    declared = _declared(transaction, wanted)
    return [name for name, parts in declared.items() if parts != wanted[name]]


def _declared(transaction: Transaction, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the declared parts, by name, from which each existing one of the tables called `names` was made."""
    rows = transaction.query(
        """
        SELECT table_name, part, sql FROM ema_assets.declaration
        WHERE table_name = ANY ($1::text[]) AND to_regclass(format('market.%I', table_name)) IS NOT NULL
        """,
        list(names),
    )
    declared: dict[str, dict[str, str]] = {}
    for name, part, sql in rows.iter_rows():
        declared.setdefault(name, {})[part] = sql
    return declared


def _ensure(transaction: Transaction, table: Table, made_of: Mapping[str, str] | None) -> bool:
    """Make `table` as declared; return whether its rows must be computed again."""
    parts, comments = _parts(table), _comments(table)
    if made_of is None:
        _create(transaction, table)
        return True
    said = {name: text for name, text in made_of.items() if name.startswith(_COMMENT)}
    made_of = {name: sql for name, sql in made_of.items() if name not in said}
    columns = {column.name: column for column in table.columns}
    missing = [name for name in parts if name not in made_of]
    gone = [name for name in made_of if name not in parts]
    freed = [name for name in parts if name in columns and made_of.get(name) == f"{parts[name]} NOT NULL"]
    is_extensible = (
        all(made_of[name] == parts[name] for name in parts if name in made_of and name not in freed)
        and all(name in columns and columns[name].is_nullable for name in missing)
        and not any(name.startswith(_NO_COLUMN) for name in gone)
    )
    name = identifier(table.name)
    if is_extensible:
        # A column that was declared in the past still exists with its old values, so it is dropped first.
        added = [f"DROP COLUMN IF EXISTS {identifier(column)}, ADD COLUMN {parts[column]}" for column in missing]
        freed += [column for column in gone if "NOT NULL" in made_of[column]]
        nullable = [f"ALTER COLUMN {identifier(column)} DROP NOT NULL" for column in freed]
        if added or nullable:
            transaction.execute(f"ALTER TABLE market.{name} {', '.join([*added, *nullable])}")
        # A column that is created again has lost its comment.
        new = [each for each, text in comments.items() if missing or said.get(each) != text]
        _comment(transaction, table, {each: comments[each] for each in new})
    elif not table.is_computed:
        raise StoreError(f"the table market.{name} is not made as this version declares it; it needs a migration")
    else:
        transaction.execute(f"DROP TABLE market.{name} CASCADE")
        _create(transaction, table)
    _remember(transaction, table)
    return bool(missing) or not is_extensible


# The names of parts other than columns are in brackets, and so are those of comments, which change no row.
_NO_COLUMN = "("
_COMMENT = f"{_NO_COLUMN}comment"


def _declaration(table: Table) -> dict[str, str]:
    """Return all that is declared of `table`, by name, as it is stored."""
    return {**_parts(table), **_comments(table)}


def _parts(table: Table) -> dict[str, str]:
    """Return the SQL of all parts of `table`: its columns by their names, the rest by names in brackets."""
    parts = {column.name: _column(column) for column in table.columns}
    parts |= {f"{_NO_COLUMN}filled {number})": f"{each.name} {each.rule}" for number, each in enumerate(table.filled)}
    parts |= {f"{_NO_COLUMN}check {number})": f"CHECK ({sql})" for number, sql in enumerate(table.checks)}
    parts[f"{_NO_COLUMN}time)"] = table.time
    if table.flips is not None:
        parts[f"{_NO_COLUMN}index)"] = " ".join(_INDEXES[table.flips])
    return parts


def _comments(table: Table) -> dict[str, str]:
    """Return the comments on `table` and its columns, by the names of their parts."""
    described = {
        **{column.name: column.description for column in table.columns},
        **{each.name: each.description for each in table.filled},
    }
    return {f"{_COMMENT})": table.comment, **{f"{_COMMENT} {name})": text for name, text in described.items()}}


def _column(column: Column) -> str:
    name = identifier(column.name)
    not_null = "" if column.is_nullable else " NOT NULL"
    choices = ", ".join(_literal(choice) for choice in column.choices)
    return f"{name} {_type(column.kind)}{not_null}{f' CHECK ({name} IN ({choices}))' if choices else ''}"


def _create(transaction: Transaction, table: Table) -> None:
    name, parts = identifier(table.name), _parts(table)
    rows = [sql for part, sql in parts.items() if part not in (f"{_NO_COLUMN}time)", f"{_NO_COLUMN}index)")]
    transaction.execute(
        f"""
        CREATE TABLE market.{name} (
            symbol text COLLATE "C" NOT NULL,
            timeframe text COLLATE "C" NOT NULL,
            {identifier(table.time)} timestamptz NOT NULL,
            {", ".join(rows)},
            PRIMARY KEY (symbol, timeframe, {table.time})
        ) PARTITION BY LIST (timeframe)
        """
    )
    if table.flips is not None:
        suffix, column, condition = _INDEXES[table.flips]
        transaction.execute(f"CREATE INDEX {name}_{suffix} ON market.{name} ({column}) WHERE {condition}")
    _comment(transaction, table, _comments(table))
    _remember(transaction, table)


def _comment(transaction: Transaction, table: Table, comments: Mapping[str, str]) -> None:
    name = f"market.{identifier(table.name)}"
    for what, text in comments.items():
        column = what.removeprefix(_COMMENT).removesuffix(")").strip()
        where = f"COLUMN {name}.{identifier(column)}" if column else f"TABLE {name}"
        transaction.execute(f"COMMENT ON {where} IS {_literal(text)}")


def _remember(transaction: Transaction, table: Table) -> None:
    parts = _declaration(table)
    transaction.execute("DELETE FROM ema_assets.declaration WHERE table_name = $1", table.name)
    transaction.execute(
        """
        INSERT INTO ema_assets.declaration (table_name, part, sql)
        SELECT $1, part, sql FROM unnest($2::text[], $3::text[]) AS p(part, sql)
        """,
        table.name,
        list(parts),
        list(parts.values()),
    )


def _missing_partitions(
    transaction: Transaction, tables: Iterable[Table], timeframes: Sequence[Timeframe]
) -> list[tuple[Table, Timeframe]]:
    """Return the missing partitions of `tables`. Partitions of timeframes that are switched off stay."""
    wanted = {f"{table.name}_{each.sql_name}": (table, each) for table in tables for each in timeframes}
    existing = transaction.query(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'market'::regnamespace AND relname = ANY ($1::text[])",
        list(wanted),
    )["relname"].to_list()
    return [part for name, part in wanted.items() if name not in existing]


def _type(kind: str) -> str:
    """Return the SQL type of a column of `kind`, one of schemas.KINDS."""
    return 'text COLLATE "C"' if kind == "text" else identifier(kind)


def _literal(text: str) -> str:
    """Return `text` as an SQL literal, for statements that take no parameters."""
    return "'" + text.replace("'", "''") + "'"
