"""Tests of the embedded PostgreSQL, with real servers in temporary folders."""

import errno
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import adbc_driver_postgresql.dbapi as adbc
import polars as pl
import psycopg2
import pytest
import sqlalchemy

from ema_assets.model.errors import ConfigurationError, EmbeddedServerError
from ema_assets.model.urls import without_libpq_settings
from ema_assets.runtime import processes
from ema_assets.runtime.postgres import cluster, identity, postmaster, server_files
from ema_assets.runtime.postgres.launch import is_free
from ema_assets.runtime.postgres.server import EmbeddedServer, read_running
from ema_assets_tests.waiting import wait_until

ROOT = Path(postmaster.__file__).parents[3]
NOBODY = pwd.getpwnam("nobody")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
with_proc = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def ask(url: str, sql: str) -> str:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return str(cursor.fetchone()[0])


def execute(url: str, sql: str) -> None:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql)


def password_of(server: EmbeddedServer) -> str:
    return (server.folder / "passfile").read_text().strip().rpartition(":")[2]


def pid_of(server: EmbeddedServer) -> int:
    pid = server.pid
    assert pid is not None
    return pid


def wait_until_dead(pid: int) -> None:
    wait_until(lambda: processes.read(pid) is None, "the end of a process", poll_seconds=0.01)


def processes_in(folder: Path) -> list[int]:
    """Return the live processes whose current folder is `folder`: all processes of a server with that data folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").samefile(folder):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server for tests that do not stop it. The name of its folder has spaces, a quote and a plus."""
    with EmbeddedServer(tmp_path_factory.mktemp("data") / "a trader's + folder" / "postgres") as server:
        yield server


@pytest.fixture
def new(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server that was never started and has no folder. It is stopped after the test."""
    server = EmbeddedServer(tmp_path / "postgres")
    yield server
    server.stop(force=True)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose server ran once. Copying it takes a tenth of the time of initdb."""
    folder = tmp_path_factory.mktemp("stopped") / "postgres"
    with EmbeddedServer(folder):
        return folder


@pytest.fixture
def server(stopped: Path, new: EmbeddedServer) -> EmbeddedServer:
    """A server that has data and is not running. It is stopped after the test."""
    shutil.copytree(stopped, new.folder)
    (new.folder / "port").unlink()
    return new


@pytest.mark.broad
def test_psycopg2_logs_in(running: EmbeddedServer) -> None:
    assert ask(running.url, "select current_user || '@' || current_database()") == "ema@ema"


@pytest.mark.broad
def test_sqlalchemy_logs_in(running: EmbeddedServer) -> None:
    url = running.url.replace("postgresql://", "postgresql+psycopg2://", 1)
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("select 1")).scalar() == 1


@pytest.mark.broad
def test_sqlalchemy_logs_in_with_a_search_path_and_a_rendered_url(running: EmbeddedServer) -> None:
    text = running.url.replace("postgresql://", "postgresql+psycopg2://", 1) + "&options=-csearch_path%3Ddagster"
    url = sqlalchemy.make_url(sqlalchemy.make_url(text).render_as_string(hide_password=False))
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("show search_path")).scalar() == "dagster"


def test_adbc_logs_in(running: EmbeddedServer) -> None:
    with adbc.connect(running.url) as connection, connection.cursor() as cursor:
        cursor.execute("select 1 as one")
        assert pl.DataFrame(cursor.fetch_arrow())["one"].to_list() == [1]


def test_psql_logs_in(running: EmbeddedServer) -> None:
    result = subprocess.run(
        [cluster.programs() / "psql", "-XAtw", running.url, "-c", "select 1"],
        capture_output=True,
        text=True,
        env={"PATH": os.defpath},
        check=True,
    )
    assert result.stdout == "1\n"


def test_a_login_without_the_password_is_refused(running: EmbeddedServer) -> None:
    with pytest.raises(psycopg2.OperationalError, match="no password supplied"):
        psycopg2.connect(running.url.partition("?")[0] + "?passfile=/nowhere")


def test_the_password_is_in_one_private_file_and_nowhere_else(running: EmbeddedServer) -> None:
    password = password_of(running)
    assert len(password) >= 32
    assert (running.folder / "passfile").stat().st_mode & 0o777 == 0o600
    assert password not in running.url
    for path in running.folder.rglob("*"):
        if path.is_file() and path.name != "passfile":
            assert password.encode() not in path.read_bytes(), path


@with_proc
def test_the_password_is_in_no_argument_or_environment_of_a_server_process(running: EmbeddedServer) -> None:
    password = password_of(running).encode()
    pids = processes_in(running.folder / "data")
    assert len(pids) > 3
    for pid in pids:
        process = Path(f"/proc/{pid}")
        assert password not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()


def test_settings_of_libpq_that_would_override_the_url_are_removed_from_the_environment(
    running: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "of another server")
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(running.url)
    assert running.is_running()
    cleaned = without_libpq_settings({"PGPASSWORD": "x", "PGHOSTADDR": "10.0.0.1", "PGHOST": "h", "HOME": "/h"})
    assert cleaned == {"PGHOST": "h", "HOME": "/h"}


def test_the_server_listens_on_the_loopback_address_only(running: EmbeddedServer) -> None:
    assert ask(running.url, "show listen_addresses") == "127.0.0.1"
    assert ask(running.url, "show unix_socket_directories") == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fsync", "on"),
        ("jit", "off"),
        ("shared_buffers", "128MB"),
        ("max_connections", "150"),
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
        ("TimeZone", "UTC"),
        ("data_checksums", "on"),
    ],
)
def test_the_server_has_the_settings_that_the_store_relies_on(running: EmbeddedServer, name: str, value: str) -> None:
    shown = "select datcollate from pg_database where datname = 'ema'" if name == "lc_collate" else f"show {name}"
    assert ask(running.url, shown) == value


@with_proc
def test_the_server_has_its_own_session_and_no_inherited_files(running: EmbeddedServer) -> None:
    pid = pid_of(running)
    assert os.getsid(pid) == pid
    assert Path(f"/proc/{pid}/fd/0").readlink() == Path("/dev/null")
    opened = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    ours = ("/dev/null", "pipe:", "socket:", "anon_inode:", str(running.folder))
    assert [target for target in opened if not target.startswith(ours)] == []


def test_a_second_server_of_a_folder_attaches_and_its_stop_does_not_stop_the_first(running: EmbeddedServer) -> None:
    with EmbeddedServer(running.folder) as second:
        assert (second.owned, running.owned) == (False, True)
        assert (second.pid, second.url) == (running.pid, running.url)
    assert running.is_running()


def test_a_second_server_with_another_port_is_refused_with_the_port_in_use(running: EmbeddedServer) -> None:
    with pytest.raises(EmbeddedServerError, match=r"`port` must be \d+ .* received 1025"):
        EmbeddedServer(running.folder, port=1025).start()


def test_a_copy_of_the_folder_of_a_running_server_counts_as_not_running(
    running: EmbeddedServer, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    (copy / "data").mkdir(parents=True, mode=0o700)
    shutil.copy(running.folder / "data" / "postmaster.pid", copy / "data")
    shutil.copy(running.folder / "passfile", copy)
    assert read_running(copy) is None


def test_reading_or_stopping_a_folder_without_a_server_creates_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    assert read_running(folder) is None
    EmbeddedServer(folder).stop(force=True)
    assert not folder.exists()
    with pytest.raises(EmbeddedServerError, match="no PostgreSQL is running"):
        _ = EmbeddedServer(folder).url


@pytest.mark.broad
def test_a_stop_keeps_the_data_and_the_next_start_uses_the_same_port(server: EmbeddedServer) -> None:
    server.start()
    url = server.url
    execute(url, "create table bar as select 42 as close")
    server.stop()
    assert (server.is_running(), server.owned, read_running(server.folder)) == (False, False, None)
    server.start()
    assert server.url == url == read_running(server.folder)
    assert ask(url, "select close from bar") == "42"


@pytest.mark.broad
def test_on_started_receives_the_pid_before_the_server_is_ready_and_only_when_it_is_started(
    server: EmbeddedServer,
) -> None:
    told = []
    server.start(lambda pid: told.append((pid, read_running(server.folder))))
    EmbeddedServer(server.folder).start(lambda pid: told.append((pid, None)))
    assert told == [(server.pid, None)]


@pytest.mark.broad
def test_read_running_returns_no_url_until_the_first_start_is_complete(server: EmbeddedServer) -> None:
    server.start()
    url = server.url
    (server.folder / "port").unlink()
    assert server.is_running()
    assert read_running(server.folder) is None
    EmbeddedServer(server.folder).start()
    assert read_running(server.folder) == url


@pytest.mark.broad
def test_a_start_chooses_another_port_when_the_last_one_is_taken(server: EmbeddedServer) -> None:
    server.start()
    port = int((server.folder / "port").read_text())
    server.stop()
    with socket.create_server(("127.0.0.1", port)):
        server.start()
        assert f":{port}/" not in server.url
        assert ask(server.url, "select 1") == "1"


@pytest.mark.parametrize("port", [-1, 0, 65_536, 99_999_999])
def test_a_number_in_a_damaged_file_that_is_no_port_is_not_free(port: int) -> None:
    assert not is_free(port)


def test_a_configured_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(EmbeddedServerError, match=f"`port` {port} is taken"):
            EmbeddedServer(tmp_path / "postgres", port=port).start()


def test_a_killed_server_recovers_what_was_committed(server: EmbeddedServer) -> None:
    server.start()
    execute(server.url, "create table bar as select 42 as close")
    pid = pid_of(server)
    os.kill(pid, signal.SIGKILL)
    wait_until_dead(pid)
    assert not server.is_running()
    server.start()
    assert pid_of(server) != pid
    assert server.owned
    assert ask(server.url, "select close from bar") == "42"


def test_a_leftover_pid_file_with_the_pid_of_another_program_does_not_count_as_a_server(server: EmbeddedServer) -> None:
    server.start()
    pid = pid_of(server)
    os.kill(pid, signal.SIGKILL)
    wait_until_dead(pid)
    with subprocess.Popen(["sleep", "600"], cwd=server.folder / "data") as other:
        path = server.folder / "data" / "postmaster.pid"
        path.write_text(path.read_text().replace(f"{pid}\n", f"{other.pid}\n", 1))
        assert not server.is_running()
        server.start()
        assert pid_of(server) not in (pid, other.pid)
        assert ask(server.url, "select 1") == "1"
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("text", ["", "not a pid\n"])
def test_a_damaged_pid_file_does_not_prevent_the_start(server: EmbeddedServer, text: str) -> None:
    server.start()
    server.stop()
    (server.folder / "data" / "postmaster.pid").write_text(text)
    server.start()
    assert ask(server.url, "select 1") == "1"


@pytest.mark.broad
def test_an_interrupted_first_start_is_repeated_from_the_beginning(new: EmbeddedServer) -> None:
    (new.folder / "data.partial" / "base").mkdir(parents=True)
    (new.folder / "passfile").write_text("127.0.0.1:*:*:ema:of-the-first-try\n")
    new.start()
    assert ask(new.url, "select 1") == "1"
    assert not (new.folder / "data.partial").exists()


@pytest.mark.broad
def test_processes_that_start_at_the_same_time_share_one_server(new: EmbeddedServer) -> None:
    code = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from ema_assets.runtime.postgres.server import EmbeddedServer
        server = EmbeddedServer(Path(sys.argv[1]))
        server.start()
        print(server.pid, server.owned, server.url)
        """
    )
    starters = [
        subprocess.Popen([sys.executable, "-c", code, new.folder], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(3)
    ]
    said = [starter.communicate(timeout=180)[0].split() for starter in starters]
    assert {(pid, url) for pid, _, url in said} == {(str(new.pid), new.url)}
    assert sorted(owned for _, owned, _ in said) == ["False", "False", "True"]


def test_a_server_that_another_object_has_started_is_stopped_only_by_force(server: EmbeddedServer) -> None:
    server.start()
    other = EmbeddedServer(server.folder)
    other.stop()
    assert server.is_running()
    other.stop(force=True)
    assert not server.is_running()


def test_a_stop_ends_open_transactions(server: EmbeddedServer) -> None:
    server.start()
    with closing(psycopg2.connect(server.url)) as connection, connection.cursor() as cursor:
        cursor.execute("create table bar (close float8)")
        server.stop()
    assert not server.is_running()
    said = "".join(path.read_text() for path in (server.folder / "log").iterdir())
    assert "received fast shutdown request" in said
    assert "immediate shutdown" not in said


def test_a_server_that_does_not_start_reports_the_reason(server: EmbeddedServer) -> None:
    server.start()
    server.stop()
    (server.folder / "data" / "postgresql.auto.conf").write_text("shared_buffers = 'much'\n")
    with pytest.raises(EmbeddedServerError, match='(?s)exit code 1.*invalid value for parameter "shared_buffers"'):
        server.start()
    assert not server.is_running()


@pytest.mark.broad
def test_a_start_without_a_passfile_fails_with_that_reason(server: EmbeddedServer) -> None:
    server.start()
    server.stop()
    (server.folder / "passfile").unlink()
    with pytest.raises(EmbeddedServerError, match="passfile is missing"):
        server.start()
    assert not server.is_running()
    if sys.platform == "linux":
        assert processes_in(server.folder / "data") == []


def test_data_of_another_postgresql_version_is_refused(new: EmbeddedServer) -> None:
    (new.folder / "data").mkdir(parents=True)
    (new.folder / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedServerError, match="made by PostgreSQL 17, and this one is .* `EMA_POSTGRES_BIN`"):
        new.start()
    assert [(path.name, path.read_text()) for path in (new.folder / "data").iterdir()] == [("PG_VERSION", "17\n")]


def _programs_that_say(folder: Path, version: str) -> Path:
    folder.mkdir()
    for name in ("postgres", "initdb"):
        program = folder / name
        program.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    return folder


def test_the_programs_of_another_postgresql_are_used_from_the_configured_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _programs_that_say(tmp_path / "bin", "16.2 (Debian 16.2-1)")
    monkeypatch.setenv("EMA_POSTGRES_BIN", str(folder))
    assert (cluster.programs(), cluster.version_of(folder)) == (folder, 16)


def test_programs_that_are_too_old_are_refused(
    new: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMA_POSTGRES_BIN", str(_programs_that_say(tmp_path / "bin", "14.9")))
    with pytest.raises(EmbeddedServerError, match=r"`EMA_POSTGRES_BIN` must hold PostgreSQL 15 or newer, .* with 14"):
        new.start()
    assert not (new.folder / "data").exists()


def test_a_folder_without_programs_is_refused(
    new: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("EMA_POSTGRES_BIN", str(tmp_path / "empty"))
    with pytest.raises(EmbeddedServerError, match="must be the folder of `postgres` and `initdb`, received .*empty"):
        new.start()
    monkeypatch.setenv("EMA_POSTGRES_BIN", str(tmp_path / "nothing"))
    with pytest.raises(ConfigurationError, match="`EMA_POSTGRES_BIN` must be a folder, received .*nothing"):
        new.start()


@pytest.mark.broad
@as_root
@with_proc
def test_root_runs_the_server_in_a_user_namespace_in_a_folder_that_only_root_can_read(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with EmbeddedServer(private / "postgres") as server:
        if (private / "postgres" / "data").stat().st_uid != 0:
            pytest.skip("user namespaces are not allowed here")
        inside, outside, count = Path(f"/proc/{server.pid}/uid_map").read_text().split()
        assert (int(inside) > 0, outside, count) == (True, "0", "1")
        assert ask(server.url, "select 1") == "1"
        capabilities = [line.split() for line in Path(f"/proc/{server.pid}/status").read_text().splitlines()]
        assert ["CapEff:", "0000000000000000"] in capabilities
    assert private.stat().st_mode & 0o777 == 0o700


def _reachable_for_others(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter. Other users may not enter the folders of pytest."""
    folder = Path("/tmp") / f"ema-assets-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    try:
        if not _reachable_for_others(cluster.programs()):
            pytest.skip("the PostgreSQL binaries are where other users may not read")
        yield folder
    finally:
        shutil.rmtree(folder)


@as_root
@with_proc
def test_root_runs_the_server_as_the_owner_of_the_folder_at_each_start(open_folder: Path) -> None:
    folder = open_folder / "postgres"
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
    server = EmbeddedServer(folder)
    for _ in range(2):
        with server:
            status = Path(f"/proc/{server.pid}/status").read_text()
            assert f"Uid:\t{NOBODY.pw_uid}\t{NOBODY.pw_uid}" in status
            assert ask(server.url, "select 1") == "1"
    assert (folder / "data").stat().st_uid == NOBODY.pw_uid
    assert {path.owner() for path in folder.iterdir()} == {"nobody"}


@as_root
@with_proc
def test_root_without_user_namespaces_runs_the_server_as_nobody_and_keeps_its_own_files(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_folder / "postgres"
    with EmbeddedServer(folder):
        pass
    monkeypatch.setattr(identity, "_namespace", lambda: None)
    with EmbeddedServer(folder) as server:
        assert ask(server.url, "select 1") == "1"
        assert Path(f"/proc/{server.pid}").owner() == "nobody"
    owners = {path.name: path.owner() for path in folder.iterdir()}
    assert {name for name, owner in owners.items() if owner == "nobody"} == {"data", "log"}
    assert (folder / "passfile").stat().st_mode & 0o777 == 0o600


@as_root
@with_proc
def test_root_that_cannot_become_another_user_gets_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_namespace", lambda: None)
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(EmbeddedServerError, match="run ema-assets as a normal user, .* or set EMA_DATABASE_URL"):
        EmbeddedServer(private / "postgres").start()
    assert private.stat().st_mode & 0o777 == 0o700


@pytest.mark.broad
@as_root
def test_the_server_of_a_normal_user_runs_as_that_user(open_folder: Path) -> None:
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
    # The imports come first, because only root may be able to read the folder of the interpreter.
    code = textwrap.dedent(
        f"""
        import os, sys
        from pathlib import Path
        import psutil, psycopg2
        from ema_assets.runtime.postgres.server import EmbeddedServer
        os.setgroups([]), os.setgid({NOBODY.pw_gid}), os.setuid({NOBODY.pw_uid})
        os.chdir(sys.argv[1])
        with EmbeddedServer(Path("postgres")) as server:
            psycopg2.connect(server.url).close()
            print(Path("postgres/data").stat().st_uid, server.owned)
        """
    )
    result = subprocess.run([sys.executable, "-c", code, home], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (result.stderr, result.stdout.split()) == ("", [str(NOBODY.pw_uid), "True"])


def test_the_url_quotes_the_path_of_the_passfile(running: EmbeddedServer) -> None:
    path = running.folder / "passfile"
    assert running.url.partition("?passfile=")[2] == quote(str(path), safe="/")
    assert " " not in running.url


def test_a_lease_is_taken_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`status`, `doctor` and `maintain` attach to a running server exactly when its disk is full."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    files = server_files.Files(tmp_path)
    lease = server_files.Lease(files)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        lease.take()
    assert server_files.is_leased(files)
    lease.give_back()
    assert not server_files.is_leased(files)


def test_the_lock_is_released_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Callable[[], None]:
        raise EmbeddedServerError("no")

    monkeypatch.setattr(cluster, "programs", fail)
    for _ in range(2):
        with pytest.raises(EmbeddedServerError, match="^no$"):
            EmbeddedServer(tmp_path / "postgres").start()
