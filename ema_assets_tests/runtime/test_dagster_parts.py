"""Tests of how `up` starts Dagster: its dagster.yaml, its three processes and the GraphQL operations sent to it."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from ema_assets.config.settings import Settings
from ema_assets.model.errors import ConfigurationError, EmaAssetsError
from ema_assets.runtime import code_location, dagster_parts, processes
from ema_assets.runtime.code_location import CodeLocation, Problem
from ema_assets.runtime.dagster_parts import CodeServer, Programs
from ema_assets.runtime.restarts import Restarts
from ema_assets.runtime.services import Service, environment, free_port
from ema_assets.runtime.supervisor import Program, Supervisor
from ema_assets_tests.waiting import wait_until

OURS = resources.files("ema_assets").joinpath("dagster.yaml").read_text(encoding="utf-8")
OTHERS = {
    "another storage": "storage:\n  postgres:\n    postgres_url: postgresql://x/y\n",
    "another class": "storage:\n  custom:\n    module: theirs.storage\n    class: TheirStorage\n",
    "no storage": "telemetry:\n  enabled: false\n",
    "ours only in a comment": "# storage: custom: module: ema_assets.defs.storage, class: MarketPostgresStorage\n",
    "empty": "",
    "a list": "- 1\n",
    "no YAML": "storage: [\n",
}

ENV = {"PATH": os.environ.get("PATH", os.defpath)}
WAITS = "import time; time.sleep(600)"
SERVES = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return Settings.from_env({"EMA_HOME": str(tmp_path / "home")})


def written(settings: Settings, asked: Path | None = None) -> tuple[str, list[str]]:
    said: list[str] = []
    dagster_parts.write_instance_file(settings, asked, said.append)
    return (settings.dagster_home / "dagster.yaml").read_text(), said


def test_the_dagster_yaml_of_the_package_is_used_by_default(settings: Settings) -> None:
    assert written(settings) == (OURS, [])


@pytest.mark.parametrize("kind", OTHERS)
def test_a_dagster_yaml_of_another_project_is_not_used_and_one_line_says_so(settings: Settings, kind: str) -> None:
    Path("dagster.yaml").write_text(OTHERS[kind])
    text, said = written(settings)
    assert text == OURS
    (line,) = said
    assert line.startswith(f"{Path.cwd() / 'dagster.yaml'} is of another project and is not used")
    assert "--dagster-yaml" in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"storage:\n  custom: [", "not valid YAML: line 2: expected the node content, but found '<stream end>'"),
        (b"storage: \xff", "not valid YAML: 'utf-8' codec can't decode byte 0xff"),
        (b"- storage", "must have settings of Dagster by name, such as `storage:`"),
    ],
)
def test_a_dagster_yaml_that_was_asked_for_and_cannot_be_read_is_one_sentence(
    settings: Settings, content: bytes, said: str
) -> None:
    Path("asked.yaml").write_bytes(content)
    with pytest.raises(ConfigurationError) as raised:
        written(settings, Path("asked.yaml"))
    assert str(raised.value).startswith(f"asked.yaml: {said}")


def test_definitions_can_import_modules_of_every_folder_of_the_search_path(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        folder = Path(f"folder{number}")
        folder.mkdir()
        (folder / f"own{number}.py").write_text(f"NUMBER = {number}\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["folder1", str(Path("folder2").absolute()), ""]))
    settings.dagster_home.mkdir(parents=True)
    load = "from dagster._core.code_pointer import load_python_module as load"
    code = f"{load}; print([load(name, {str(settings.dagster_home)!r}).NUMBER for name in ('own1', 'own2')])"
    done = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", code],
        env=environment(settings, "postgresql://nowhere"),
        cwd=settings.dagster_home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[1, 2]\n", done.stderr


def test_a_dagster_yaml_that_was_made_from_ours_is_used(settings: Settings) -> None:
    mine = OURS.replace("max_concurrent_runs: 4", "max_concurrent_runs: 9")
    assert mine != OURS
    Path("dagster.yaml").write_text(mine)
    assert written(settings) == (mine, [])


def test_any_dagster_yaml_is_used_when_it_is_requested(settings: Settings, tmp_path: Path) -> None:
    Path("dagster.yaml").write_text(OURS)
    asked = tmp_path / "theirs.yaml"
    asked.write_text(OTHERS["another storage"])
    assert written(settings, asked) == (OTHERS["another storage"], [])


@pytest.mark.parametrize("text", [code_location._ASK, code_location._RELOAD])
def test_the_graphql_operations_are_valid_in_the_schema_of_dagster(text: str) -> None:
    """Only fields and types are validated. Nothing is executed."""
    from dagster_graphql.schema import create_schema
    from graphql import parse, validate

    assert validate(create_schema().graphql_schema, parse(text)) == []


def test_the_socket_of_the_code_server_is_elsewhere_when_the_path_of_the_home_is_too_long(settings: Settings) -> None:
    """The path of a home may be longer than the path of a socket may be."""
    made = dagster_parts.programs(settings, {}, 3000)
    assert made.socket == settings.dagster_home / "up" / "code_server"
    deep = replace(settings, home=settings.home / ("x" * 100))
    elsewhere = dagster_parts.programs(deep, {}, 3000).socket
    assert elsewhere.parent.stat().st_mode & 0o077 == 0
    assert len(str(elsewhere)) < 100
    (location,) = json.loads((deep.dagster_home / "up" / "workspace.yaml").read_text())["load_from"]
    assert location["grpc_server"]["socket"] == str(elsewhere)


def test_the_daemon_and_the_code_server_receive_keys_and_the_webserver_receives_none(settings: Settings) -> None:
    made = dagster_parts.programs(settings, {"APCA_API_KEY_ID": "a key", "PATH": "/bin"}, 3000)
    assert "APCA_API_KEY_ID" not in made.webserver.env
    assert made.daemon.env["APCA_API_KEY_ID"] == made.code_server.env["APCA_API_KEY_ID"] == "a key"


class Standing:
    """Starts programs of the test in place of Dagster's."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.home
        self.settings = settings
        self.port = free_port()
        self.location = CodeLocation("http://127.0.0.1:9", lambda: "", lambda line: None)

    def programs(self, code_server: str = "", daemon: str = "") -> Programs:
        made = dagster_parts.programs(self.settings, ENV, self.port)
        listens = f"import pathlib; pathlib.Path({str(made.socket)!r}).touch()\n{WAITS}"
        return replace(
            made,
            code_server=self._program(made.code_server, code_server or listens),
            daemon=self._program(made.daemon, daemon or WAITS),
            webserver=self._program(made.webserver, SERVES.replace("PORT", str(self.port))),
        )

    def _program(self, program: Program, code: str) -> Program:
        return replace(program, argv=[sys.executable, "-I", "-c", code], cwd=None, grace_seconds=0.1)

    def start(self, supervisor: Supervisor, programs: Programs) -> list[Service]:
        return dagster_parts.parts(supervisor, programs, f"http://127.0.0.1:{self.port}", self.location)


def test_each_of_the_three_processes_is_restarted_alone(settings: Settings) -> None:
    standing = Standing(settings)
    with Supervisor() as supervisor:
        parts = standing.start(supervisor, standing.programs())
        said: list[str] = []
        keeper = Restarts(parts, said.append)
        assert keeper.look(0.0)
        before = {child.program.name: child.pid for child in supervisor.children}
        for number, part in enumerate(parts):
            now = 1000.0 * (number + 1)
            os.kill(before[part.name], signal.SIGKILL)
            assert str(supervisor.until_signalled(timeout_seconds=180)).startswith(f"`{part.name}` ended with SIGKILL")
            assert not keeper.look(now)
            assert keeper.look(now + 1)
            after = {child.program.name: child.pid for child in supervisor.children}
            assert {name for name in before if before[name] != after[name]} == {part.name}
            before = after
        assert [line for line in said if line.endswith("again")] == [f"  {part.name} runs again" for part in parts]


def test_the_end_of_the_process_that_holds_the_definitions_is_noticed(settings: Settings) -> None:
    """The code server itself continues, and starts another such process on request."""
    standing = Standing(settings)
    socket = dagster_parts.programs(settings, ENV, standing.port).socket
    forks = f"""
import os, pathlib, signal, time
def fork():
    if os.fork() == 0:
        time.sleep(600)
def again(*_):
    os.wait()
    fork()
signal.signal(signal.SIGUSR1, again)
fork()
pathlib.Path({str(socket)!r}).touch()
while True:
    time.sleep(600)
"""
    with Supervisor() as supervisor:
        code_server, *_ = standing.start(supervisor, standing.programs(code_server=forks))
        assert isinstance(code_server, CodeServer)
        (own, *_) = supervisor.children
        (holder,) = processes.children(own.pid)
        assert code_server._is_served()
        os.kill(holder, signal.SIGKILL)
        wait_until(lambda: not code_server._is_served(), "its end is seen")
        assert code_server.failure() is None
        os.kill(own.pid, signal.SIGUSR1)
        wait_until(code_server._is_served, "another one is seen")
    # The supervisor reports the end of the code server itself, so it does not count here.
    assert code_server._is_served()


@pytest.mark.broad
@pytest.mark.parametrize("broken", ["code_server", "daemon"])
def test_a_code_server_or_daemon_that_does_not_start_is_reported_at_once(settings: Settings, broken: str) -> None:
    standing = Standing(settings)
    programs = standing.programs(**{broken: "raise SystemExit('no such module')"})
    # This webserver never answers, so a start that waits for it would take long.
    programs = replace(programs, webserver=replace(programs.webserver, argv=[sys.executable, "-I", "-c", WAITS]))
    name = getattr(programs, broken).name
    with (
        Supervisor() as supervisor,
        pytest.raises(EmaAssetsError, match=rf"`{name}` ended with exit code 1(.|\n)*no such"),
    ):
        standing.start(supervisor, programs)


@pytest.mark.broad
def test_a_code_server_that_stays_unreachable_counts_as_failed_until_it_is_restarted(settings: Settings) -> None:
    standing = Standing(settings)
    with Supervisor() as supervisor:
        code_server, *others = standing.start(supervisor, standing.programs())
        gone = Problem("nobody answers", load_error="DagsterUserCodeUnreachableError")
        standing.location._failures += [gone] * 4
        assert "nobody answers" in str(code_server.failure())
        assert [part.failure() for part in others] == [None, None]
        code_server.start()
        assert code_server.failure() is None
