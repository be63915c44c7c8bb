"""Tests of backup and restore with a real server: equal rows, all or nothing, and no visible password."""

import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

import psycopg2
import pytest

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.errors import ConfigurationError, StoreError, StoreUnavailable
from ema_assets.model.symbols import Instrument
from ema_assets.operations import refresh_performance
from ema_assets.refresh.plan import closed_bars
from ema_assets.runtime.postgres import archives, cluster
from ema_assets.store import ledger, migrations
from ema_assets.store.database import Database
from ema_assets.store.migrations import all_migrations
from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.cli.shell import an_up, with_password
from ema_assets_tests.conftest import Databases
from ema_assets_tests.core import CORE
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, utc
from ema_assets_tests.timeframes import FETCHED

OURS = ("market", "results", "ema_assets")
Rows = dict[str, list[tuple[str]]]


def ask(url: str, sql: str) -> list[tuple]:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


def everything(url: str, *schemas: str, leaving_out: str = "'{}'") -> Rows:
    """Return all rows of tables and materialized views as text, with exact floats, and the definitions of views."""
    found: Rows = {}
    for name, kind, columns in ask(
        url,
        f"""
        SELECT format('%I.%I', n.nspname, c.relname), c.relkind,
               string_agg(format('%I', a.attname), ', ' ORDER BY a.attname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE n.nspname = ANY (ARRAY{list(schemas)}) AND c.relkind IN ('r', 'p', 'm', 'v')
          AND a.attname <> ALL ({leaving_out}::text[])
        GROUP BY 1, 2
        """,
    ):
        found[name] = (
            ask(url, f"SELECT pg_get_viewdef('{name}'::regclass)")
            if kind == "v"
            else ask(url, f"SELECT ROW({columns})::text FROM {name} ORDER BY 1")
        )
    return found


@pytest.fixture(scope="module")
def filled(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with bars and all results, rows with difficult texts, and tables like Dagster's."""
    calendars = {"AAPL": "XNYS", "BTC-USD": "24/7"}
    watched = Watchlist(
        tuple(Instrument(*each) for each in calendars.items()), dict(zip(FETCHED, (3, 60), strict=True)), **CORE
    )
    source = MemoryExchange(
        *(
            bars_on(calendar, symbol, timeframe, first, date(2026, 11, 20), seed)
            for seed, (symbol, calendar) in enumerate(calendars.items())
            for timeframe, first in zip(FETCHED, (date(2026, 11, 17), date(2026, 9, 14)), strict=True)
        )
    )
    url = databases.make()
    with Database(url) as database:
        refresh(database, watched, source, utc("2026-11-20 21:30"))
        refresh_performance.refresh(database)
    ask(
        url,
        r"""
        INSERT INTO market.bar_rejected (symbol, timeframe, close, reason, source)
        VALUES ('AAPL', '5m', 'NaN', E'tab\t, line\n, \\ and \\. and "quotes" and ''é''', 'file'),
               ('AAPL', '5m', '-Infinity', '', '\N'), ('AAPL', '5m', 0.1::float8 + 0.2, 'x', 'y');
        """,
    )
    ask(url, "UPDATE market.series_state SET recorded_at = now(), recorded_event = 7 WHERE timeframe = '5m'")
    ask(
        url,
        """
        CREATE TABLE dagster.runs (id bigserial PRIMARY KEY, run_id text);
        CREATE TABLE dagster.event_logs (id bigserial PRIMARY KEY, event text);
        INSERT INTO dagster.runs (run_id) VALUES ('one');
        INSERT INTO dagster.event_logs (event) SELECT repeat('e', n) FROM generate_series(1, 50) n;
        """,
    )
    yield url
    databases.drop(url)


@pytest.fixture
def empty_url(databases: Databases) -> Iterator[str]:
    url = databases.make(migrated=False)
    yield url
    databases.drop(url)


@pytest.fixture(scope="module")
def archive(filled: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup without Dagster's tables."""
    path = tmp_path_factory.mktemp("archives") / "market.dump"
    archives.back_up(filled, path)
    return path


def test_a_restored_database_equals_the_original_with_dagsters_tables(
    run: Run, filled: str, empty_url: str, tmp_path: Path
) -> None:
    url, password = with_password(filled)
    path = tmp_path / "everything.dump"
    made = run("backup", str(path), "--with-dagster", EMA_DATABASE_URL=url)
    assert made.exit_code == 0, made.output
    assert "with Dagster's runs and events" in made.stdout
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.glob("everything*")] == ["everything.dump"]
    target, _ = with_password(empty_url)
    restored = run("restore", str(path), EMA_DATABASE_URL=target)
    assert restored.exit_code == 0, restored.output
    assert password not in made.output + restored.output
    before, after = (everything(each, *OURS, "dagster") for each in (filled, empty_url))
    assert len(before["market.ohlc"]) > 1000
    assert len(before["market.ema_signals"]) > 1000
    assert len(before["dagster.event_logs"]) == 50
    assert before.keys() == after.keys()
    assert [name for name, rows in before.items() if rows != after[name]] == []
    # Sequences continue from their last values, and the tables can be written.
    assert ask(empty_url, "INSERT INTO dagster.event_logs (event) VALUES ('new') RETURNING id") == [(51,)]
    assert migrations.migrate(empty_url) == []
    assert ask(empty_url, "SELECT has_table_privilege('ema_reader', 'results.bars', 'SELECT')") == [(True,)]


@pytest.mark.broad
def test_without_dagsters_tables_all_series_must_be_reported_to_dagster_again(
    filled: str, empty_url: str, archive: Path
) -> None:
    done = archives.restore(empty_url, archive)
    assert done.archive == archives.Archive(has_dagster=False, migration=all_migrations()[-1].number)
    (known,) = ask(filled, "SELECT count(*) FROM market.series_state WHERE recorded_at IS NOT NULL")[0]
    assert 0 < done.series_to_record == known
    told = "recorded_at, recorded_revision, recorded_event, recorded_first_event"
    assert ask(empty_url, f"SELECT count(*) FROM market.series_state WHERE num_nonnulls({told}) > 0") == [(0,)]
    before, after = (everything(each, *OURS, leaving_out=f"'{{{told}}}'") for each in (filled, empty_url))
    assert before == after
    assert ask(empty_url, "SELECT to_regclass('dagster.runs')::text") == [(None,)]
    # A run reports its own results at its end, so only older results count as stale.
    ask(empty_url, "UPDATE market.series_state SET computed_at = computed_at - interval '1 hour'")
    with Database(empty_url) as database, database.transaction() as transaction:
        closed = closed_bars(transaction, utc("2026-11-20 21:30"))
        stale = ledger.stale(transaction, closed, utc("2026-11-20 21:30"))
    ((computed,),) = ask(
        empty_url, "SELECT count(*) FROM market.series_state WHERE computed_at IS NOT NULL AND dirty_from IS NULL"
    )
    assert stale.filter(reason="not recorded").height == computed > 0


def test_data_is_replaced_only_with_the_option_and_a_failed_restore_changes_nothing(
    databases: Databases, filled: str, archive: Path, tmp_path: Path, run: Run, refused: Refused
) -> None:
    url = databases.make(like=filled)
    ask(url, "DELETE FROM market.bar_rejected; CREATE TABLE market.mine (a int); INSERT INTO dagster.runs VALUES (9)")
    before = everything(url, *OURS, "dagster")
    assert "holds data, which a restore would delete; say `--replace`" in refused(
        "restore", str(archive), EMA_DATABASE_URL=url
    )
    # The end of the archive is missing: the first tables are read, then there is an error.
    broken = tmp_path / "broken.dump"
    whole = archive.read_bytes()
    broken.write_bytes(whole[: len(whole) * 2 // 3])
    said = refused("restore", str(broken), "--replace", EMA_DATABASE_URL=url)
    assert said.startswith(f"{broken} was not restored, and nothing was changed: ")
    ask(url, "CREATE VIEW public.of_mine AS SELECT count(*) FROM market.ohlc")
    said = refused("restore", str(archive), "--replace", EMA_DATABASE_URL=url)
    assert said == "views of yours read what would be dropped; drop them first: public.of_mine"
    ask(url, "DROP VIEW public.of_mine")
    assert everything(url, *OURS, "dagster") == before
    restored = run("restore", str(archive), "--replace", EMA_DATABASE_URL=url)
    assert (restored.exit_code, "watchlist" in restored.stdout) == (0, False)
    Path("home/watchlist.toml").rename("home/kept.toml")
    restored = run("restore", str(archive), "--replace", EMA_DATABASE_URL=url)
    Path("home/kept.toml").rename("home/watchlist.toml")
    assert "home/watchlist.toml, or `up` writes a default.\n" in restored.stdout
    assert len(everything(url, "market")["market.bar_rejected"]) == 3
    # Tables that are not in the archive: one in our schema is dropped with it, and Dagster's are kept.
    assert "market.mine" not in everything(url, "market")
    assert len(everything(url, "dagster")["dagster.runs"]) == 2
    databases.drop(url)


def test_a_restore_that_loses_the_database_after_the_archive_was_loaded_says_so_and_how_views_were_made(
    databases: Databases, filled: str, archive: Path, refused: Refused, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = databases.make(like=filled)
    ask(url, "CREATE VIEW results.mine AS SELECT symbol FROM results.bars")
    with monkeypatch.context() as patched:
        patched.setattr(
            "ema_assets.store.roles.grant", lambda _: ask(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()")
        )  # fmt: skip
        said = refused("restore", str(archive), "--replace", EMA_DATABASE_URL=url)
    assert said.startswith(f"{archive} was restored, but what follows a restore was not finished: the connection to ")
    assert (
        "; restore it once more, with `--replace`. Views of yours may be missing: CREATE VIEW results.mine AS" in said
    )
    assert run("restore", str(archive), "--replace", EMA_DATABASE_URL=url).exit_code == 0
    databases.drop(url)


def test_a_users_views_in_our_schemas_are_kept_by_a_restore_or_printed(
    databases: Databases, filled: str, archive: Path, run: Run
) -> None:
    url = databases.make(like=filled)
    ask(
        url,
        """
        CREATE TABLE market.mine (a int);
        CREATE VIEW results.last_day AS SELECT symbol, max(ts) AS ts FROM results.bars GROUP BY 1;
        COMMENT ON VIEW results.last_day IS 'for the report';
        CREATE VIEW results.of_mine AS SELECT a FROM market.mine;
        """,
    )
    restored = run("restore", str(archive), "--replace", EMA_DATABASE_URL=url)
    assert restored.exit_code == 0, restored.output
    assert ask(url, "SELECT count(*) FROM results.last_day") == [(2,)]
    assert ask(url, "SELECT obj_description('results.last_day'::regclass)") == [("for the report",)]
    said = " ".join(restored.stderr.split())
    assert said.startswith("the view results.of_mine of yours reads what has changed and cannot be made again: ")
    assert said.endswith("It was made by: CREATE VIEW results.of_mine AS SELECT a FROM market.mine")
    databases.drop(url)


def test_an_impossible_backup_or_restore_is_an_error_of_one_sentence(
    databases: Databases,
    filled: str,
    archive: Path,
    empty_url: str,
    tmp_path: Path,
    refused: Refused,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = tmp_path / "text.dump"
    text.write_text("no archive")
    foreign = tmp_path / "foreign.dump"
    ask(empty_url, "CREATE SCHEMA market; CREATE TABLE market.other (a int)")
    archives._run(cluster.programs() / "pg_dump", ["--format=custom", f"--file={foreign}"], empty_url)
    assert refused("backup", str(text), EMA_DATABASE_URL=filled) == (
        f"{text} exists; choose another file, or say `--overwrite`"
    )
    nowhere = tmp_path / "none" / "new.dump"
    assert refused("backup", str(nowhere), EMA_DATABASE_URL=filled) == (
        f"{nowhere} cannot be written: there is no folder {nowhere.parent}"
    )
    assert refused("backup", "--overwrite", "/dev/null", EMA_DATABASE_URL=filled).startswith("/dev/null is not a file")
    assert Path("/dev/null").is_char_device()
    assert refused("backup", str(tmp_path / "new.dump"), EMA_DATABASE_URL=empty_url).endswith(
        "holds nothing of ema-assets"
    )
    assert refused("restore", str(text), EMA_DATABASE_URL=empty_url).startswith(
        f"{text} is not a backup of ema-assets: "
    )
    assert "no migration of ours is in it" in refused("restore", str(foreign), EMA_DATABASE_URL=empty_url)
    assert "there is no such file" in refused("restore", str(tmp_path / "none"), EMA_DATABASE_URL=empty_url)
    with an_up(home, 4711):
        assert "`ema-assets up` runs on" in refused("restore", str(archive), EMA_DATABASE_URL=empty_url)
    with monkeypatch.context() as patches:
        patches.setattr(archives, "all_migrations", lambda: all_migrations()[:-1])
        assert "written by a newer ema-assets" in refused("restore", str(archive), EMA_DATABASE_URL=empty_url)
    with monkeypatch.context() as patches:
        patches.setattr(archives, "_LOCK_WAIT_MILLISECONDS", 1)
        locked = databases.make(like=filled)
        with closing(psycopg2.connect(locked)) as other, other.cursor() as cursor:
            cursor.execute("LOCK TABLE market.instrument")
            with pytest.raises(StoreError, match="pg_dump could not read .*statement timeout"):
                archives.back_up(locked, tmp_path / "locked.dump")
        databases.drop(locked)
    assert not list(tmp_path.glob("locked.dump*"))
    with pytest.raises(StoreUnavailable):
        archives.back_up("postgresql://ema:geheim@127.0.0.1:1/x", tmp_path / "dead.dump")


def test_a_password_is_passed_to_programs_in_the_environment_and_not_in_an_argument(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("APCA_API_SECRET_KEY", "a-key")
    monkeypatch.setenv("PGPASSWORD", "another")
    monkeypatch.setenv("PGPASSFILE", "/a/passfile")
    for url in (
        "postgresql://ema:ge%21h%40im@127.0.0.1:5/x?sslmode=disable",
        "postgresql://ema@127.0.0.1:5/x?sslmode=disable&password=ge%21h%40im",
    ):
        arguments, env = archives._called(url)
        assert arguments == ["--dbname=postgresql://ema@127.0.0.1:5/x?sslmode=disable"]
        assert env["PGPASSWORD"] == "ge!h@im"
        assert env["PGPASSFILE"] == "/a/passfile"
        assert "APCA_API_SECRET_KEY" not in env
    assert "PGPASSWORD" not in archives._called("postgresql://ema@127.0.0.1:5/x?passfile=/a/b")[1]
    with pytest.raises(ConfigurationError, match="sslpassword"):
        archives._called("postgresql://ema@127.0.0.1:5/x?sslpassword=geheim")


def test_statements_that_the_server_may_not_know_are_left_out(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    of_its_server = b"ALTER TABLE ONLY market.wma_5m ALTER COLUMN wma_30 SET (pg_attver=7100031632);\n"
    set_by_a_user = b"ALTER TABLE ONLY market.wma_5m ALTER COLUMN wma_30 SET (n_distinct=5);\n"
    rows = b"COPY x\n" + archives._UNKNOWN_BELOW_17 + of_its_server
    source.write_bytes(b"--\n" + archives._UNKNOWN_BELOW_17 + of_its_server + set_by_a_user + rows)
    for version, kept in ((150_020, b""), (180_004, archives._UNKNOWN_BELOW_17)):
        with source.open("rb") as reading, target.open("wb") as writing:
            archives._copy(reading, writing, version)
        assert target.read_bytes() == b"--\n" + kept + set_by_a_user + rows


def test_a_server_that_is_newer_than_all_installed_programs_is_an_error() -> None:
    assert archives._folder(cluster.version_of(cluster.programs()) * 10_000 + 4) == cluster.programs()
    with pytest.raises(StoreError, match="no pg_dump for PostgreSQL 99: install .* postgresql-client-99"):
        archives._folder(990_000)


def test_a_backup_to_a_link_is_written_to_its_target(filled: str, tmp_path: Path, run: Run) -> None:
    """For example, the link may lead to another disk."""
    target, link = tmp_path / "target.dump", tmp_path / "link.dump"
    target.write_text("old")
    link.symlink_to(target)
    done = run("backup", "--overwrite", str(link), EMA_DATABASE_URL=filled)
    assert done.exit_code == 0, done.output
    assert link.is_symlink()
    assert target.read_bytes().startswith(b"PGDMP")


def test_a_user_who_may_not_create_or_drop_schemas_is_told_how_to_get_the_right(
    archive: Path, refused: Refused, databases: Databases, empty_url: str
) -> None:
    name = empty_url.partition("?")[0].rpartition("/")[2]
    with databases.member(empty_url, "pg_monitor") as url:
        sentence = refused("restore", str(archive), EMA_DATABASE_URL=url)
    assert sentence == (
        f"{archive} was not restored, and nothing was changed: permission denied for database {name}; a restore makes "
        "schemas, and this user may not: log in as the owner of the database, or let it: GRANT CREATE ON DATABASE "
        f"{name} TO member"
    )
    owned = databases.make()
    with databases.member(owned, "ema_reader") as url:
        sentence = refused("restore", str(archive), "--replace", EMA_DATABASE_URL=url)
    databases.drop(owned)
    assert sentence.endswith(
        "must be owner of schema results; a restore drops the schemas that are there, which only their owner may: log "
        "in as that user"
    )


@pytest.mark.broad
def test_a_database_that_quotes_all_identifiers_can_be_migrated_refreshed_and_restored(
    databases: Databases, tmp_path: Path, run: Run
) -> None:
    url = databases.make(migrated=False)
    name = url.partition("?")[0].rpartition("/")[2]
    ask(url, f"ALTER DATABASE {name} SET quote_all_identifiers = on")
    assert migrations.migrate(url)
    watched = Watchlist((Instrument("BTC-USD", "24/7"),), dict(zip(FETCHED, (3, 60), strict=True)), **CORE)
    source = MemoryExchange(
        *(
            bars_on("24/7", "BTC-USD", timeframe, first, date(2026, 11, 20), 1)
            for timeframe, first in zip(FETCHED, (date(2026, 11, 17), date(2026, 9, 14)), strict=True)
        )
    )
    with Database(url) as database:
        refresh(database, watched, source, utc("2026-11-20 21:30"))
        ask(url, "CREATE VIEW results.mine AS SELECT symbol, ts, ema_9 FROM results.signals")
        # Tables and views are adopted again, while the user's view reads them.
        refresh(database, replace(watched, signals_off=()), source, utc("2026-11-20 21:35"))
        refresh(database, watched, source, utc("2026-11-20 21:35"))
    before = everything(url, *OURS)
    assert before['"results"."mine"']
    file = tmp_path / "quoted.dump"
    assert run("backup", str(file), EMA_DATABASE_URL=url).exit_code == 0
    assert run("restore", str(file), "--replace", EMA_DATABASE_URL=url).exit_code == 0
    assert everything(url, *OURS) == before
    databases.drop(url)
