"""Tables made from declarations: alike however they came to be, and altered where the declaration has changed."""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.declarations import Column, Index, IsBelow
from ema_assets.model.errors import StoreError
from ema_assets.model.timeframes import ORDER, Timeframe, by_key
from ema_assets.operations.sync_watchlist import adopt_graph
from ema_assets.refresh.graph import build
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate
from ema_assets.store.tables.creation import ensure
from ema_assets.store.tables.table import BARS, Table
from ema_assets_tests.conftest import Databases

# Every table that a new installation has, and one more of each kind of declaration.
GRAPH = build(Watchlist((), {}, strategies=({"name": "guarded", "rule": "crossover", "atr_stop": 1.0},)))
TABLES = [table for node in GRAPH.on for table in node.tables]
FOUR_HOURS = by_key("4h")
WITHOUT_FOUR_HOURS = [timeframe for timeframe in ORDER if timeframe is not FOUR_HOURS]

TABLE = Table(
    "toy",
    "ts",
    (
        Column("bar_number", "int8", "1 for the first bar", is_nullable=False),
        Column("side", "text", "Which side", choices=("long", "short")),
        Column("value", "float8", "It's a value"),
    ),
    "Toys.",
    derived=(IsBelow("is_new", "bar_number", 3, "One of the first bars"),),
    indexes=(Index(("ts",), only="side"), Index(("symbol",), only="side", value="long")),
)


@pytest.fixture
def bare(databases: Databases) -> Iterator[Database]:
    """A database that was migrated and has no table of bars yet."""
    url = databases.make(migrated=False)
    migrate(url)
    with Database(url) as database:
        yield database
    databases.drop(url)


_COLUMNS = """
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, l.collname::text, a.attgenerated::text,
           pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum)
    FROM pg_attribute a
    LEFT JOIN pg_collation l ON l.oid = a.attcollation
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
"""
_CONSTRAINTS = """
    SELECT conname::text, contype::text, pg_get_constraintdef(oid), convalidated, obj_description(oid, 'pg_constraint')
    FROM pg_constraint WHERE conrelid = to_regclass($1)
"""
_INDEXES = """
    SELECT c.relname::text, pg_get_indexdef(c.oid), i.indisvalid, obj_description(c.oid, 'pg_class')
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass($1)
"""
_RELATION = """
    SELECT relkind::text, pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid), reloptions::text,
           obj_description(oid, 'pg_class')
    FROM pg_class WHERE oid = to_regclass($1)
"""


def catalog(database: Database, name: str, key: str | None = None) -> dict[str, set[tuple[object, ...]]]:
    """All that Postgres knows of a table or, with `key`, of its partition; for the key of the timeframe stands `T`."""
    relation = f"market.{name}" if key is None else f'market."{name}_{key}"'

    def shown(value: object) -> object:
        if key is None or not isinstance(value, str):
            return value
        return re.sub(rf"'{key}'|(?<=_){key}(?=_|\b)", "T", value)

    with database.transaction() as transaction:
        return {
            part: {tuple(map(shown, row)) for row in transaction.query(sql, relation).iter_rows()}
            for part, sql in (
                ("columns", _COLUMNS),
                ("constraints", _CONSTRAINTS),
                ("indexes", _INDEXES),
                ("relation", _RELATION),
            )
        }


def make(database: Database, tables: Sequence[Table], timeframes: Sequence[Timeframe] = ORDER) -> list[str]:
    with database.transaction() as transaction:
        return ensure(transaction, tables, timeframes)


def fill(database: Database, *keys: str) -> None:
    with database.transaction() as transaction:
        for key in keys:
            transaction.execute(
                "INSERT INTO market.toy (symbol, timeframe, ts, bar_number, side) VALUES ('A', $1, $2, 1, 'long')",
                key,
                datetime(2026, 11, 25, tzinfo=UTC),
            )


def rows(database: Database, sql: str) -> list[tuple[object, ...]]:
    with database.transaction() as transaction:
        return transaction.query(sql).rows()


# --- alike however they came to be --------------------------------------------------------------------------------------


def test_tables_are_alike_whether_made_at_once_or_given_columns_indexes_and_partitions_later(
    bare: Database, databases: Databases
) -> None:
    early = [
        replace(
            table,
            columns=tuple(
                replace(column, description="")
                for number, column in enumerate(table.columns)
                if number % 2 == 0 or not column.is_nullable or column.choices
            ),
            extra=(),
            derived=(),
            indexes=(),
            description="",
        )
        for table in TABLES
    ]
    assert make(bare, early, WITHOUT_FOUR_HOURS) == [table.name for table in TABLES]
    make(bare, TABLES, WITHOUT_FOUR_HOURS)
    make(bare, TABLES)
    at_once = databases.make(migrated=False)
    migrate(at_once)
    with Database(at_once) as fresh:
        assert make(fresh, TABLES) == [table.name for table in TABLES]
        for table in TABLES:
            expected = catalog(fresh, table.name)
            assert all(expected.values()), table.name
            assert catalog(bare, table.name) == expected
            for timeframe in ORDER:
                assert catalog(bare, table.name, timeframe.key) == catalog(fresh, table.name, timeframe.key)
    databases.drop(at_once)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_all_partitions_of_a_table_are_alike_and_as_strict_as_the_table(database: Database, table: Table) -> None:
    make(database, [table])
    first, *others = [catalog(database, table.name, timeframe.key) for timeframe in ORDER]
    assert all(other == first for other in others)
    whole = catalog(database, table.name)
    # Comments are on the table; everything else is on each partition too.
    assert {column[:-1] for column in first["columns"]} == {column[:-1] for column in whole["columns"]}
    assert {constraint[1:-1] for constraint in first["constraints"]} == {
        constraint[1:-1] for constraint in whole["constraints"]
    }
    assert len(first["indexes"]) == len(whole["indexes"])


def test_what_is_declared_is_in_the_catalog(database: Database) -> None:
    make(database, [TABLE])
    found = catalog(database, "toy")
    assert ("value", "double precision", False, None, "", None, "It's a value") in found["columns"]
    assert ("side", "text", False, "C", "", None, "Which side") in found["columns"]
    assert ("bar_number", "bigint", True, None, "", None, "1 for the first bar") in found["columns"]
    (is_new,) = [column for column in found["columns"] if column[0] == "is_new"]
    assert is_new[1:6] == ("boolean", True, None, "s", "(bar_number < 3)")
    (choices,) = [constraint for constraint in found["constraints"] if constraint[1] == "c"]
    assert choices[2] == "CHECK ((side = ANY (ARRAY['long'::text, 'short'::text])))"
    assert {index[0]: index[1].split(" USING ")[1] for index in found["indexes"]} == {
        "toy_pkey": "btree (symbol, timeframe, ts)",
        "toy_side": "btree (ts) WHERE (side IS NOT NULL)",
        "toy_long": "btree (symbol) WHERE (side = 'long'::text)",
    }
    assert [relation[-1] for relation in found["relation"]] == ["Toys."]


def test_bars_keep_when_they_were_stored_and_refuse_prices_out_of_order(database: Database) -> None:
    found = catalog(database, "ohlc", "1d")
    assert ("stored_at", "timestamp with time zone", True, None, "", "statement_timestamp()", None) in found["columns"]
    insert = (
        "INSERT INTO market.ohlc VALUES ('A', '1d', now(), 5, {high}, 4, 5, 1) RETURNING stored_at IS NOT NULL AS x"
    )
    assert rows(database, insert.format(high=6)) == [(True,)]
    with pytest.raises(Exception, match="prices_in_order"):
        rows(database, insert.format(high=4.5).replace("'A'", "'B'"))


# --- timeframes ---------------------------------------------------------------------------------------------------------


def test_a_timeframe_that_is_added_later_gets_its_partitions_and_nothing_is_computed_again(bare: Database) -> None:
    make(bare, [TABLE], WITHOUT_FOUR_HOURS)
    fill(bare, "1h")
    assert catalog(bare, "toy", "4h")["relation"] == set()
    assert make(bare, [TABLE]) == []
    assert catalog(bare, "toy", "4h") == catalog(bare, "toy", "1h")
    fill(bare, "4h")
    assert rows(bare, "SELECT timeframe FROM market.toy ORDER BY 1") == [("1h",), ("4h",)]


def test_a_timeframe_that_is_gone_keeps_its_partition_and_rows(bare: Database) -> None:
    make(bare, [TABLE])
    fill(bare, "4h")
    assert make(bare, [TABLE], WITHOUT_FOUR_HOURS) == []
    assert rows(bare, "SELECT timeframe FROM market.toy_4h") == [("4h",)]


# --- changed declarations -----------------------------------------------------------------------------------------------


def test_tables_that_fit_cost_one_statement(database: Database) -> None:
    make(database, TABLES)
    before = database.statements
    assert make(database, TABLES) == []
    assert database.statements == before + 1


def test_a_new_column_is_added_and_a_column_no_longer_declared_stays_empty_in_new_rows(database: Database) -> None:
    make(database, [TABLE])
    fill(database, "1h")
    number, side, _ = TABLE.columns
    other = replace(
        TABLE, columns=(side, Column("colour", "text", "Its colour")), derived=(), indexes=TABLE.indexes[:1]
    )
    assert make(database, [other]) == ["toy"]
    assert rows(database, "SELECT bar_number, side, value, colour FROM market.toy") == [(1, "long", None, None)]
    with database.transaction() as transaction:
        # `bar_number` must no longer have a value, though the derived column that reads it is still there.
        transaction.execute("ALTER TABLE market.toy DROP COLUMN is_new")
        transaction.execute("INSERT INTO market.toy (symbol, timeframe, ts, colour) VALUES ('B', '5m', now(), 'red')")
    assert rows(database, "SELECT bar_number, colour FROM market.toy WHERE symbol = 'B'") == [(None, "red")]
    assert {index[0] for index in catalog(database, "toy")["indexes"]} == {"toy_pkey", "toy_side"}
    assert number.name in {column[0] for column in catalog(database, "toy")["columns"]}


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param((*TABLE.columns[:2], Column("value", "int8", "It's a value")), id="another kind"),
        pytest.param((*TABLE.columns[:2], replace(TABLE.columns[2], is_nullable=False)), id="a value in every row"),
        pytest.param(
            (*TABLE.columns, Column("colour", "text", "Its colour", is_nullable=False)), id="a new one without nulls"
        ),
        pytest.param(
            (TABLE.columns[0], replace(TABLE.columns[1], choices=("long", "both")), TABLE.columns[2]), id="choices"
        ),
    ],
)
def test_a_table_whose_rows_may_not_fit_is_made_anew(database: Database, columns: tuple[Column, ...]) -> None:
    make(database, [TABLE])
    fill(database, "1h")
    other = replace(TABLE, columns=columns)
    assert make(database, [other]) == ["toy"]
    assert rows(database, "SELECT * FROM market.toy") == []
    assert make(database, [other]) == []


def test_another_limit_of_a_derived_column_and_other_descriptions_leave_the_rows(database: Database) -> None:
    make(database, [TABLE])
    fill(database, "1h")
    other = replace(
        TABLE,
        description="Other toys.",
        derived=(replace(TABLE.derived[0], limit=1),),
        columns=(*TABLE.columns[:2], replace(TABLE.columns[2], description="Another")),
    )
    assert make(database, [other]) == []
    assert rows(database, "SELECT bar_number, is_new FROM market.toy") == [(1, False)]
    found = catalog(database, "toy")
    assert "Another" in {column[-1] for column in found["columns"]}
    assert {relation[-1] for relation in found["relation"]} == {"Other toys."}
    assert make(database, [other]) == []


def test_checks_and_indexes_that_somebody_else_made_stay(database: Database) -> None:
    make(database, [TABLE])
    with database.transaction() as transaction:
        transaction.execute("CREATE INDEX by_value ON market.toy (value)")
        transaction.execute("ALTER TABLE market.toy ADD CONSTRAINT positive CHECK (value > 0)")
    other = replace(TABLE, indexes=(), columns=(*TABLE.columns, Column("colour", "text", "Its colour")))
    assert make(database, [other]) == ["toy"]
    found = catalog(database, "toy")
    assert {index[0] for index in found["indexes"]} == {"toy_pkey", "by_value"}
    assert {constraint[0] for constraint in found["constraints"] if constraint[1] == "c"} == {
        "positive",
        "side_choices",
    }


def test_bars_are_never_dropped(database: Database) -> None:
    other = replace(BARS, columns=(*BARS.columns, Column("trades", "int8", "How many", is_nullable=False)))
    with pytest.raises(StoreError, match=r"market\.ohlc differs from its declaration in a way that cannot be altered"):
        make(database, [other])
    assert rows(database, "SELECT count(*) FROM market.ohlc") == [(0,)]


def test_processes_that_make_a_table_at_once_make_it_once(bare: Database) -> None:
    def run(_: int) -> list[str]:
        with Database(bare.url) as database:
            return make(database, TABLES[:3])

    with ThreadPoolExecutor(3) as pool:
        made = sorted(pool.map(run, range(3)))
    assert made == [[], [], [table.name for table in TABLES[:3]]]


def test_the_views_come_back_when_a_table_below_any_of_them_is_made_anew(database: Database) -> None:
    with database.transaction() as transaction:
        adopt_graph(transaction, GRAPH)
    views = """
        SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('v', 'm')
        AND relnamespace IN ('results'::regnamespace, 'market'::regnamespace) ORDER BY 1
    """
    before = rows(database, views)
    with database.transaction() as transaction:
        transaction.execute("ALTER TABLE market.macd RENAME COLUMN macd TO before")
        transaction.execute("ALTER TABLE market.macd ADD COLUMN macd text")
    with database.transaction() as transaction:
        assert adopt_graph(transaction, GRAPH) == ["macd"]
    assert ("results.signals",) in before
    assert rows(database, views) == before
