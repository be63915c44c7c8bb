"""Tests of upgrades: a database of any older migration with data becomes one of this version and keeps its rows."""

import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import psycopg2
import pytest

from ema_assets.model.timeframes import DEFAULT
from ema_assets.store import migrations, tables
from ema_assets.store.database import Database
from ema_assets.store.migrations import all_migrations, migrate
from ema_assets_tests.conftest import Databases, mostly_broad

KNOWN = all_migrations()
NEWEST = KNOWN[-1].number

# Values for columns whose checks refuse the generic value of their type.
_ALLOWED = {
    ("alert_delivery", "state"): "sent",
    ("bar_gap", "status"): "open",
    ("bar_revision", "kind"): "correction",
    ("corporate_action", "kind"): "dividend",
    ("corporate_action", "ratio"): None,
    ("instrument", "state"): "halted",
}
_OF_TYPE = {
    "text": "x{n}",
    "boolean": True,
    "integer": 4,
    "smallint": 1,
    "bigint": 4,
    "double precision": 2.5,
    "timestamp with time zone": "2026-11-{day:02}T14:30:00Z",
    "date": "2026-11-{day:02}",
    "time without time zone": "09:30",
    "jsonb": '{{"ohlc|5m": 12}}',
    "text[]": "{{5m,1d}}",
}


def ask(url: str, sql: str, values: tuple = ()) -> list[tuple]:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return list(cursor.fetchall()) if cursor.description else []


def columns(url: str) -> dict[str, dict[str, str]]:
    """Return the writable columns, with their types, of the table of bars and of every table that migrations create."""
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in ask(
        url,
        """
        SELECT c.relname, a.attname, format_type(a.atttypid, NULL)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'market'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND a.attidentity <> 'a' AND a.attgenerated = ''
        ORDER BY CASE c.relname WHEN 'instrument' THEN 0 WHEN 'asset' THEN 0 WHEN 'source' THEN 0 ELSE 1 END, 1, a.attnum
        """,
    ):
        found.setdefault(table, {})[column] = kind
    return found


def fill(url: str) -> None:
    """Insert three rows into every table, with a value in every column that allows one."""
    for table, kinds in columns(url).items():
        for n in range(3):
            row = {name: _value(table, name, kind, n) for name, kind in kinds.items()}
            names = ", ".join(f'"{name}"' for name in row)
            marks = ", ".join(["%s"] * len(row))
            ask(url, f"INSERT INTO market.{table} ({names}) VALUES ({marks})", tuple(row.values()))


def _value(table: str, column: str, kind: str, n: int) -> object:
    if (table, column) in _ALLOWED:
        return _ALLOWED[table, column]
    if (table, column) == ("alert_delivery", "alert_id"):
        return n + 1  # the id of an alert is generated
    if table in ("ohlc", "long_bar") and column == "timeframe":
        return "5m"
    if column in ("last_end", "close") and kind == "timestamp with time zone":
        return f"2026-12-{n + 1:02}T21:00:00Z"
    value = _OF_TYPE[kind]
    return value.format(n=n, day=n + 1) if isinstance(value, str) else value


def rows(url: str, of: dict[str, dict[str, str]]) -> dict[str, list[tuple]]:
    """Return all rows of the tables in `of`, with the columns given there and floats to the last bit."""
    quoted = {table: ", ".join(f'"{name}"' for name in names) for table, names in of.items()}
    return {
        table: ask(url, f"SELECT ROW({names})::text FROM market.{table} ORDER BY 1") for table, names in quoted.items()
    }


def shape(url: str) -> list[tuple]:
    """Return every relation with its columns, types, defaults, checks, keys, indexes and comments."""
    return ask(
        url,
        """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
               pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'market'::regnamespace
        UNION ALL SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), true, NULL, NULL
        FROM pg_constraint WHERE connamespace = 'market'::regnamespace AND contype <> 'n'
        UNION ALL SELECT tablename, indexname, indexdef, true, NULL, NULL FROM pg_indexes WHERE schemaname = 'market'
        UNION ALL SELECT proname, '', pg_get_functiondef(oid), true, NULL, NULL
        FROM pg_proc WHERE pronamespace = 'market'::regnamespace
        ORDER BY 1, 2, 3
        """,
    )


@pytest.fixture(scope="module")
def newest(databases: Databases) -> Iterator[str]:
    """A database that was created by this version."""
    url = databases.make(migrated=False)
    migrate(url)
    yield url
    databases.drop(url)


@pytest.mark.parametrize("number", mostly_broad([each.number for each in KNOWN[:-1]]))
def test_a_database_of_an_older_migration_with_data_becomes_one_of_this_version(
    databases: Databases, newest: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = databases.make(migrated=False)
    with monkeypatch.context() as patches:
        patches.setattr(migrations, "all_migrations", lambda: KNOWN[:number])
        migrate(url)
        # The declaration of this version is used. Later migrations accept it.
        with Database(url) as database, database.transaction() as transaction:
            tables.ensure(transaction, [tables.STORED_BARS], DEFAULT)
    fill(url)
    before_columns = columns(url)
    assert len(before_columns) >= 16
    before = rows(url, before_columns)
    assert {table: len(found) for table, found in before.items() if len(found) != 3} == {}
    applied = migrate(url)
    assert [each.number for each in applied] == list(range(number + 1, NEWEST + 1))
    # Only tables that existed before are compared: the migration of `market.older_history` may insert rows into it.
    assert rows(url, before_columns) == before
    assert shape(url) == shape(newest)
    assert migrate(url) == []
    added = {
        (table, name)
        for table, names in columns(url).items()
        for name in names
        if name not in before_columns.get(table, {})
    }
    assert bool(added) == any("ADD COLUMN" in each.sql or "CREATE TABLE" in each.sql for each in KNOWN[number:])
    # These rows have no fetched series, so every new table is empty.
    after = rows(url, columns(url))
    assert {table: len(found) for table, found in after.items()} == {
        table: 3 if table in before_columns else 0 for table in after
    }
    databases.drop(url)


def test_the_seventh_migration_looks_once_at_each_fetched_series_that_was_asked_for(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = databases.make(migrated=False)
    with monkeypatch.context() as patches:
        patches.setattr(migrations, "all_migrations", lambda: KNOWN[:6])
        migrate(url)
    ask(
        url,
        """
        INSERT INTO market.instrument (symbol, calendar, is_fetched)
        VALUES ('AAPL', 'XNYS', true), ('KO', 'XNYS', false);
        INSERT INTO market.series_state (symbol, timeframe, asset, first_ts, asked_at)
        VALUES ('AAPL', '5m', 'ohlc', '2026-11-20T14:30Z', '2026-11-21T00:00Z'),
               ('AAPL', '15m', 'ohlc', '2026-11-20T14:30Z', NULL),
               ('AAPL', '5m', 'ema_9', '2026-11-20T14:30Z', '2026-11-21T00:00Z'),
               ('KO', '5m', 'ohlc', '2026-11-20T14:30Z', '2026-11-21T00:00Z')
        """,
    )
    migrate(url)
    reach = "symbol, timeframe, asset FROM market.series_state WHERE asked_from = first_ts"
    assert ask(url, f"SELECT {reach}") == [("AAPL", "5m", "ohlc")]
    due = "SELECT symbol, timeframe, extract(epoch FROM due_at)::int, failures FROM market.older_history"
    assert ask(url, due) == [("AAPL", "5m", 0, 0)]
    databases.drop(url)


@pytest.mark.broad
def test_migrating_number_by_number_gives_the_same_schema_as_migrating_at_once(
    databases: Databases, newest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = databases.make(migrated=False)
    for upto in itertools.chain(range(1, NEWEST + 1)):
        with monkeypatch.context() as patches:
            patches.setattr(migrations, "all_migrations", lambda upto=upto: KNOWN[:upto])
            assert [each.number for each in migrate(url)] == [upto]
    assert shape(url) == shape(newest)
    databases.drop(url)


def test_a_table_of_bars_from_before_the_fifth_migration_becomes_the_one_declared_now(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table had another declaration before: a volume was never null and a price was always positive."""
    url = databases.make(migrated=False)
    columns = (replace(each, is_nullable=False) if each.name == "volume" else each for each in tables.BARS.columns)
    then = replace(
        tables.STORED_BARS,
        columns=(*columns, *(each for each in tables.STORED_BARS.columns if each.name == "missing_bars")),
        checks=(f"low > 0 AND {tables.BARS.checks[0]}",),
    )
    with monkeypatch.context() as patches:
        patches.setattr(migrations, "all_migrations", lambda: KNOWN[:4])
        patches.setattr(tables, "STORED_BARS", then)
        migrate(url)
    ask(url, "INSERT INTO market.ohlc VALUES ('AAPL', '5m', '2026-11-20T14:30Z', 1, 1, 1, 1, 7)")
    migrate(url)
    with Database(url) as database, database.transaction() as transaction:
        assert tables.ensure(transaction, [tables.STORED_BARS], DEFAULT) == [tables.STORED_BARS.name]
        assert tables.ensure(transaction, [tables.STORED_BARS], DEFAULT) == []
    assert ask(url, "SELECT open, volume, source_id FROM market.ohlc") == [(1.0, 7.0, None)]
    databases.drop(url)
