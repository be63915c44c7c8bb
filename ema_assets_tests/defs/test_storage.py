"""Dagster's storage over held connections."""

import psycopg2

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


def test_a_restart_of_postgres_is_survived(world: World) -> None:
    world.instance.get_dynamic_partitions("symbol")
    with psycopg2.connect(world.database.url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert world.instance.get_dynamic_partitions("symbol") == world.symbols
    assert world.instance.get_runs(limit=1) == []
