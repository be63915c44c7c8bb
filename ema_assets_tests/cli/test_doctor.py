"""Tests of `ema-assets doctor`: its checks, its findings, and that it changes nothing."""

import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg2
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus
from dagster._serdes import serialize_value
from dagster_postgres import DagsterPostgresStorage
from packaging.requirements import Requirement

from ema_assets.config import watchlist
from ema_assets.doctor import discovery
from ema_assets.doctor.checks import clock_skew, data_folder, database_server, installed_versions
from ema_assets.doctor.declaration import Check
from ema_assets.model import own_modules
from ema_assets.model.urls import dagster_url, masked_url
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store import diagnosis
from ema_assets.store.database import Database
from ema_assets.store.diagnosis import Server
from ema_assets.store.migrations import all_migrations
from ema_assets_tests.cli.conftest import Run
from ema_assets_tests.cli.shell import DEAD, WATCHLIST, an_up
from ema_assets_tests.conftest import Databases

Found = dict[str, list[tuple[str, str]]]


_SERVER = diagnosis.server


@pytest.fixture(autouse=True)
def vacuuming(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report autovacuum as on. The tests' server has it off, because no test lasts long enough to need it."""
    monkeypatch.setattr(diagnosis, "server", lambda transaction: replace(_SERVER(transaction), has_autovacuum=True))


def examined(run: Run, *arguments: str, **env: str) -> Found:
    """Run the doctor and return level and text of each finding by check. The exit code must match the findings."""
    shown = run("doctor", "--json", *arguments, **env)
    report = json.loads(shown.stdout)
    levels = [each["level"] for each in report["findings"]]
    assert (report["errors"], report["warnings"]) == (levels.count("error"), levels.count("warning"))
    assert shown.exit_code == (1 if report["errors"] else 0), shown.output
    found: Found = {}
    for each in report["findings"]:
        assert bool(each["remedy"]) == (each["level"] != "ok"), each
        found.setdefault(each["check"], []).append((each["level"], each["text"]))
    return found


def levels(found: Found) -> dict[str, set[str]]:
    return {check: {level for level, _ in findings} for check, findings in found.items()}


def ask(url: str, sql: str) -> list[tuple]:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


CELERY = Path(__file__).parents[2] / "deploy" / "celery" / "dagster.yaml"
CHECKS = [
    *(
        "variables",
        "data folder",
        "database",
        "migrations",
        "roles",
        "calendars",
        "clock",
        "watchlist",
        "signals and strategies",
    ),
    *("providers", "dagster.yaml", "dagster tables", "schedules and sensors", "runs", "alerts", "versions", "up"),
]

WITH_DATABASE = ("migrations", "roles", "clock", "dagster tables", "schedules and sensors", "runs")
# This check reports something only if the watchlist has alerts.
WITH_ALERTS = ("alerts",)


def test_all_checks_are_discovered_in_order() -> None:
    found = discovery.discover()
    assert [each.name for each in found] == CHECKS
    assert len({each.place for each in found}) == len(found)


def test_the_page_on_monitoring_lists_all_checks_in_order() -> None:
    page = (Path(__file__).parents[2] / "docs" / "MONITORING.md").read_text(encoding="utf-8")
    table = page.partition("| check | what it looks at |")[2].partition("\n\n")[0]
    named = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]
    assert named == [check.name for check in discovery.discover()]


def test_without_a_running_database_all_other_checks_report_and_nothing_is_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(tmp_path)
    found = examined(run)
    # Without a database, the checks that need one report nothing.
    assert list(found) == [each for each in CHECKS if each not in WITH_DATABASE + WITH_ALERTS]
    assert {check: level for check, level in levels(found).items() if level != {"ok"}} == {
        "database": {"warning"},
        "up": {"warning"},
    }
    assert found["database"] == [("warning", "the embedded PostgreSQL does not run")]
    assert found["watchlist"] == [("ok", f"{tmp_path / 'home/watchlist.toml'}: 3 symbols on 5m, 15m, 30m, 1h, 4h, 1d")]
    assert files(tmp_path) == before
    monkeypatch.setenv("EMA_HOME", str(tmp_path / "new"))
    shown = run("doctor")
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[-1] == "0 errors, 2 warnings."
    assert "the first command that needs it makes it" in shown.stdout
    assert files(tmp_path) == before


def test_each_error_has_its_own_line_and_the_other_checks_report_as_well(run: Run, home: Path) -> None:
    (home / "watchlist.toml").write_text("[[group]]\nsymbls = []")
    shown = run("doctor", EMA_DATABASE_URL=DEAD)
    assert shown.exit_code == 1
    assert "geheim" not in shown.output
    assert "ge%21heim" not in shown.output
    lines = shown.stdout.splitlines()
    (database,) = [line for line in lines if line.startswith("error    database ")]
    assert "cannot connect to postgresql://trader:***@127.0.0.1:9/market" in database
    assert "start the server" in database
    (watched,) = [line for line in lines if line.startswith("error    watchlist ")]
    assert "group 1: unknown key `symbls`" in watched
    assert watched.endswith("correct the file; a running `up` launches nothing until then")
    assert any(line.startswith("ok       versions ") for line in lines)
    assert lines[-1] == "2 errors, 1 warning."


def test_a_misspelt_variable_is_reported_and_one_that_the_watchlist_reads_is_not(run: Run, home: Path) -> None:
    path = home / "watchlist.toml"
    path.write_text(path.read_text() + '[[alert]]\non = ["crossover"]\nto = ["${EMA_HOOK}"]\n')
    found = examined(run, EMA_PROVIDR="yahoo", EMA_HOOK="json://localhost")
    (warning,) = [text for level, text in found["variables"] if level == "warning"]
    assert warning == "`EMA_PROVIDR` is not a variable of ema-assets; did you mean `EMA_PROVIDER`?"


def test_variables_that_kubernetes_sets_for_a_service_are_not_reported_as_misspelt(run: Run) -> None:
    made = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_GRPC", "PORT", "PORT_4000_TCP", "PORT_4000_TCP_ADDR")
    service = {f"EMA_ASSETS_{name}": "tcp://10.96.0.7:4000" for name in made}
    found = examined(run, **service, EMA_ASSETS_PROVIDER="yahoo")
    (warning,) = [text for level, text in found["variables"] if level == "warning"]
    assert warning.startswith("`EMA_ASSETS_PROVIDER` is not a variable of ema-assets")
    assert "EMA_ASSETS_PORT" not in str(found["variables"])


def test_a_configured_watchlist_that_does_not_exist_is_an_error(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    ((level, text),) = examined(run, EMA_WATCHLIST=str(path))["watchlist"]
    assert level == "error"
    assert text.startswith(f"`EMA_WATCHLIST` must be a file, received {path}, which is not there")
    assert not path.exists()


def test_invalid_settings_are_an_error(run: Run) -> None:
    assert examined(run, EMA_PROVIDER="foo")["settings"][0][0] == "error"
    shown = run("doctor", EMA_CLOCK="yesterday")
    assert shown.exit_code == 1
    assert shown.stdout.startswith("error    settings  `EMA_CLOCK` must be ")


def test_a_check_that_raises_an_exception_is_an_error_and_stops_no_other_check(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_seen: object) -> Iterator[None]:
        raise LookupError("a bug")

    known = [Check("broken", 1, broken), *discovery.discover()[-2:]]  # type: ignore[arg-type]
    monkeypatch.setattr(discovery, "discover", lambda: known)
    found = examined(run)
    assert found["broken"] == [("error", "this could not be looked at: LookupError: a bug")]
    assert list(found) == ["broken", "versions", "up"]


# --- the database -----------------------------------------------------------------------------------------------------


def test_a_database_is_described_and_not_changed(run: Run, databases: Databases, database_url: str) -> None:
    ((version,),) = ask(database_url, "SELECT split_part(current_setting('server_version'), ' ', 1)")
    found = examined(run, EMA_DATABASE_URL=database_url)
    assert levels(found)["database"] == levels(found)["migrations"] == levels(found)["clock"] == {"ok"}
    assert found["database"][0][1].startswith(f"PostgreSQL {version} at ")
    assert ", role ema, " in found["database"][0][1]
    newest = all_migrations()[-1].number
    assert found["migrations"] == [("ok", f"all {newest} migrations are applied")]
    assert found["clock"] == [("ok", "the clocks of this machine and the database server agree")]
    empty = databases.make(migrated=False)
    found = examined(run, EMA_DATABASE_URL=empty)
    assert found["migrations"] == [("warning", f"{newest} of {newest} migrations are to be applied")]
    assert levels(found)["calendars"] == {"ok"}
    assert ask(empty, "SELECT count(*) FROM pg_namespace WHERE nspname IN ('market', 'ema_assets', 'dagster')") == [
        (0,)
    ]
    databases.drop(empty)


def test_tables_of_another_release_of_dagster_are_reported_with_the_remedy(
    run: Run, database_url: str, tmp_path: Path
) -> None:
    assert "dagster tables" not in examined(run, EMA_DATABASE_URL=database_url)
    DagsterPostgresStorage(postgres_url=dagster_url(database_url), should_autocreate_tables=True)
    found = examined(run, EMA_DATABASE_URL=database_url)
    assert found["dagster tables"] == [("ok", "Dagster's tables are those of the installed Dagster")]
    ((newest,),) = ask(database_url, "SELECT version_num FROM dagster.alembic_version")
    # The previous revision, which every allowed release of Dagster knows.
    ask(database_url, "UPDATE dagster.alembic_version SET version_num = 'f495c27d5019'")
    said = run("doctor", EMA_DATABASE_URL=database_url).stdout
    assert f"Dagster's tables are of its revision f495c27d5019, and the installed Dagster has {newest}" in said
    assert f"`DAGSTER_HOME={tmp_path / 'home' / 'dagster'} dagster instance migrate`" in said
    ask(database_url, "UPDATE dagster.alembic_version SET version_num = 'later'")
    ((level, said),) = examined(run, EMA_DATABASE_URL=database_url)["dagster tables"]
    assert (level, "which the installed Dagster does not know" in said) == ("error", True)


def test_a_database_of_a_newer_version_and_an_edited_migration_are_errors(run: Run, database_url: str) -> None:
    ask(database_url, "UPDATE ema_assets.migration SET sha256 = 'x' WHERE number = 1")
    found = examined(run, EMA_DATABASE_URL=database_url)
    assert found["migrations"] == [("error", "0001_baseline.sql was edited after it had been applied")]
    ask(database_url, "INSERT INTO ema_assets.migration (number, name, sha256) VALUES (999, 'future', '')")
    found = examined(run, EMA_DATABASE_URL=database_url)
    assert found["migrations"][0][1].startswith("the database was migrated to 999 by a newer ema-assets")


def test_the_free_connections_decide_the_level_and_versions_of_a_server_are_readable() -> None:
    server = Server(180004, "ema", "UTF8", False, True, True, 147, 140, 10**9, 0.0)
    found = [database_server._connections(replace(server, connections_free=free)).level for free in (20, 19, 3, 2)]
    assert found == ["ok", "warning", "warning", "error"]
    assert (server.version_text, replace(server, version=150020).version_text) == ("18.4", "15.20")


def test_a_server_without_autovacuum_is_a_warning(
    run: Run, databases: Databases, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> list[tuple[str, str]]:
        return [each for each in examined(run, EMA_DATABASE_URL=database_url)["database"] if "vacuum" in each[1]]

    monkeypatch.setattr(diagnosis, "server", _SERVER)
    ((level, text),) = said()
    assert (level, text.partition(":")[0]) == ("warning", "the server does not vacuum by itself")
    databases.execute("ALTER SYSTEM SET autovacuum = on")
    databases.execute("SELECT pg_reload_conf()")
    try:
        assert said() == []
        databases.execute(f"ALTER DATABASE {urlsplit(database_url).path.strip('/')} SET track_counts = off")
        assert len(said()) == 1
    finally:
        databases.execute("ALTER SYSTEM SET autovacuum = off")
        databases.execute("SELECT pg_reload_conf()")


def test_a_read_only_role_is_reported_as_enough_for_the_commands_that_read(
    run: Run, database_url: str, databases: Databases
) -> None:
    for role in ("ema_reader", "ema_metrics"):
        with databases.member(database_url, role) as url:
            found = examined(run, EMA_DATABASE_URL=url)
        assert {level for each in levels(found).values() for level in each} <= {"ok", "warning"}
        (level, text), _ = found["database"]
        assert (level, text.partition(" MB: ")[2]) == ("ok", "read-only role, enough for the commands that read")
        assert found["migrations"][0][0] == "ok"


@pytest.mark.parametrize("is_standby", [True, False], ids=["a standby", "default_transaction_read_only"])
def test_a_read_only_database_is_reported_with_the_cause_and_the_remedy(
    run: Run, databases: Databases, monkeypatch: pytest.MonkeyPatch, *, is_standby: bool
) -> None:
    url, empty = databases.make(), databases.make(migrated=False)
    if is_standby:
        look = diagnosis.server
        monkeypatch.setattr(diagnosis, "server", lambda transaction: replace(look(transaction), is_standby=True))
    else:
        for each in (url, empty):
            databases.execute(f"ALTER DATABASE {urlsplit(each).path[1:]} SET default_transaction_read_only = on")
    what = (
        "a standby, which follows its primary and" if is_standby else "default_transaction_read_only is on, so that it"
    )
    (of_owner, *_) = examined(run, EMA_DATABASE_URL=url)["database"]
    remedy = run("doctor", EMA_DATABASE_URL=url).stdout
    with databases.member(url, "ema_reader") as of:
        (of_reader, *_) = examined(run, EMA_DATABASE_URL=of)["database"]
    (of_nothing, *_) = examined(run, EMA_DATABASE_URL=empty)["database"]
    databases.drop(url)
    databases.drop(empty)
    assert [(level, text.partition(" MB: ")[2]) for level, text in (of_owner, of_reader, of_nothing)] == [
        ("warning", f"{what} can only be read, enough for the commands that read"),
        ("ok", f"{what} can only be read, enough for the commands that read"),
        ("error", f"{what} can only be read, and has no tables yet"),
    ]
    elsewhere = "its primary" if is_standby else "one where that is off"
    assert f"for `up` and everything else that writes, set EMA_DATABASE_URL to {elsewhere}" in remedy


def test_an_unreachable_database_is_reported_with_the_url_from_the_settings(run: Run) -> None:
    ((level, text),) = examined(run, EMA_DATABASE_URL=DEAD)["database"]
    assert (level, text.partition(" failed: ")[0]) == (
        "error",
        f'cannot connect to {masked_url(DEAD)}: connection to server at "127.0.0.1", port {urlsplit(DEAD).port}',
    )


def test_a_user_without_the_right_to_read_is_told_what_to_grant(
    run: Run, database_url: str, databases: Databases
) -> None:
    with databases.member(database_url, "pg_monitor") as url:
        shown = run("doctor", EMA_DATABASE_URL=url)
        found = examined(run, EMA_DATABASE_URL=url)
    assert found["database"][0][1].endswith("the role may neither read nor write the tables")
    assert "to read: GRANT ema_reader TO member; to write, log in as the owner of the schema market" in shown.stdout
    ((level, text),) = found["migrations"]
    assert (level, text.partition("permission denied")[0]) == (
        "error",
        "this could not be looked at: the database or its driver refused: ",
    )
    assert "ComputeError" not in shown.stdout
    assert text.endswith("what writes needs the owner of the database, and what reads a member of ema_reader")
    assert list(found)[-1] == "up"


def test_a_user_of_an_empty_database_needs_the_right_to_create_tables(run: Run, databases: Databases) -> None:
    empty = databases.make(migrated=False)
    with databases.member(empty, "pg_monitor") as url:
        shown = run("doctor", EMA_DATABASE_URL=url)
    databases.drop(empty)
    assert shown.exit_code == 1
    assert "the role may not make tables: let it: GRANT CREATE ON DATABASE … TO member" in shown.stdout


def test_calendars_that_end_soon_are_reported(run: Run, database_url: str) -> None:
    ask(
        database_url,
        """
        INSERT INTO market.instrument (symbol, calendar) VALUES ('A', 'ONE'), ('B', 'TWO'), ('C', 'NONE'), ('D', 'FAR');
        INSERT INTO market.session (calendar, session, open, close, regular_open, regular_close)
        SELECT calendar, day, day, day, day, day FROM (VALUES ('ONE', current_date + 10), ('TWO', current_date - 1),
            ('FAR', current_date + 300)) s(calendar, day)
        """,
    )
    found = examined(run, EMA_DATABASE_URL=database_url)["calendars"]
    assert [(level, text.split(" is known")[0]) for level, text in found] == [
        ("error", "no day of NONE"),
        ("warning", "ONE"),
        ("error", "TWO"),
    ]


# --- files and what is installed --------------------------------------------------------------------------------------


OWN_SIGNAL = """
import polars as pl
from ema_assets.signals.declaration import Column, Signal

SIGNAL = Signal(name="mine", version="1", description="Twice the close", reads={"ohlc": ("close",)},
                columns=(Column("twice", "float8", "Twice"),),
                compute=lambda bars, carried, params: bars.select("symbol", "ts", twice=pl.col("close") * 2))
"""


def test_an_own_signal_file_that_fails_or_never_ends_is_reported(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_modules, "LIMIT_SECONDS", 0.2)
    (home / "signals").mkdir()
    path = home / "signals" / "mine.py"
    path.write_text("import no_such_library\n")
    ((level, text),) = examined(run)["signals and strategies"]
    assert level == "error"
    assert text.startswith(f"{path}: line 1: cannot be imported: ModuleNotFoundError")
    path.write_text("while True:\n    try:\n        pass\n    except Exception:\n        pass\n")
    ((level, text),) = examined(run)["signals and strategies"]
    assert level == "error"
    assert re.fullmatch(re.escape(str(path)) + r": line \d: is not done after 0.2 seconds; is there a loop .*", text)
    assert [each.name for each in (home / "signals").iterdir()] == ["mine.py"]
    path.write_text(OWN_SIGNAL)
    ((_, one),) = examined(run)["signals and strategies"]
    assert one.endswith(" assets, from 1 file of your own")


def test_little_free_disk_space_is_a_warning_and_almost_none_an_error(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(home)
    for free, level in ((1, "error"), (data_folder.TOO_FEW_BYTES, "warning"), (data_folder.FEW_BYTES, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _folder, free=free: usage._replace(free=free))
        assert [found for found, _ in examined(run)["data folder"]] == ["ok", level]


_OWN = """
storage: {custom: {module: ema_assets.defs.storage, class: MarketPostgresStorage}}
run_launcher: {module: ema_assets.defs.launcher, class: StandbyRunLauncher}
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ["ok", "ok"]),
        (CELERY.read_text(encoding="utf-8"), ["ok", "ok"]),
        ("storage: [", ["error"]),
        ("- a list", ["error"]),
        ("storage:\n  sqlite:\n    base_dir: /tmp\n", ["warning", "warning"]),
        ("OURS|max_concurrent_runs: 4|max_concurrent_runs: 100000", ["ok", "warning"]),
        ("OURS|max_concurrent_runs: 4|max_concurrent_runs: -1", ["ok", "ok"]),
        (_OWN, ["ok", "ok"]),
        # Dagster takes the number of runs from these places, too.
        (f"{_OWN}run_queue: {{max_concurrent_runs: 100000}}", ["ok", "warning"]),
        (f"{_OWN}run_coordinator: {{config: {{max_concurrent_runs: 100000}}}}", ["ok", "warning"]),
        (f"{_OWN}run_coordinator: {{config: {{max_concurrent_runs: {{env: SLOTS}}}}}}", ["ok", "warning"]),
    ],
)
def test_an_unreadable_dagster_yaml_is_an_error_and_unsuitable_settings_are_warnings(
    run: Run, home: Path, text: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOTS", "100000")
    if text is not None:
        (home / "dagster").mkdir()
        ours = resources.files("ema_assets").joinpath("dagster.yaml").read_text()
        if text.startswith("OURS"):
            _, old, new = text.split("|")
            assert old in ours
            text = ours.replace(old, new)
        (home / "dagster" / "dagster.yaml").write_text(text)
    found = examined(run)["dagster.yaml"]
    assert [level for level, _ in found] == expected
    assert not any("to -1 standby" in text for _, text in found)


def test_a_missing_or_too_old_package_is_reported() -> None:
    wanted = ["polars>=2", "polars>=999", "no-such-package>=1", 'no-such-extra>=1; extra == "x"']
    found = list(installed_versions.unmet([Requirement(each) for each in wanted]))
    assert found[0].startswith("polars ")
    assert found[0].endswith(" is installed, and >=999 is needed")
    assert found[1:] == ["no-such-package is not installed"]


# --- the clock, providers and `up` ------------------------------------------------------------------------------------


def test_a_clock_is_wrong_only_by_more_than_the_duration_of_the_request_can_explain() -> None:
    def level(theirs: float, before: float, after: float, resolution: float = 0.0) -> str:
        return clock_skew.compared("it", theirs, before, after, resolution).level

    assert level(100.0, 99.0, 101.0) == "ok"
    assert level(100.0, 110.0, 111.0) == "warning"
    assert level(100.0, 60.0, 70.0 - 1) == "error"
    assert level(100.0, 102.4, 102.5, resolution=1.0) == "ok"
    assert level(100.0, 102.6, 102.7, resolution=1.0) == "warning"
    assert clock_skew.compared("it", 100.0, 110.0, 111.0).text == "this machine's clock is 10.0 s ahead of that of it"
    assert clock_skew.compared("it", 100.0, 80.0, 90.0).text == "this machine's clock is 10.0 s behind that of it"


@pytest.fixture
def shut_door() -> Iterator[str]:
    """The URL of a vendor that refuses every key, and whose clock stands still."""

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(401)
            self.send_header("Date", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(b'{"message": "forbidden."}')

        do_HEAD = do_GET  # noqa: N815 - the names are http.server's

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Refuse)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_doctor_checks_that_keys_are_set_and_tries_them_with_online(
    run: Run, shut_door: str, exchange: dict[str, str]
) -> None:
    found = examined(run, EMA_PROVIDER="alpaca")
    assert found["providers"][0][0] == "error"
    assert "APCA_API_KEY_ID and APCA_API_SECRET_KEY" in found["providers"][0][1]
    keys = {"APCA_API_KEY_ID": "k-id", "APCA_API_SECRET_KEY": "k-secret", "EMA_ALPACA_BASE_URL": shut_door}
    found = examined(run, **keys)
    assert found["providers"] == [("ok", "alpaca: keys are set; `--online` asks it")]
    assert "clock" not in found
    shown = run("doctor", "--online", **keys)
    assert shown.exit_code == 1
    assert "k-secret" not in shown.output
    (line,) = [line for line in shown.stdout.splitlines() if " providers " in line]
    assert line.startswith("error    providers ")
    assert "see that the keys are right" in line
    assert "ahead of that of alpaca" in shown.stdout
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = {**keys, "EMA_ALPACA_BASE_URL": f"http://127.0.0.1:{nobody.getsockname()[1]}"}
        ((level, text),) = examined(run, "--online", **dead)["providers"]
    assert (level, text.split(":")[0]) == ("error", "alpaca")
    assert examined(run, **exchange)["providers"] == [("ok", "sandbox: needs no key; `--online` asks it")]
    found = examined(run, "--online", **exchange)
    assert found["providers"] == [("ok", "sandbox: has answered for AAPL")]
    assert found["clock"][1] == ("ok", "the clocks of this machine and sandbox agree")


def test_an_invalid_proxy_is_reported_with_its_variable_and_not_as_a_bug(run: Run, shut_door: str) -> None:
    keys = {"APCA_API_KEY_ID": "K", "APCA_API_SECRET_KEY": "S", "EMA_ALPACA_BASE_URL": "http://data.example.com"}
    wrong = {"http_proxy": "ftp://user:hunter2@proxy.example.com", "no_proxy": "fd00::/8"}
    shown = run("doctor", "--online", **keys, **wrong)
    assert "`http_proxy` must be the URL of a proxy that begins with http, https" in shown.output
    assert "hunter2" not in shown.output
    assert "bug" not in shown.output
    shown = run("doctor", "--online", **keys, http_proxy=shut_door, no_proxy="fd00::/8")
    assert "refused the API key" in shown.output


def test_a_provider_that_runs_do_not_query_is_reported_with_the_time_of_the_next_query(
    run: Run, exchange: dict[str, str], database_url: str
) -> None:
    """The market's time is 2026-11-20 15:00:10."""
    with Database(database_url) as database:
        sync(database, watchlist.parse(WATCHLIST), datetime(2026, 11, 20, 15, tzinfo=UTC))

    def told(until: str, *arguments: str) -> list[tuple[str, str]]:
        ask(
            database_url,
            "INSERT INTO market.provider_state AS p (provider, failures, open_until, last_error) "
            f"VALUES ('sandbox', 7, '{until}', 'sandbox answered 503: no') "
            "ON CONFLICT (provider) DO UPDATE SET open_until = excluded.open_until",
        )
        shown = run("doctor", "--json", *arguments, **exchange, EMA_DATABASE_URL=database_url)
        found = [each for each in json.loads(shown.stdout)["findings"] if each["check"] == "providers"]
        assert [each["level"] for each in found] == ["ok", "warning"]
        return [(each["text"], each["remedy"]) for each in found]

    later = "2026-11-20 15:10:00+00"
    assert told(later)[1] == (
        "sandbox did not answer runs 7 times in a row: sandbox answered 503: no",
        "runs ask it again from 2026-11-20 15:10:00 UTC on",
    )
    assert told(later, "--online") == [
        ("sandbox: has answered for AAPL", ""),
        (
            "sandbox answers now, but did not answer runs 7 times in a row: sandbox answered 503: no",
            "nothing needs to be done: runs ask it again from 2026-11-20 15:10:00 UTC on and fetch what is missing",
        ),
    ]
    assert told("2026-11-20 15:00:00+00", "--online")[1][1] == (
        "nothing needs to be done: runs ask it again at once and fetch what is missing"
    )
    assert ask(database_url, "SELECT failures FROM market.provider_state") == [(7,)], "the doctor writes nothing"


def test_stopped_schedules_and_sensors_are_reported_with_what_waits_for_them(run: Run, database_url: str) -> None:
    """They stay stopped when `up` starts again. Those of other projects and of unused timeframes are not reported."""
    assert "schedules and sensors" not in examined(run, EMA_DATABASE_URL=database_url)
    ask(database_url, "CREATE TABLE dagster.instigators (status text, instigator_body text)")

    def note(name: str, status: InstigatorStatus) -> None:
        location = RegisteredCodeLocationOrigin("ema_assets.definitions")
        origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), name)
        body = serialize_value(InstigatorState(origin, InstigatorType.SENSOR, status))
        ask(database_url, f"INSERT INTO dagster.instigators VALUES ('{status.value}', '{body}')")

    note("refresh_15m", InstigatorStatus.DECLARED_IN_CODE)
    note("theirs", InstigatorStatus.STOPPED)
    note("refresh_2h", InstigatorStatus.STOPPED)
    found = examined(run, EMA_DATABASE_URL=database_url)
    assert found["schedules and sensors"] == [("ok", "none was stopped in the Dagster UI")]
    note("eu__refresh_5m", InstigatorStatus.STOPPED)
    note("sync_watchlist", InstigatorStatus.STOPPED)
    found = examined(run, EMA_DATABASE_URL=database_url)
    assert found["schedules and sensors"] == [
        ("warning", "eu__refresh_5m is stopped: new 5m bars wait for the sweep"),
        (
            "warning",
            "sync_watchlist is stopped: new symbols are not loaded, and no other edit of the watchlist is taken up",
        ),
    ]


def test_a_clock_that_was_set_back_is_an_error_until_the_time_of_the_last_tick(run: Run, database_url: str) -> None:
    ask(database_url, "CREATE TABLE dagster.job_ticks (id serial, timestamp timestamp)")

    def found() -> list[tuple[str, str]]:
        return examined(run, EMA_DATABASE_URL=database_url)["clock"]

    ask(
        database_url,
        "INSERT INTO dagster.job_ticks (timestamp) VALUES ((now() AT TIME ZONE 'UTC') + interval '20 seconds')",
    )
    assert found() == [("ok", "the clocks of this machine and the database server agree")]
    (last,) = ask(
        database_url,
        "INSERT INTO dagster.job_ticks (timestamp) VALUES ((now() AT TIME ZONE 'UTC') + interval '2 hours') "
        "RETURNING to_char(timestamp, 'YYYY-MM-DD HH24:MI:SS')",
    )
    assert found()[1:] == [
        ("error", f"the clock was set back: Dagster evaluates no schedule and no sensor before {last[0]} UTC")
    ]
    # A sensor whose last tick was earlier goes on.
    ask(database_url, "INSERT INTO dagster.job_ticks (timestamp) VALUES (now() AT TIME ZONE 'UTC')")
    assert len(found()) == 2


def test_runs_that_fail_as_a_whole_again_and_again_are_reported(run: Run, database_url: str) -> None:
    assert "runs" not in examined(run, EMA_DATABASE_URL=database_url)
    ask(database_url, "CREATE TABLE dagster.runs (run_id text, status text, end_time double precision)")
    ask(database_url, "CREATE TABLE dagster.run_tags (run_id text, key text, value text)")

    def end(minutes_ago: float, timeframe: str = "5m", status: str = "FAILURE", **tags: str) -> None:
        run_id = str(uuid4())
        ask(
            database_url,
            f"INSERT INTO dagster.runs SELECT '{run_id}', '{status}', extract(epoch FROM now()) - 60 * {minutes_ago}",
        )
        all_tags = {"ema_assets/timeframe": timeframe, "ema_assets/lane": "live", "dagster/defer_asset_events": "true"}
        for key, value in (all_tags | tags).items():
            ask(database_url, f"INSERT INTO dagster.run_tags VALUES ('{run_id}', '{key}', '{value}')")

    def reported() -> list[tuple[str, str]]:
        found = examined(run, EMA_DATABASE_URL=database_url)["runs"]
        return [(level, re.sub(r"at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC$", "at <time>", text)) for level, text in found]

    nothing = [("ok", "none fails as a whole again and again")]
    for minutes_ago in (61, 30, 20):
        end(minutes_ago)
    # A series has failed by itself, another timeframe has crashed, and so has a run that a person has launched.
    for each in ({"failed": "AAPL|5m"}, {"timeframe": "1d"}, {"dagster/defer_asset_events": ""}):
        end(40, **each)
    assert reported() == nothing
    end(10)
    crashed = [("warning", "5m (live): the last 3 runs failed as a whole, the newest at <time>")]
    assert reported() == crashed
    end(15, timeframe="1d", status="SUCCESS")
    end(9, **{"ema_assets/lane": "background"}, status="SUCCESS")
    assert reported() == crashed
    end(8, status="SUCCESS")
    assert reported() == nothing


def test_an_up_whose_ui_does_not_answer_is_an_error(run: Run, home: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        ui = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with an_up(home, 4711, provider="sandbox", ui=ui):
            assert examined(run)["up"] == [
                ("error", f"`ema-assets up` runs (process 4711), UI at {ui}, which does not answer")
            ]
    with an_up(home, 4711):
        assert examined(run)["up"] == [("ok", "`ema-assets up` is starting or stopping")]


def test_a_watchlist_without_symbols_is_an_error(run: Run, home: Path) -> None:
    path = home / "watchlist.toml"
    path.write_text(WATCHLIST.replace('"AAPL", "MSFT"', "").replace('"BTC-USD"', ""))
    said = f'{path}: lists no symbol; add a `[[group]]` with `symbols = ["AAPL"]`'
    assert examined(run)["watchlist"] == [("error", said)]
