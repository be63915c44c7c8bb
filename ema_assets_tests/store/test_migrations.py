"""Tests of migrations against real databases."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from urllib.parse import urlsplit

import psycopg2
import pytest

from ema_assets.model.errors import StoreError, StoreUnavailable
from ema_assets.store import migrations
from ema_assets.store.migrations import Migration, all_migrations, migrate
from ema_assets_tests.conftest import Databases


@pytest.fixture
def new_url(databases: Databases) -> Iterator[str]:
    """An empty database without migrations."""
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


@pytest.mark.broad
def test_the_table_of_bars_is_created_by_the_next_process_after_an_interrupted_migration(
    new_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patches:
        patches.setattr("ema_assets.store.migrations.tables.ensure", die)
        with pytest.raises(KeyboardInterrupt):
            migrate(new_url)
    assert ask(new_url, "SELECT to_regclass('market.ohlc')::text") == [(None,)]
    assert migrate(new_url) == []
    assert ask(new_url, "SELECT * FROM market.ohlc_as_of(now())") == []


def test_concurrent_migrations_apply_each_migration_once(new_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migrate, [new_url] * 4))
    assert sorted(applied, key=len) == [[], [], [], all_migrations()]


def test_a_database_of_a_newer_version_is_refused(new_url: str) -> None:
    migrate(new_url)
    newest = all_migrations()[-1].number
    ask(new_url, f"INSERT INTO ema_assets.migration (number, name, sha256) VALUES ({newest + 1}, 'future', '')")
    # A migration of this version would be applied again if the database were not refused.
    ask(new_url, f"DELETE FROM ema_assets.migration WHERE number = {newest}")
    recorded = "SELECT * FROM ema_assets.migration ORDER BY number"
    before = ask(new_url, recorded)
    with pytest.raises(
        StoreError, match=rf"was migrated to {newest + 1} by a newer ema-assets; this one knows {newest}"
    ):
        migrate(new_url)
    assert ask(new_url, recorded) == before


def test_only_missing_migrations_are_applied(new_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(new_url)
    known = all_migrations()
    added = Migration(known[-1].number + 1, "colour", "ALTER TABLE market.instrument ADD COLUMN colour text")
    monkeypatch.setattr(migrations, "all_migrations", lambda: [*known, added])
    assert migrate(new_url) == [added]
    assert ask(new_url, "SELECT colour FROM market.instrument") == []


def test_a_failed_migration_is_rolled_back_and_earlier_ones_are_kept(
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


def test_a_migration_that_waits_for_a_table_in_use_gives_up_and_reports_why(
    new_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other sessions would queue behind a migration that waits, with no hint at the cause."""
    migrate(new_url)
    number = all_migrations()[-1].number + 1
    later = Migration(number, "later", "ALTER TABLE market.instrument ADD COLUMN later int")
    known = [*all_migrations(), later]
    monkeypatch.setattr(migrations, "all_migrations", lambda: known)
    with closing(psycopg2.connect(new_url)) as reader, reader.cursor() as cursor:
        cursor.execute("SELECT FROM market.instrument")
        with monkeypatch.context() as patches:
            patches.setattr(migrations, "_LOCK_WAIT", "1ms")
            with pytest.raises(StoreError, match=r"(?s)lock timeout.*an older version that still runs, a backup"):
                migrate(new_url)
    assert [each.number for each in migrate(new_url)] == [number]


@pytest.mark.broad
def test_the_statement_timeout_of_the_database_does_not_cut_off_a_migration(
    new_url: str, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is meant for queries. A migration that takes longer would never complete."""
    migrate(new_url)
    long = Migration(all_migrations()[-1].number + 1, "long", "SELECT pg_sleep(0.2)")
    known = [*all_migrations(), long]
    monkeypatch.setattr(migrations, "all_migrations", lambda: known)
    databases.execute(f"ALTER DATABASE {urlsplit(new_url).path[1:]} SET statement_timeout = '100ms'")
    assert migrate(new_url) == [long]


def test_the_owner_of_the_schemas_can_migrate_without_the_right_to_create_schemas(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens where a DBA owns the database and allowed the product to create its schemas once."""
    url = databases.make(migrated=False)
    name = urlsplit(url).path[1:]
    as_keeper = f"{url}{'&' if urlsplit(url).query else '?'}options=-crole%3Dkeeper"
    later = Migration(all_migrations()[-1].number + 1, "later", "ALTER TABLE market.instrument ADD COLUMN later int")
    known = [*all_migrations(), later]
    databases.execute("CREATE ROLE keeper")
    try:
        databases.execute(f"GRANT CREATE ON DATABASE {name} TO keeper")
        migrate(as_keeper)
        databases.execute(f"REVOKE CREATE ON DATABASE {name} FROM keeper")
        monkeypatch.setattr(migrations, "all_migrations", lambda: known)
        assert migrate(as_keeper) == [later]
    finally:
        databases.drop(url)
        databases.execute("DROP ROLE keeper")


def test_a_migration_file_edited_after_it_was_applied_is_refused_and_named(
    new_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(new_url)
    edited = replace(all_migrations()[0], sql=all_migrations()[0].sql + "-- one more word\n")
    monkeypatch.setattr(migrations, "all_migrations", lambda: [edited, *all_migrations()[1:]])
    with pytest.raises(StoreError, match="0001_baseline.sql was edited after it had been applied to postgresql://"):
        migrate(new_url)


def test_a_database_from_before_the_baseline_is_refused_and_not_changed(new_url: str) -> None:
    ask(
        new_url,
        """
        CREATE SCHEMA ema_assets;
        CREATE TABLE ema_assets.migration (
            number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());
        INSERT INTO ema_assets.migration (number, name)
        SELECT n, name FROM unnest(ARRAY['market', 'quality', 'providers', 'latency', 'assets', 'results'])
               WITH ORDINALITY AS m(name, n);
        CREATE SCHEMA market;
        CREATE TABLE market.ohlc (symbol text, timeframe text, ts timestamptz, close float8);
        INSERT INTO market.ohlc VALUES ('AAPL', '5m', now(), 42);
        """,
    )
    before = _everything(new_url)
    for _ in range(2):
        with pytest.raises(
            StoreError, match=r"made by ema-assets before 0\.1\.0.*To start again, set EMA_HOME to another"
        ):
            migrate(new_url)
    assert _everything(new_url) == before
    assert ask(new_url, "SELECT close FROM market.ohlc") == [(42.0,)]


def _everything(url: str) -> list[tuple[object, ...]]:
    """Return every schema, relation and column of a database."""
    return ask(
        url,
        """
        SELECT n.nspname, c.relname, a.attname FROM pg_namespace n
        LEFT JOIN pg_class c ON c.relnamespace = n.oid LEFT JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1, 2, 3
        """,
    )


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_whose_encoding_is_not_utf8_is_refused_and_not_changed(databases: Databases, encoding: str) -> None:
    name = "of_another_encoding"
    databases.execute(
        f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER libc TEMPLATE template0"
    )
    url = databases.url_of(name)
    try:
        with pytest.raises(StoreError, match=f"has the encoding {encoding}, and only UTF8 .*ENCODING 'UTF8'"):
            migrate(url)
        assert ask(url, "SELECT nspname FROM pg_namespace WHERE nspname IN ('market', 'ema_assets', 'dagster')") == []
    finally:
        databases.drop(url)


def test_series_of_an_older_database_are_checked_once_for_older_bars(
    new_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only series that a provider was queried for: no symbols from files, no rolled-up or new series."""
    known = all_migrations()
    (number,) = (each.number for each in known if each.name == "older_history")
    with monkeypatch.context() as patches:
        patches.setattr(migrations, "all_migrations", lambda: [each for each in known if each.number < number])
        migrate(new_url)
    ask(
        new_url,
        """
        INSERT INTO market.instrument (symbol, calendar, is_fetched)
        VALUES ('AAPL', 'XNYS', true), ('FILED', 'XNYS', false), ('NEW', 'XNYS', true);
        INSERT INTO market.series_state (asset, symbol, timeframe, first_ts, last_ts, checked_through, asked_at)
        SELECT 'ohlc', s, t, '2026-10-01', '2026-11-26', '2026-11-26',
               CASE WHEN t <> '1h' THEN timestamptz '2026-11-26' END
        FROM unnest(ARRAY['AAPL', 'FILED']) s, unnest(ARRAY['5m', '1h', '1d']) t;
        INSERT INTO market.series_state (asset, symbol, timeframe) VALUES ('ohlc', 'NEW', '5m');
        """,
    )
    assert [each.name for each in migrate(new_url)][-1] == known[-1].name
    assert ask(new_url, "SELECT symbol, timeframe FROM market.older_history WHERE due_at < now() ORDER BY 1, 2") == [
        ("AAPL", "1d"),
        ("AAPL", "5m"),
    ]
    assert ask(
        new_url,
        "SELECT timeframe, asked_from = first_ts FROM market.series_state WHERE asked_from IS NOT NULL ORDER BY 1",
    ) == [("1d", True), ("5m", True)]


def test_numbers_of_migrations_are_unique_and_without_gaps() -> None:
    assert [each.number for each in all_migrations()] == list(range(1, len(all_migrations()) + 1))


def test_the_error_of_an_unreachable_server_names_the_url_without_the_password() -> None:
    with pytest.raises(StoreUnavailable, match=r"cannot connect to postgresql://ema:\*\*\*@127.0.0.1:1/x: ") as caught:
        migrate("postgresql://ema:s3cret@127.0.0.1:1/x")
    assert "s3cret" not in str(caught.value)


def test_every_table_has_a_primary_key_or_a_full_replica_identity(new_url: str) -> None:
    """Otherwise rows cannot be deleted while tables are published for logical replication, such as to a warehouse."""
    migrate(new_url)
    without_identity = """
        SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('market', 'ema_assets') AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
          AND c.relreplident <> 'f'
          AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
    """
    assert ask(new_url, without_identity) == []
