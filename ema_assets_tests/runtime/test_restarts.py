"""Tests of restarts of the parts of the stack, with real processes that are killed and a clock set by the test."""

import itertools
import os
import re
import shutil
import signal
import socket
import sys
import textwrap
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from ema_assets.model.errors import EmaAssetsError
from ema_assets.runtime import processes, restarts
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.runtime.restarts import Aside, Restarts, look_at_each
from ema_assets.runtime.services import Postgres, Service, answers, free_port
from ema_assets.runtime.supervisor import Program, Supervisor
from ema_assets_tests.waiting import wait_until

SERVES = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
ENV = {"PATH": os.environ.get("PATH", os.defpath)}


class Fake:
    """A part whose failures are set by the test."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reason: str | None = None
        self.starts = 0
        self.starts_in_vain = False

    def start(self) -> None:
        self.starts += 1
        if self.starts_in_vain:
            raise EmaAssetsError(f"{self.name} does not start")
        self.reason = None

    def failure(self) -> str | None:
        return self.reason


def wait_for_the_end(pid: int) -> None:
    wait_until(lambda: processes.read(pid) is None, "the end of a process")


def look_for_ever(keeper: Restarts, before: Callable[[float], object] = lambda _now: None) -> None:
    for second in itertools.count():
        before(float(second))
        keeper.look(float(second))


def test_the_pauses_between_restarts_grow_and_the_final_error_is_one_sentence() -> None:
    part, said, starts = Fake("web"), list[str](), dict[int, float]()
    part.reason, part.starts_in_vain = "`web` ended", True
    with pytest.raises(EmaAssetsError) as raised:
        look_for_ever(Restarts([part], said.append), lambda now: starts.setdefault(part.starts, now))
    assert str(raised.value) == "web does not stay up, given up after 8 new starts: web does not start"
    assert said[0] == "  `web` ended\n  web is started again in 1 s"
    pauses = [re.search(r"started again in (\d+) s", line) for line in said]
    assert [int(pause[1]) for pause in pauses if pause] == [1, 2, 4, 8, 16, 32, 60, 60]
    # The times are those of the look one second after each start. Their distances are the reported pauses.
    assert [after - before for before, after in itertools.pairwise(starts.values())][1:] == [2, 4, 8, 16, 32, 60]


def test_a_part_that_ran_for_long_is_restarted_after_the_first_pause() -> None:
    part, said = Fake("web"), list[str]()
    keeper = Restarts([part], said.append)
    now = 0.0
    for _ in range(restarts.ATTEMPTS * 3):
        part.reason = "ended"
        assert not keeper.look(now)
        assert keeper.look(now + restarts.FIRST_PAUSE_SECONDS)
        now += restarts.SOUND_SECONDS + 2 * restarts.FIRST_PAUSE_SECONDS
    assert part.starts == restarts.ATTEMPTS * 3


def test_a_part_that_ends_soon_after_each_start_is_given_up() -> None:
    part = Fake("web")
    keeper = Restarts([part], lambda _line: None)
    with pytest.raises(EmaAssetsError, match="web does not stay up, given up after 8 new starts: ended at once"):
        look_for_ever(keeper, lambda _now: setattr(part, "reason", "ended at once"))
    assert part.starts == restarts.ATTEMPTS


def test_a_part_waits_for_the_parts_that_it_needs() -> None:
    database, web = Fake("database"), Fake("web")
    keeper = Restarts([database, web], lambda _line: None)
    database.reason = web.reason = "ended"
    database.starts_in_vain = True
    for now in range(10):
        keeper.look(float(now))
    assert (database.starts > 1, web.starts) == (True, 0)
    database.starts_in_vain = False
    for now in range(20, 60):
        keeper.look(float(now))
    assert [(part.failure(), part.starts > 0) for part in (database, web)] == [(None, True)] * 2
    assert web.starts == 1


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped") / "postgres"
    with EmbeddedServer(folder):
        return folder


@pytest.fixture
def folder(stopped: Path, tmp_path: Path) -> Iterator[Path]:
    copy = tmp_path / "postgres"
    shutil.copytree(stopped, copy)
    (copy / "port").unlink()
    yield copy
    EmbeddedServer(copy).stop(force=True)


def answer(url: str) -> int:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("select 42")
        return int(cursor.fetchone()[0])


def test_a_killed_postmaster_is_restarted_on_its_port(folder: Path) -> None:
    said = list[str]()
    with Supervisor() as supervisor:
        postgres = Postgres(folder, supervisor)
        postgres.start()
        url, first = postgres.url, postgres._pid
        keeper = Restarts([postgres], said.append)
        assert keeper.look(0.0)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        wait_for_the_end(first)
        assert not keeper.look(1.0)
        assert keeper.look(2.0)
        assert postgres.url == url
        assert answer(url) == 42
        assert postgres.stop() is False
    assert said == [
        f"  PostgreSQL (process {first}) has ended; its log is in {folder / 'log'}\n  PostgreSQL is started again in 1 s",
        "  PostgreSQL runs again",
    ]


@pytest.mark.broad
def test_a_postmaster_that_cannot_be_restarted_is_given_up_with_the_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program now listens on its port. The children would connect to that program."""
    monkeypatch.setattr(restarts, "ATTEMPTS", 1)
    with Supervisor() as supervisor:
        postgres = Postgres(folder, supervisor)
        postgres.start()
        port, pid = int((folder / "port").read_text()), postgres._pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for_the_end(pid)
        keeper = Restarts([postgres], lambda _line: None)
        taken = rf"PostgreSQL does not stay up, given up after 1 new starts: `port` {port} is taken by another program"
        with socket.create_server(("127.0.0.1", port)), pytest.raises(EmaAssetsError, match=taken):
            look_for_ever(keeper)


def test_a_server_that_a_command_has_restarted_is_adopted(folder: Path) -> None:
    with Supervisor() as supervisor:
        postgres = Postgres(folder, supervisor)
        postgres.start()
        keeper, first = Restarts([postgres], lambda _line: None), postgres._pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        wait_for_the_end(first)
        with EmbeddedServer(folder) as other:
            assert keeper.look(0.0)
            assert postgres._pid == other.pid != first
        assert answer(postgres.url) == 42
        assert postgres.stop() is False


def service(supervisor: Supervisor, tmp_path: Path) -> tuple[Service, str]:
    port = free_port()
    argv = [sys.executable, "-I", "-c", textwrap.dedent(SERVES), str(port)]
    url = f"http://127.0.0.1:{port}"
    return Service(supervisor, Program("web", argv, ENV, tmp_path / "web.log"), answers(url), f"at {url}"), url


def test_a_killed_child_is_restarted_on_its_port_and_stopped_with_the_block(tmp_path: Path) -> None:
    said = list[str]()
    with Supervisor() as supervisor:
        web, url = service(supervisor, tmp_path)
        web.start()
        (first,) = supervisor.children
        keeper = Restarts([web], said.append)
        assert keeper.look(0.0)
        os.kill(first.pid, signal.SIGKILL)
        ended = supervisor.until_signalled()
        assert "`web` ended with SIGKILL" in str(ended)
        # Each end is reported once, so the next wait does not return it again.
        assert supervisor.until_signalled(timeout_seconds=0) is None
        assert not keeper.is_at_work
        assert not keeper.look(1.0)
        assert keeper.is_at_work
        assert keeper.look(2.0)
        assert not keeper.is_at_work
        (second,) = supervisor.children
        assert second.pid != first.pid
        with urllib.request.urlopen(url, timeout=180) as answered:
            assert answered.status == 200
    assert second.exit_code() == -signal.SIGTERM
    assert said[0].startswith("  `web` ended with SIGKILL")
    assert said[1] == "  web runs again"


@pytest.mark.broad
def test_leftover_processes_of_a_child_are_stopped_before_its_restart(tmp_path: Path) -> None:
    code = "import os, time; os.fork(); open(f'{os.getpid()}', 'w'); time.sleep(600)"
    argv = [sys.executable, "-I", "-c", code]
    with Supervisor() as supervisor:
        program = Program("web", argv, ENV, tmp_path / "log", cwd=tmp_path, grace_seconds=0.2)
        first = supervisor.spawn(program)
        wait_until(lambda: len(list(tmp_path.glob("[0-9]*"))) == 2, "both processes")
        found = [int(path.name) for path in tmp_path.glob("[0-9]*")]
        os.kill(first.pid, signal.SIGKILL)
        second = supervisor.spawn(program, instead_of=first)
        assert not any(processes.read(pid) for pid in found)
        assert supervisor.children == [second]


def test_a_signal_ends_the_wait_for_a_part_that_does_not_answer(tmp_path: Path) -> None:
    argv = [
        sys.executable,
        "-I",
        "-c",
        "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(600)",
    ]
    with Supervisor() as supervisor:
        assert supervisor.until_signalled(timeout_seconds=0) is None
        url = f"http://127.0.0.1:{free_port()}"
        silent = Service(supervisor, Program("web", argv, ENV, tmp_path / "log"), answers(url), f"at {url}")
        supervisor.interruptibly(silent.start)
        assert supervisor.until_signalled(timeout_seconds=180) == signal.SIGTERM


def test_an_optional_part_is_given_up_without_an_error_and_this_is_reported_once() -> None:
    said: list[str] = []
    fake = Fake("the metrics server")
    fake.reason, fake.starts_in_vain = "the metrics server has ended", True
    aside = Aside(fake, said.append)
    for now in itertools.count(0.0, 100.0):
        aside.look(now)
        if fake.starts >= restarts.ATTEMPTS and now > 3000:
            break
    assert fake.starts == restarts.ATTEMPTS
    (line,) = [line for line in said if "given up" in line]
    assert line.startswith(f"  the metrics server does not stay up, given up after {restarts.ATTEMPTS} new starts: ")
    assert line.endswith("; everything else goes on")
    again = Fake("the metrics server")
    again.reason = "the metrics server has ended"
    aside = Aside(again, said.append)
    for now in (0.0, 1.0):
        aside.look(now)
    assert (again.starts, said[-1]) == (1, "  the metrics server runs again")


def test_look_at_each_continues_after_an_error_and_returns_all_errors() -> None:
    class Looked:
        def __init__(self, problem: str | None = None) -> None:
            self.problem, self.times = problem, list[float]()

        def look(self, now: float) -> None:
            self.times.append(now)
            if self.problem is not None:
                raise EmaAssetsError(self.problem)

    several = [Looked("signals/mine.py: line 1"), Looked(), Looked("watchlist.toml"), Looked()]
    assert [str(error) for error in look_at_each(several, 3.0)] == ["signals/mine.py: line 1", "watchlist.toml"]
    assert [each.times for each in several] == [[3.0]] * 4
