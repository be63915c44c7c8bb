"""Tests of declared tables: a table is the same whether it is created whole or gets columns or partitions later."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.declarations import Column
from ema_assets.model.errors import StoreError
from ema_assets.model.reserved_words import RESERVED_WORDS
from ema_assets.operations.sync_watchlist import adopt_graph
from ema_assets.refresh.graph import build
from ema_assets.signals.discovery import is_taken
from ema_assets.store import tables
from ema_assets.store.database import Database
from ema_assets.store.tables import Filled, Table
from ema_assets_tests.conftest import Databases
from ema_assets_tests.timeframes import H1, ORDER

# All tables of a new installation, and the tables of a custom strategy.
GRAPH = build(Watchlist((), {}, strategies=({"name": "guarded", "rule": "crossover", "atr_stop": 1.0},)))
WHOLE = Table(
    "toy",
    "ts",
    (
        Column("level", "float8", "A number", is_nullable=False),
        Column("side", "text", "long or short", choices=("long", "short")),
        Column("crossover", "text", "Where the trend flips"),
        Column("bar_number", "int8", "1 for the first bar", is_nullable=False),
    ),
    flips=tables.CROSSOVERS,
    checks=("level > 0",),
    filled=(Filled("doubled", "float8 GENERATED ALWAYS AS (level * 2) STORED", "Twice the level"),),
    comment="A toy's rows.",
)
FEWER = replace(WHOLE, columns=tuple(column for column in WHOLE.columns if column.name != "side"))


def catalog(database: Database, name: str) -> dict[str, list[tuple[object, ...]]]:
    """Read the table `name` and its partitions from the catalogs: columns, constraints, indexes, comments."""
    questions = {
        "columns": """
            SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod) AS kind, a.attnotnull,
                   a.attgenerated::text, pg_get_expr(d.adbin, d.adrelid) AS filled_with, l.collname::text
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
            LEFT JOIN pg_collation l ON l.oid = a.attcollation
            """,
        "constraints": """
            SELECT c.relname::text, k.conname::text, k.contype::text, pg_get_constraintdef(k.oid) AS definition
            FROM pg_class c JOIN pg_constraint k ON k.conrelid = c.oid
            """,
        "indexes": """
            SELECT c.relname::text, i.relname::text AS index, pg_get_indexdef(i.oid) AS definition
            FROM pg_class c JOIN pg_index x ON x.indrelid = c.oid JOIN pg_class i ON i.oid = x.indexrelid
            """,
        "comments": """
            SELECT c.relname::text, a.attname::text, d.description
            FROM pg_class c JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass
            LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND a.attnum > 0
            """,
    }
    with database.transaction() as transaction:
        return {
            what: transaction.query(
                f"""
                {sql} WHERE c.relnamespace = 'market'::regnamespace AND c.relkind IN ('r', 'p')
                        AND (c.relname = $1 OR c.relname = ANY ($2::text[])) ORDER BY 1, 2
                """,
                name,
                [f"{name}_{timeframe.key}" for timeframe in ORDER],
            ).rows()
            for what, sql in questions.items()
        }


def ensure(database: Database, *declared: Table) -> list[str]:
    with database.transaction() as transaction:
        return tables.ensure(transaction, declared, ORDER)


def names(rows: Sequence[tuple[object, ...]]) -> set[object]:
    return {row[0] for row in rows}


def test_a_table_is_created_with_everything_that_is_declared(database: Database) -> None:
    assert ensure(database, WHOLE) == ["toy"]
    found = catalog(database, "toy")
    everywhere = {"toy", *(f"toy_{timeframe.key}" for timeframe in ORDER)}
    assert names(found["columns"]) == names(found["constraints"]) == names(found["indexes"]) == everywhere
    assert ("toy_5m", "level", "double precision", True, "", None, None) in found["columns"]
    assert ("toy", "doubled", "double precision", False, "s", "(level * (2)::double precision)", None) in found[
        "columns"
    ]
    checks = [row[3] for row in found["constraints"] if row[0] == "toy" and row[2] == "c"]
    assert len(checks) == 2
    assert ("toy", None, "A toy's rows.") in found["comments"]
    assert ensure(database, WHOLE) == []


def test_adding_columns_later_gives_the_same_table(database: Database, databases: Databases) -> None:
    ensure(database, FEWER)
    with database.transaction() as transaction:
        transaction.execute(
            "INSERT INTO market.toy (symbol, timeframe, ts, level, bar_number) VALUES ('A', '5m', now(), 1, 1)"
        )
    assert ensure(database, WHOLE) == ["toy"]
    with database.transaction() as transaction:
        assert transaction.query("SELECT side, doubled FROM market.toy").rows() == [(None, 2.0)]
    url = databases.make()
    with Database(url) as other:
        ensure(other, WHOLE)
        assert catalog(database, "toy") == catalog(other, "toy")
    databases.drop(url)


@pytest.mark.parametrize(
    "changed",
    [
        replace(WHOLE, columns=(replace(WHOLE.columns[0], kind="int8"), *WHOLE.columns[1:])),
        replace(WHOLE, columns=(*WHOLE.columns, Column("needed", "int8", "Never null", is_nullable=False))),
        replace(WHOLE, columns=(WHOLE.columns[0], replace(WHOLE.columns[1], choices=("long",)), *WHOLE.columns[2:])),
        replace(WHOLE, checks=("level > 1",)),
        replace(WHOLE, filled=(Filled("doubled", "float8 GENERATED ALWAYS AS (level * 3) STORED", ""),)),
        replace(WHOLE, flips=None),
    ],
    ids=["kind", "not null", "choices", "check", "generated", "index"],
)
def test_a_change_that_cannot_be_added_recreates_the_table(
    database: Database, databases: Databases, changed: Table
) -> None:
    ensure(database, WHOLE)
    assert ensure(database, changed) == ["toy"]
    url = databases.make()
    with Database(url) as other:
        ensure(other, changed)
        assert catalog(database, "toy") == catalog(other, "toy")
    databases.drop(url)


def test_a_column_that_is_no_longer_declared_stays_and_becomes_nullable(database: Database) -> None:
    ensure(database, WHOLE)
    without = replace(WHOLE, columns=tuple(column for column in WHOLE.columns if column.name != "bar_number"))
    assert ensure(database, without) == []
    with database.transaction() as transaction:
        transaction.execute("INSERT INTO market.toy (symbol, timeframe, ts, level) VALUES ('A', '5m', now(), 1)")
        assert transaction.query("SELECT bar_number FROM market.toy").rows() == [(None,)]


def test_a_column_that_is_declared_again_is_empty_and_has_to_be_recomputed(
    database: Database, databases: Databases
) -> None:
    ensure(database, WHOLE)
    with database.transaction() as transaction:
        transaction.execute(
            "INSERT INTO market.toy (symbol, timeframe, ts, level, side, bar_number)"
            " VALUES ('A', '5m', now(), 1, 'long', 1)"
        )
    assert ensure(database, FEWER) == []
    assert ensure(database, WHOLE) == ["toy"]
    with database.transaction() as transaction:
        assert transaction.query("SELECT side, bar_number FROM market.toy").rows() == [(None, 1)]
    url = databases.make()
    with Database(url) as other:
        ensure(other, WHOLE)
        assert catalog(database, "toy") == catalog(other, "toy")
    databases.drop(url)


def test_changed_descriptions_reach_the_catalog_and_keep_the_rows(database: Database, databases: Databases) -> None:
    ensure(database, WHOLE)
    with database.transaction() as transaction:
        transaction.execute(
            "INSERT INTO market.toy (symbol, timeframe, ts, level, bar_number) VALUES ('A', '5m', now(), 1, 1)"
        )
    level, *others = WHOLE.columns
    described = replace(
        WHOLE,
        columns=(replace(level, description="Another number"), *others),
        filled=(replace(WHOLE.filled[0], description="Two of them"),),
        comment="Another toy's rows.",
    )
    assert ensure(database, described) == []
    assert {
        ("toy", "level", "Another number"),
        ("toy", "doubled", "Two of them"),
        ("toy", None, "Another toy's rows."),
    } <= set(catalog(database, "toy")["comments"])
    with database.transaction() as transaction:
        assert transaction.query("SELECT level FROM market.toy").rows() == [(1.0,)]
    url = databases.make()
    with Database(url) as other:
        ensure(other, described)
        assert catalog(database, "toy") == catalog(other, "toy")
    databases.drop(url)


def test_concurrent_connections_create_each_table_once(database: Database) -> None:
    toys = [replace(WHOLE, name=f"toy_{number}") for number in range(3)]

    def make(_: int) -> list[str]:
        with Database(database.url) as other:
            return ensure(other, *toys)

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(make, range(3))) == [[], [], ["toy_0", "toy_1", "toy_2"]]


def test_checking_unchanged_tables_costs_two_statements(database: Database) -> None:
    every = [table for node in GRAPH.on for table in node.tables]
    ensure(database, *every)
    before = database.statements
    assert ensure(database, *every) == []
    assert database.statements == before + 2


@pytest.mark.parametrize("table", [table for node in GRAPH.on for table in node.tables], ids=lambda table: table.name)
def test_every_partition_has_the_columns_constraints_and_indexes_of_its_table(database: Database, table: Table) -> None:
    ensure(database, table)
    found = catalog(database, table.name)

    def of(what: str, relation: str) -> set[tuple[object, ...]]:
        # Names of constraints and indexes contain the name of the partition.
        first = 1 if what == "columns" else 2
        return {row[first:] for row in found[what] if row[0] == relation}

    def methods(relation: str) -> list[tuple[bool, str]]:
        """Return whether each index is unique, and its method, columns and predicate."""
        texts = [str(definition) for (definition,) in of("indexes", relation)]
        return sorted((text.startswith("CREATE UNIQUE"), text.partition(" USING ")[2]) for text in texts)

    for timeframe in ORDER:
        partition = f"{table.name}_{timeframe.key}"
        assert of("columns", partition) == of("columns", table.name)
        assert of("constraints", partition) == of("constraints", table.name)
        assert methods(partition) == methods(table.name)


@pytest.mark.broad
def test_the_views_are_restored_after_a_table_below_them_is_recreated(database: Database) -> None:
    views = """
        SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('v', 'm')
        AND relnamespace IN ('results'::regnamespace, 'market'::regnamespace) ORDER BY 1
    """
    with database.transaction() as transaction:
        adopt_graph(transaction, GRAPH)
        before = transaction.query(views).rows()
    (macd,) = GRAPH.nodes["macd"].tables
    with database.transaction() as transaction:
        assert tables.ensure(transaction, [replace(macd, checks=("macd < 7",))], ORDER) == ["macd"]
        assert transaction.query(views).rows() != before
    with database.transaction() as transaction:
        assert adopt_graph(transaction, GRAPH) == ["macd"]
        assert transaction.query(views).rows() == before


def test_a_table_that_cannot_be_recomputed_is_never_dropped(database: Database) -> None:
    changed = replace(tables.STORED_BARS, checks=("close > 1",))
    with pytest.raises(StoreError, match=r"market\.ohlc is not made as this version declares it; it needs a migration"):
        ensure(database, changed)


def test_a_partition_that_is_added_later_equals_one_that_is_created_with_the_table(
    database: Database, databases: Databases
) -> None:
    url = databases.make()
    with Database(url) as other:
        with other.transaction() as transaction:
            tables.ensure(transaction, [WHOLE], [each for each in ORDER if each is not H1])
        before = names(catalog(other, "toy")["columns"])
        assert "toy_5m" in before
        assert "toy_1h" not in before
        assert ensure(other, WHOLE) == []
        ensure(database, WHOLE)
        assert catalog(database, "toy") == catalog(other, "toy")
    databases.drop(url)


def test_quotes_in_the_texts_of_a_declaration_are_escaped(database: Database) -> None:
    quoted = replace(
        WHOLE,
        columns=(Column("level", "float8", "A trader's number"), Column("side", "text", "x", choices=("o'clock", "b"))),
        checks=(),
        flips=None,
        comment="It's a toy.",
    )
    ensure(database, quoted)
    with database.transaction() as transaction:
        transaction.execute(
            "INSERT INTO market.toy (symbol, timeframe, ts, side) VALUES ('A', '5m', now(), 'o''clock')"
        )
    assert ("toy", None, "It's a toy.") in catalog(database, "toy")["comments"]


# --- reserved names ---


def test_the_reserved_words_include_all_reserved_words_of_the_server(database: Database) -> None:
    with database.transaction() as transaction:
        words = transaction.query("SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T')")["word"]
        system = transaction.query(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = 'market.ohlc'::regclass AND attnum < 0"
        )["attname"]
    # An older server has fewer words.
    assert {*words, *system} <= RESERVED_WORDS


@pytest.mark.broad
def test_no_signal_can_take_the_name_of_another_table(database: Database) -> None:
    with database.transaction() as transaction:
        adopt_graph(transaction, GRAPH)
        names = transaction.query(
            "SELECT relname::text AS name FROM pg_class WHERE relnamespace = 'market'::regnamespace AND relkind IN "
            "('r', 'p', 'v', 'm')"
        )["name"]
    signals = {node.name for node in GRAPH.nodes.values() if node.signal is not None}
    assert [name for name in names if name not in signals and not is_taken(name)] == []
