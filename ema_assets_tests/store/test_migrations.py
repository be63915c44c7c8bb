"""Migrations against real databases."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import psycopg2
import pytest

from ema_assets.model.errors import StoreError, StoreUnavailable
from ema_assets.model.timeframes import ORDER
from ema_assets.store import migrations
from ema_assets.store.migrations import Migration, all_migrations, migrate
from ema_assets.store.setup import prepare_database
from ema_assets_tests.conftest import Databases


@pytest.fixture
def new_url(databases: Databases) -> Iterator[str]:
    """A database in which nothing has happened yet."""
    url = databases.make(migrated=False)
    yield url
    databases.drop(url)


def ask(url: str, sql: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


def test_a_new_database_gets_every_migration_and_the_schema_for_dagster(new_url: str) -> None:
    assert migrate(new_url) == all_migrations()
    assert ask(new_url, "SELECT number, name FROM ema_assets.migration ORDER BY 1") == [
        (each.number, each.name) for each in all_migrations()
    ]
    schemas = {name for (name,) in ask(new_url, "SELECT nspname FROM pg_namespace")}
    assert {"market", "dagster", "ema_assets"} <= schemas


def test_migrating_again_does_nothing(new_url: str) -> None:
    migrate(new_url)
    ask(new_url, "INSERT INTO market.instrument (symbol, calendar) VALUES ('AAPL', 'XNYS')")
    assert migrate(new_url) == []
    assert ask(new_url, "SELECT symbol FROM market.instrument") == [("AAPL",)]


def catalog(url: str) -> list[tuple[object, ...]]:
    """Every relation and schema of ours, and what is written down of migrations."""
    return [
        *ask(url, "SELECT oid::regclass::text, relkind::text FROM pg_class WHERE oid > 16384 ORDER BY 1"),
        *ask(url, "SELECT nspname::text, '' FROM pg_namespace WHERE oid > 16384 ORDER BY 1"),
    ]


def test_an_applied_migration_that_was_edited_is_named_and_nothing_is_changed(
    new_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(new_url)
    baseline = all_migrations()[0]
    edited = replace(baseline, sql=f"{baseline.sql}\n-- a comment")
    added = Migration(baseline.number + 1, "colour", "ALTER TABLE market.instrument ADD COLUMN colour text")
    monkeypatch.setattr(migrations, "all_migrations", lambda: [edited, added])
    before = catalog(new_url)
    with pytest.raises(
        StoreError, match=r"the migration 0001_baseline.sql is not the one that was applied to postgres"
    ):
        migrate(new_url)
    assert catalog(new_url) == before
    assert ask(new_url, "SELECT number FROM ema_assets.migration") == [(1,)]


# What the six migrations of development versions have left, as far as it tells them from the baseline.
_DEVELOPMENT_VERSION = """
    CREATE SCHEMA dagster;
    CREATE SCHEMA ema_assets;
    CREATE TABLE ema_assets.migration (
        number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
    );
    INSERT INTO ema_assets.migration (number, name)
    VALUES (1, 'market'), (2, 'quality'), (3, 'providers'), (4, 'latency'), (5, 'assets'), (6, 'results');
    CREATE SCHEMA market;
    CREATE TABLE market.instrument (symbol text COLLATE "C" PRIMARY KEY, calendar text COLLATE "C" NOT NULL);
    INSERT INTO market.instrument VALUES ('AAPL', 'XNYS');
    CREATE TABLE market.ohlc (
        symbol text COLLATE "C" NOT NULL, timeframe text COLLATE "C" NOT NULL, ts timestamptz NOT NULL,
        PRIMARY KEY (symbol, timeframe, ts)
    ) PARTITION BY LIST (timeframe);
    CREATE TABLE market.ohlc_5m PARTITION OF market.ohlc FOR VALUES IN ('5m');
"""


@pytest.mark.parametrize("version", [1, 6, 7])
def test_a_database_of_a_development_version_is_refused_in_one_sentence_and_left_as_it_is(
    new_url: str, version: int
) -> None:
    ask(new_url, _DEVELOPMENT_VERSION)
    ask(new_url, f"DELETE FROM ema_assets.migration WHERE number > {version}")
    if version == 7:
        ask(new_url, "INSERT INTO ema_assets.migration (number, name) VALUES (7, 'later')")
    before = catalog(new_url)
    with pytest.raises(StoreError, match="was made by a development version of ema-assets") as caught:
        prepare_database(new_url)
    assert "load anew with `EMA_HOME=… ema-assets up`" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert catalog(new_url) == before
    assert ask(new_url, "SELECT count(*) FROM ema_assets.migration") == [(version,)]
    assert ask(new_url, "SELECT symbol FROM market.instrument") == [("AAPL",)]


def test_a_prepared_database_has_the_table_of_bars_also_when_that_was_interrupted(new_url: str) -> None:
    assert migrate(new_url) == all_migrations()
    assert ask(new_url, "SELECT to_regclass('market.ohlc')") == [(None,)]
    assert prepare_database(new_url) == []
    assert ask(new_url, "SELECT * FROM market.ohlc_as_of(now())") == []
    partitions = ask(
        new_url, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'market.ohlc'::regclass"
    )
    assert {name for (name,) in partitions} == {f"market.ohlc_{timeframe.key}" for timeframe in ORDER}


def test_processes_that_prepare_a_database_at_once_all_find_it_ready(new_url: str) -> None:
    def prepare(_: int) -> tuple[int, list[tuple[object, ...]]]:
        return len(prepare_database(new_url)), ask(new_url, "SELECT count(*) FROM market.ohlc")

    with ThreadPoolExecutor(4) as pool:
        done = sorted(pool.map(prepare, range(4)))
    assert done == [(0, [(0,)]), (0, [(0,)]), (0, [(0,)]), (len(all_migrations()), [(0,)])]


def test_two_processes_that_migrate_at_once_do_it_once(new_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migrate, [new_url] * 4))
    assert sorted(applied, key=len) == [[], [], [], all_migrations()]


def test_a_database_of_a_newer_version_is_refused_and_left_alone(new_url: str) -> None:
    migrate(new_url)
    newest = all_migrations()[-1].number
    ask(new_url, f"INSERT INTO ema_assets.migration VALUES ({newest + 1}, 'future', 'a hash')")
    with pytest.raises(
        StoreError, match=rf"was migrated to {newest + 1} by a newer ema-assets; this one knows {newest}"
    ):
        migrate(new_url)


def test_only_what_is_missing_is_applied(new_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(new_url)
    known = all_migrations()
    added = Migration(known[-1].number + 1, "colour", "ALTER TABLE market.instrument ADD COLUMN colour text")
    monkeypatch.setattr(migrations, "all_migrations", lambda: [*known, added])
    assert migrate(new_url) == [added]
    assert ask(new_url, "SELECT colour FROM market.instrument") == []


def test_a_migration_that_fails_leaves_the_ones_before_it_and_nothing_of_itself(
    new_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = all_migrations()
    broken = replace(
        known[-1], number=known[-1].number + 1, name="broken", sql="CREATE TABLE market.half (); SELECT 1/0"
    )
    monkeypatch.setattr(migrations, "all_migrations", lambda: [*known, broken])
    with pytest.raises(StoreError, match="cannot be migrated: division by zero"):
        migrate(new_url)
    assert ask(new_url, "SELECT max(number) FROM ema_assets.migration") == [(known[-1].number,)]
    assert ask(new_url, "SELECT to_regclass('market.half')::text") == [(None,)]


def test_numbers_are_unique_and_without_gaps() -> None:
    assert [each.number for each in all_migrations()] == list(range(1, len(all_migrations()) + 1))


def test_a_server_that_does_not_answer_is_named_without_the_password() -> None:
    with pytest.raises(StoreUnavailable, match=r"cannot connect to postgresql://ema:\*\*\*@127.0.0.1:1/x: ") as caught:
        migrate("postgresql://ema:s3cret@127.0.0.1:1/x")
    assert "s3cret" not in str(caught.value)
