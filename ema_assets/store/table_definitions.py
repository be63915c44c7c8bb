"""Tables made from declarations: those of signals and strategies, which no numbered migration knows. SQL only."""

from collections.abc import Iterable

from ema_assets.model.timeframes import ORDER
from ema_assets.store.database import Transaction, identifier
from ema_assets.store.tables import Table

# The names Postgres shows for the kinds that a declaration may use.
_SHOWN = {
    "float8": "double precision",
    "int8": "bigint",
    "text": "text",
    "boolean": "boolean",
    "timestamptz": "timestamp with time zone",
}


def ensure(transaction: Transaction, tables: Iterable[Table]) -> list[str]:
    """Make every one of `tables` as declared; return the names of those whose rows must be computed again.

    A table that lacks columns gets them. One with a column of another kind is dropped and made anew, for all it holds
    can be computed again. Columns that are no longer declared stay, empty in new rows.
    """
    wanted = list(tables)
    found = transaction.query(
        """
        SELECT c.relname::text AS name, a.attname::text AS column_name, format_type(a.atttypid, a.atttypmod) AS kind
        FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'market'::regnamespace AND c.relname = ANY ($1::text[])
        """,
        [table.name for table in wanted],
    )
    existing: dict[str, dict[str, str]] = {}
    for name, column, kind in found.iter_rows():
        existing.setdefault(name, {})[column] = kind
    changed = []
    for table in wanted:
        columns = existing.get(table.name)
        if columns is not None and _differs(table, columns):
            transaction.execute(f"DROP TABLE market.{identifier(table.name)} CASCADE")
            columns = None
        if columns is None:
            _create(transaction, table)
        elif missing := [name for name in table.values if name not in columns]:
            kinds = dict(zip(table.values, table.kinds, strict=True))
            added = ", ".join(f"ADD COLUMN {identifier(name)} {_type(kinds[name])}" for name in missing)
            transaction.execute(f"ALTER TABLE market.{identifier(table.name)} {added}")
        else:
            continue
        changed.append(table.name)
    return changed


def _differs(table: Table, columns: dict[str, str]) -> bool:
    declared = zip(table.values, table.kinds, strict=True)
    return table.time not in columns or any(columns[name] != _SHOWN[kind] for name, kind in declared if name in columns)


def _create(transaction: Transaction, table: Table) -> None:
    columns = ", ".join(
        f"{identifier(name)} {_type(kind)}" for name, kind in zip(table.values, table.kinds, strict=True)
    )
    name = identifier(table.name)
    transaction.execute(
        f"""
        CREATE TABLE market.{name} (
            symbol text COLLATE "C" NOT NULL,
            timeframe text COLLATE "C" NOT NULL,
            {identifier(table.time)} timestamptz NOT NULL,
            {columns},
            PRIMARY KEY (symbol, timeframe, {table.time})
        ) PARTITION BY LIST (timeframe)
        """
    )
    for timeframe in ORDER:
        transaction.execute(
            f"CREATE TABLE {table.part(timeframe)} PARTITION OF market.{name} FOR VALUES IN ('{timeframe.value}')"
        )


def _type(kind: str) -> str:
    if kind not in _SHOWN:
        raise ValueError(f"`kind` must be one of {', '.join(_SHOWN)}, received {kind!r}")
    return 'text COLLATE "C"' if kind == "text" else kind
