"""Dagster's storage over held connections."""

import psycopg2
from dagster import DagsterInstance

from ema_assets.defs.resources import StoreResource
from ema_assets_tests.defs.conftest import World


def connections(world: World) -> set[int]:
    with world.database.transaction() as transaction:
        found = transaction.query(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    return set(found["pid"])


def test_a_connection_is_held_from_one_statement_to_the_next(world: World) -> None:
    """Fails when a Dagster upgrade goes back to a connection a statement, which doubles the time of a run."""
    world.instance.get_dynamic_partitions("symbol")
    world.instance.get_runs(limit=1)
    held = connections(world)
    assert held
    for _ in range(5):
        world.instance.get_dynamic_partitions("symbol")
        world.instance.get_runs(limit=1)
    assert connections(world) == held


def test_all_instances_of_a_process_share_the_connection(world: World) -> None:
    """A code location makes an instance for every tick of a schedule."""
    world.instance.get_runs(limit=1)
    held = connections(world)
    for _ in range(3):
        with DagsterInstance.from_ref(world.instance.get_ref()) as another:
            another.get_runs(limit=1)
            another.get_dynamic_partitions("symbol")
    assert connections(world) == held


def test_the_market_database_is_held_from_one_use_to_the_next_and_counts_statements_anew(world: World) -> None:
    store = StoreResource()
    with store.open() as first, first.transaction() as transaction:
        transaction.query("SELECT 1 AS one")
    with store.open() as second, store.open() as third:
        assert second is first
        assert second.statements == 0
        assert third is not first


def test_a_market_connection_that_was_lost_is_replaced(world: World) -> None:
    store = StoreResource()
    with store.open() as database, database.transaction() as transaction:
        transaction.query("SELECT 1 AS one")
    with psycopg2.connect(world.database.url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with store.open() as database, database.transaction() as transaction:
        assert transaction.query("SELECT 1 AS one").item() == 1


def test_a_restart_of_postgres_is_survived(world: World) -> None:
    world.instance.get_dynamic_partitions("symbol")
    with psycopg2.connect(world.database.url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert world.instance.get_dynamic_partitions("symbol") == world.symbols
    assert world.instance.get_runs(limit=1) == []
