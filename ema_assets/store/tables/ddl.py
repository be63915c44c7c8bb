"""Tables made from their declarations: the table, its indexes and comments, one partition per timeframe. SQL only."""

from collections.abc import Iterable, Mapping

from ema_assets.model.declarations import Column
from ema_assets.model.errors import StoreError
from ema_assets.model.timeframes import ORDER
from ema_assets.store.database import Transaction, identifier
from ema_assets.store.tables.table import CROSSOVERS, TRADES, Table

# "Which symbols crossed lately" and "which trades are open" are what a trader asks of all series at once.
_INDEXES = {
    CROSSOVERS: ("crossover", "ts", "crossover IS NOT NULL"),
    TRADES: ("open", "symbol", "status = 'open'"),
}


def ensure(transaction: Transaction, tables: Iterable[Table]) -> list[str]:
    """Make every one of `tables` as declared; return the names of those whose rows must be computed again.

    A table that lacks columns that may be null gets them. One that differs in any other way is dropped and made anew,
    for all it holds can be computed again. Columns that are no longer declared stay, null in new rows. A timeframe that
    has no partition yet gets one.

    Raises:
        StoreError: when a table that cannot be computed again is declared in another way than it was made.
    """
    wanted = list(tables)
    declared = _declared(transaction, wanted)
    changed = [table.name for table in wanted if _ensure(transaction, table, declared.get(table.name))]
    _add_partitions(transaction, wanted)
    return changed


def _declared(transaction: Transaction, tables: Iterable[Table]) -> dict[str, dict[str, str]]:
    """Of each of `tables` that exists, the parts it was made of, by name."""
    rows = transaction.query(
        """
        SELECT table_name, part, sql FROM ema_assets.declaration
        WHERE table_name = ANY ($1::text[]) AND to_regclass(format('market.%I', table_name)) IS NOT NULL
        """,
        [table.name for table in tables],
    )
    declared: dict[str, dict[str, str]] = {}
    for name, part, sql in rows.iter_rows():
        declared.setdefault(name, {})[part] = sql
    return declared


def _ensure(transaction: Transaction, table: Table, made_of: Mapping[str, str] | None) -> bool:
    """Make `table` as declared; True when its rows must be computed again."""
    parts = _parts(table)
    if made_of == parts:
        return False
    if made_of is None:
        _create(transaction, table, parts)
        return True
    columns = {column.name: column for column in table.columns}
    missing = [name for name in parts if name not in made_of]
    gone = [name for name in made_of if name not in parts]
    is_extensible = (
        all(made_of[name] == parts[name] for name in parts if name in made_of)
        and all(name in columns and columns[name].is_nullable for name in missing)
        and not any(name.startswith(_NO_COLUMN) for name in gone)
    )
    name = identifier(table.name)
    if is_extensible:
        added = [f"ADD COLUMN {parts[column]}" for column in missing]
        freed = [f"ALTER COLUMN {identifier(column)} DROP NOT NULL" for column in gone if "NOT NULL" in made_of[column]]
        if added or freed:
            transaction.execute(f"ALTER TABLE market.{name} {', '.join([*added, *freed])}")
        _comment(transaction, table, missing)
    elif not table.is_computed:
        raise StoreError(f"the table market.{name} is not made as this version declares it; it needs a migration")
    else:
        transaction.execute(f"DROP TABLE market.{name} CASCADE")
        _create(transaction, table, parts)
    _remember(transaction, table, parts)
    return bool(missing) or not is_extensible


# Parts that are no column are called by a number or a word in brackets.
_NO_COLUMN = "("


def _parts(table: Table) -> dict[str, str]:
    """The SQL of everything that `table` is made of: its columns by their names, the rest by what it is."""
    parts = {column.name: _column(column) for column in table.columns}
    parts |= {f"{_NO_COLUMN}filled {number})": sql for number, sql in enumerate(table.filled)}
    parts |= {f"{_NO_COLUMN}check {number})": f"CHECK ({sql})" for number, sql in enumerate(table.checks)}
    parts[f"{_NO_COLUMN}time)"] = table.time
    if table.flips is not None:
        parts[f"{_NO_COLUMN}index)"] = " ".join(_INDEXES[table.flips])
    return parts


def _column(column: Column) -> str:
    name = identifier(column.name)
    not_null = "" if column.is_nullable else " NOT NULL"
    choices = ", ".join(_literal(choice) for choice in column.choices)
    return f"{name} {_type(column.kind)}{not_null}{f' CHECK ({name} IN ({choices}))' if choices else ''}"


def _create(transaction: Transaction, table: Table, parts: Mapping[str, str]) -> None:
    name = identifier(table.name)
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
    if table.comment:
        transaction.execute(f"COMMENT ON TABLE market.{name} IS {_literal(table.comment)}")
    _comment(transaction, table, table.values)
    _remember(transaction, table, parts)


def _comment(transaction: Transaction, table: Table, columns: Iterable[str]) -> None:
    described = {column.name: column.description for column in table.columns}
    for column in columns:
        where = f"market.{identifier(table.name)}.{identifier(column)}"
        transaction.execute(f"COMMENT ON COLUMN {where} IS {_literal(described[column])}")


def _remember(transaction: Transaction, table: Table, parts: Mapping[str, str]) -> None:
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


def _add_partitions(transaction: Transaction, tables: Iterable[Table]) -> None:
    """Give each of `tables` a partition for every timeframe; those of timeframes that are gone stay."""
    wanted = {f"{table.name}_{timeframe.key}": (table, timeframe) for table in tables for timeframe in ORDER}
    existing = transaction.query(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'market'::regnamespace AND relname = ANY ($1::text[])",
        list(wanted),
    )["relname"].to_list()
    for name, (table, timeframe) in wanted.items():
        if name not in existing:
            transaction.execute(
                f"CREATE TABLE {table.part(timeframe)} PARTITION OF market.{identifier(table.name)} "
                f"FOR VALUES IN ({_literal(timeframe.key)})"
            )


def _type(kind: str) -> str:
    """The type of a column of `kind`, one of schemas.KINDS."""
    return 'text COLLATE "C"' if kind == "text" else identifier(kind)


def _literal(text: str) -> str:
    """`text` as an SQL literal, where a statement takes no parameters."""
    return "'" + text.replace("'", "''") + "'"
