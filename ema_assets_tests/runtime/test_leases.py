"""Tests of leases: the last process with a lease on the embedded PostgreSQL stops it, however the others ended."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import psycopg2
import pytest

from ema_assets.config.settings import Settings
from ema_assets.model.errors import StoreUnavailable
from ema_assets.runtime import locate, processes
from ema_assets.runtime.postgres import last_lease, postmaster
from ema_assets.runtime.postgres.server import EmbeddedServer, read_running
from ema_assets_tests.conftest import mostly_broad
from ema_assets_tests.waiting import wait_until

ROOT = Path(postmaster.__file__).parents[3]

HOLDER = """
import sys
from pathlib import Path
from ema_assets.runtime.postgres.server import EmbeddedServer
with EmbeddedServer(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""

# A standby process: it ends without the handlers that Python calls at exit.
LEAVER = """
import os, sys
from pathlib import Path
from ema_assets.config.settings import Settings
from ema_assets.defs.standby.worker import leave
from ema_assets.runtime.locate import leased_database
from ema_assets.runtime.postgres.server import EmbeddedServer
os.environ.pop("EMA_DATABASE_URL", None)
os.environ["EMA_HOME"] = str(Path(sys.argv[1]).parent)
leased_database(Settings.from_env())
with EmbeddedServer(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
sys.stdin.read()
leave(0)
"""

# A notebook that reads twice. The second time, the server of the first one runs.
READER = """
import sys
from pathlib import Path
from ema_assets.config.settings import Settings
from ema_assets.runtime.locate import existing_database
from ema_assets.runtime.postgres.server import EmbeddedServer
settings = Settings.from_env({"EMA_HOME": str(Path(sys.argv[1]).parent)})
with existing_database(settings) as first:
    pass
with existing_database(settings) as second:
    assert first == second
print(EmbeddedServer(Path(sys.argv[1])).pid, flush=True)
sys.stdin.read()
"""

# Works like `up`: when it is killed, its guard stops its children and then the server.
SUPERVISED = """
import sys, time
from pathlib import Path
from ema_assets.runtime.services import Postgres
from ema_assets.runtime.supervisor import Supervisor
with Supervisor() as supervisor:
    postgres = Postgres(Path(sys.argv[1]), supervisor)
    postgres.start()
    print(postgres._pid, flush=True)
    sys.stdin.read()
    print("nobody comes here")
"""


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose server ran once. Copying it is faster than creating a new cluster."""
    folder = tmp_path_factory.mktemp("stopped") / "home" / "postgres"
    with EmbeddedServer(folder):
        return folder


@pytest.fixture
def folder(stopped: Path, tmp_path: Path) -> Iterator[Path]:
    """A server's folder below an EMA_HOME, with data and no running server. A server is stopped after the test."""
    copy = tmp_path / "home" / "postgres"
    shutil.copytree(stopped, copy)
    (copy / "port").unlink()
    yield copy
    EmbeddedServer(copy).stop(force=True)


@contextmanager
def process(code: str, folder: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Start a process that runs `code`. Yield it and the pid that it printed. It continues when its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", code, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    ) as started:
        assert started.stdout is not None
        try:
            yield started, int(started.stdout.readline())
        finally:
            if started.poll() is None:
                started.kill()


def let_go(started: "subprocess.Popen[str]") -> None:
    assert started.stdin is not None
    started.stdin.close()
    assert started.wait(timeout=180) == 0


def wait_for_the_end(pid: int) -> None:
    wait_until(lambda: processes.read(pid) is None, "the end of a process")


def answer(url: str) -> int:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("select 42")
        return int(cursor.fetchone()[0])


@pytest.mark.broad
def test_the_process_that_started_the_server_leaves_it_to_other_users_and_the_last_one_stops_it(folder: Path) -> None:
    with process(HOLDER, folder) as (starter, pid):
        with EmbeddedServer(folder) as server:
            assert (server.pid, server.owned) == (pid, False)
            let_go(starter)
            assert server.pid == pid
            assert answer(server.url) == 42
        assert not server.is_running()


@pytest.mark.broad
def test_a_standby_process_that_is_the_last_user_stops_the_server(folder: Path) -> None:
    with process(LEAVER, folder) as (standby, _):
        assert read_running(folder) is not None
        let_go(standby)
    assert read_running(folder) is None


@pytest.mark.broad
def test_a_connection_survives_the_end_of_the_process_that_started_the_server(folder: Path) -> None:
    with (
        process(HOLDER, folder) as (starter, _),
        EmbeddedServer(folder) as server,
        closing(psycopg2.connect(server.url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("create temp table bar as select 42 as close")
        let_go(starter)
        cursor.execute("select close from bar")
        assert cursor.fetchone() == (42,)


@pytest.mark.broad
def test_a_killed_process_holds_no_lease(folder: Path) -> None:
    with process(HOLDER, folder) as (killed, _), EmbeddedServer(folder) as server:
        killed.kill()
        killed.wait()
        assert server.is_running()
    assert not server.is_running()


@pytest.mark.parametrize("number", mostly_broad([signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]))
def test_a_server_whose_last_user_was_ended_by_a_signal_is_stopped(folder: Path, number: signal.Signals) -> None:
    """A script or a `refresh` in a terminal that is closed, or one that cron or systemd ends."""
    with process(READER, folder) as (reader, pid):
        reader.send_signal(number)
        assert reader.wait(timeout=60) == -number
        wait_for_the_end(pid)
    assert read_running(folder) is None


@pytest.mark.broad
def test_a_server_whose_starter_was_killed_is_stopped_when_the_other_users_were_ended_too(folder: Path) -> None:
    with process(HOLDER, folder) as (starter, pid), process(READER, folder) as (second, same):
        assert same == pid
        starter.kill()
        starter.wait()
        assert answer(str(read_running(folder))) == 42
        second.terminate()
        second.wait()
        wait_for_the_end(pid)


def test_what_watches_the_leases_ends_with_the_server(folder: Path) -> None:
    def watching() -> list[int]:
        return [
            each.pid
            for each in psutil.process_iter(["cmdline"])
            if last_lease.__name__ in (each.info["cmdline"] or ()) and str(folder) in each.info["cmdline"]
        ]

    with EmbeddedServer(folder) as server:
        assert len(watching()) == 1
        with EmbeddedServer(folder):
            assert len(watching()) == 1
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for_the_end(pid)
        server.start()
    assert watching() == []


def test_a_program_that_a_lease_holder_has_started_holds_no_lease(folder: Path) -> None:
    with EmbeddedServer(folder) as server:
        sleeper = subprocess.Popen(["sleep", "600"], close_fds=False)
    assert not server.is_running()
    sleeper.kill()
    sleeper.wait()


def test_two_leases_of_one_process_are_independent(folder: Path) -> None:
    with EmbeddedServer(folder) as first:
        with EmbeddedServer(folder):
            pass
        assert first.is_running()
        first.start()
    assert not first.is_running()


def test_attaching_takes_a_lease_on_a_running_server_and_starts_none(folder: Path) -> None:
    other = EmbeddedServer(folder)
    assert not other.attach()
    assert not EmbeddedServer(folder / "nothing").attach()
    assert not (folder / "nothing").exists()
    with process(HOLDER, folder) as (starter, _):
        assert other.attach()
        let_go(starter)
        assert answer(other.url) == 42
    other.stop()
    assert not other.is_running()


def test_a_reader_keeps_a_running_server(folder: Path) -> None:
    settings = Settings.from_env({"EMA_HOME": str(folder.parent)})
    with locate.running_database(settings) as url:
        assert url is None
    with process(HOLDER, folder) as (starter, _), locate.existing_database(settings) as url:
        let_go(starter)
        assert answer(url) == 42
    assert read_running(folder) is None


@pytest.mark.broad
def test_a_reader_starts_a_server_that_does_not_run_and_keeps_it_until_its_process_ends(folder: Path) -> None:
    with process(READER, folder) as (reader, pid):
        url = read_running(folder)
        assert url is not None
        assert answer(url) == 42
        let_go(reader)
    wait_for_the_end(pid)


def test_a_reader_makes_no_database(tmp_path: Path) -> None:
    settings = Settings.from_env({"EMA_HOME": str(tmp_path / "none")})
    with pytest.raises(StoreUnavailable, match="there is nothing in"), locate.existing_database(settings):
        pass
    assert not (tmp_path / "none").exists()


@pytest.mark.broad
def test_a_killed_up_leaves_the_server_running_while_another_process_uses_it(folder: Path) -> None:
    """The guard of a killed `up` waits for no process, and does not stop a server that an `ingest` uses."""
    with process(SUPERVISED, folder) as (up, pid):
        with EmbeddedServer(folder) as server:
            guards = guards_of(up.pid)
            up.kill()
            up.wait()
            for guard in guards:
                wait_for_the_end(guard)
            assert server.pid == pid
            assert answer(server.url) == 42
        assert not server.is_running()


@pytest.mark.broad
def test_the_server_of_a_killed_up_is_stopped_when_no_other_process_uses_it(folder: Path) -> None:
    with process(SUPERVISED, folder) as (up, pid):
        up.kill()
        up.wait()
        wait_for_the_end(pid)
    assert read_running(folder) is None


@pytest.mark.broad
def test_a_server_that_a_killed_up_took_over_from_another_process_is_stopped(folder: Path) -> None:
    """A `refresh` starts the server, an `up` begins, the `refresh` ends, and the `up` is killed by kill -9."""
    with process(HOLDER, folder) as (starter, pid), process(SUPERVISED, folder) as (up, seen):
        assert seen == pid
        let_go(starter)
        up.kill()
        up.wait()
        wait_for_the_end(pid)


@pytest.mark.broad
def test_a_restarted_server_keeps_its_port(folder: Path) -> None:
    with EmbeddedServer(folder) as server:
        server.keep_port()
        url, pid = server.url, server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for_the_end(pid)
        server.start()
        assert server.url == url
        assert answer(url) == 42
    assert not server.is_running()


# What a process of Dagster does without `up` and without EMA_DATABASE_URL.
WITHOUT_UP = """
import os, sys
from pathlib import Path
os.environ["EMA_HOME"] = str(Path(sys.argv[1]).parent)
os.environ.pop("EMA_DATABASE_URL", None)
from ema_assets.config.settings import Settings
from ema_assets.runtime.locate import _leased, leased_database
url = leased_database(Settings.from_env())
assert leased_database(Settings.from_env()) == url
(server,) = _leased.values()
print(server.pid, flush=True)
if sys.stdin.readline():
    leased_database(Settings.from_env())
    print(server.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.broad
def test_processes_of_dagster_without_up_start_the_server_and_the_last_one_stops_it(folder: Path) -> None:
    with process(WITHOUT_UP, folder) as (first, pid), process(WITHOUT_UP, folder) as (second, same):
        assert pid == same
        let_go(first)
        assert answer(str(read_running(folder))) == 42
        # A server that has died is restarted by the next process that needs it.
        os.kill(pid, signal.SIGKILL)
        # PostgreSQL takes a zombie process that was not reaped yet for a running server.
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the server")
        assert second.stdin is not None
        assert second.stdout is not None
        second.stdin.write("again\n")
        second.stdin.flush()
        again = int(second.stdout.readline())
        assert again != pid
        let_go(second)
        wait_for_the_end(again)
    assert read_running(folder) is None


def guards_of(pid: int) -> list[int]:
    found = [child for child, process in processes.table().items() if process.parent == pid]
    return [child for child in found if b"ema_assets.runtime.guard" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.broad
def test_a_run_imports_neither_the_embedded_server_nor_the_board() -> None:
    """Each of Dagster's runs is a process, so its imports take time at every tick."""
    code = (
        "import sys, ema_assets.definitions, ema_assets.read\n"
        "unwanted = ('psutil', 'ema_assets.runtime.', 'ema_assets.board')\n"
        "print(sorted(name for name in sys.modules if name.startswith(unwanted)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "['ema_assets.runtime.locate']\n"
