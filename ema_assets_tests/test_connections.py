"""Tests that connections to copies of a database work as any other, although their types are not read again."""

from collections.abc import Iterator

import adbc_driver_postgresql.dbapi as adbc
import polars as pl
import pytest

from ema_assets.model.errors import StoreUnavailable
from ema_assets.store.database import Database
from ema_assets_tests import connections
from ema_assets_tests.conftest import Databases

# One column of each kind that the tables have, and a value of the composite type `market.bar`.
EVERY_KIND = """
SELECT 'AAPL'::text AS symbol, 1.5::float8 AS close, 7::bigint AS volume, 3::integer AS bars, true AS is_new,
       timestamptz '2026-11-25 15:45+00' AS ts, date '2026-11-25' AS day, ARRAY['5m', '1h'] AS timeframes,
       jsonb_build_object('length', 9)::text AS params,
       jsonb_populate_record(NULL::market.bar, '{"ts": "2026-11-25T15:45Z", "close": 2.5}') AS bar
"""


def query(url: str, sql: str) -> pl.DataFrame:
    with Database(url) as database, database.transaction() as transaction:
        return transaction.query(sql)


@pytest.fixture
def other_url(databases: Databases) -> Iterator[str]:
    url = databases.make()
    yield url
    databases.drop(url)


@pytest.mark.broad
def test_two_connections_to_two_copies_each_reach_their_own_database(database_url: str, other_url: str) -> None:
    with Database(database_url) as one, Database(other_url) as other:
        for database in (one, other, one):
            with database.transaction() as transaction:
                transaction.execute("CREATE TABLE IF NOT EXISTS public.mark AS SELECT current_database()::text AS name")
        for database in (one, other):
            with database.transaction() as transaction:
                (name,) = transaction.query("SELECT name FROM public.mark")["name"]
            assert database.url.partition("?")[0].endswith(f"/{name}")


@pytest.mark.broad
def test_every_connection_has_its_own_session_and_its_settings_end_with_it(database_url: str) -> None:
    pids = [query(database_url, "SELECT pg_backend_pid() AS pid")["pid"].item() for _ in range(2)]
    assert len(set(pids)) == 2
    with Database(database_url, "of this test") as database, database.transaction() as transaction:
        transaction.execute("SET statement_timeout = '7s'")
        assert transaction.query("SELECT current_setting('application_name') AS it").item() == "of this test"
    assert query(database_url, "SELECT current_setting('statement_timeout') AS it").item() == "0"
    assert query(database_url, "SELECT current_setting('application_name') AS it").item() != "of this test"


@pytest.mark.broad
def test_a_copy_returns_the_same_rows_with_a_driver_that_read_the_types_of_the_copy(
    databases: Databases, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database_url in databases.copies
    found = query(database_url, EVERY_KIND)
    monkeypatch.setattr(adbc, "connect", connections._connect)
    assert query(database_url, EVERY_KIND).equals(found, null_equal=True)
    assert query(database_url, EVERY_KIND).schema == found.schema


def test_a_database_that_is_not_a_copy_can_be_queried(databases: Databases) -> None:
    url = databases.make(migrated=False)
    try:
        assert url not in databases.copies
        assert query(url, "SELECT current_database()::text AS name").item() in url
    finally:
        databases.drop(url)


def test_a_dropped_copy_cannot_be_reached(databases: Databases) -> None:
    url = databases.make()
    with Database(url) as database:
        with database.transaction() as transaction:
            transaction.execute("SELECT 1")
        databases.drop(url)
        assert url not in databases.copies
        for _ in range(2):  # the connection that was open, and a new one
            with pytest.raises(StoreUnavailable), database.transaction() as transaction:
                transaction.execute("SELECT 1")


def test_databases_can_be_created_after_the_server_has_closed_the_connection(databases: Databases) -> None:
    query(databases.url_of("ema"), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                                   "WHERE datname = 'ema' AND pid <> pg_backend_pid() "
                                   "AND backend_type = 'client backend'")  # fmt: skip
    url = databases.make()
    assert query(url, "SELECT count(*) AS migrations FROM ema_assets.migration").item() > 0
    databases.drop(url)
