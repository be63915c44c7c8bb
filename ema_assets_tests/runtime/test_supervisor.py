"""Tests of the supervisor with real processes: the processes that it starts end when it ends, in every case."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from ema_assets.model.errors import ConfigurationError
from ema_assets.runtime import processes
from ema_assets.runtime.lean_process import STOP_SIGNALS
from ema_assets.runtime.supervisor import Child, ChildExit, Program, Supervisor
from ema_assets_tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to see who is left")

ROOT = Path(processes.__file__).parents[2]
# Distinguishes the processes of this run from those of an `ema-assets up` on the same machine.
RUN = f"EMA_TEST_RUN={os.getpid()}-{time.time_ns()}"
ENV = {"PATH": os.environ.get("PATH", os.defpath), **dict([RUN.split("=")])}

SLEEPS = "import time; time.sleep(600)"
IGNORES_SIGTERM = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
# Two forks and its own session: its parent has ended, and the supervisor does not know its group and session.
DAEMON_THAT_IGNORES_SIGTERM = """
import os, signal, time
signal.signal(15, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("ready", flush=True)
        time.sleep(600)
    os._exit(0)
os.wait()
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def spawn(group: Supervisor, *program: Any, **stopping: Any) -> Child:
    return group.spawn(Program(*program, **stopping))


def marked(supervisor_id: str) -> set[int]:
    return processes.marked(supervisor_id)


def wait_for(is_true: Callable[[], object]) -> None:
    wait_until(is_true, "what this test waits for")


class StopWatch:
    """A clock for stopping families that sleeps only 0.01 s per pause, and notes every signal with its second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.sent: list[tuple[float, int]] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self._sleep, self._send = time.sleep, processes.send
        monkeypatch.setattr(processes, "time", self)
        monkeypatch.setattr(processes, "send", self.send)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._sleep(0.01)
        self.meanwhile()

    def send(self, targets: Iterable[int], number: int) -> None:
        self.sent.append((self.now, number))
        self._send(targets, number)

    def first(self, number: int) -> float:
        return next(second for second, sent in self.sent if sent == number)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> StopWatch:
    return StopWatch(monkeypatch)


def says_ready(log: Path, times: int = 1) -> Callable[[], bool]:
    return lambda: log.exists() and log.read_text().count("ready") >= times


def of_this_run() -> set[int]:
    """Return the children of this run's supervisors, and the guards of the supervisors in this process."""
    guard = b"ema_assets.runtime.guard\0"
    found = set()
    for pid in processes.table():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if RUN.encode() in environment or (guard in command and command.endswith(f"\0{os.getpid()}\0".encode())):
            found.add(pid)
    return found


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Fail a test that leaves a process behind, and kill that process."""
    yield
    left = of_this_run()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_children_run_in_their_own_sessions_and_end_with_the_block(tmp_path: Path) -> None:
    with Supervisor() as group:
        children = [spawn(group, name, python(SLEEPS), ENV, tmp_path / f"{name}.log") for name in ("web", "daemon")]
        assert group.check() is None
        assert [os.getsid(child.pid) for child in children] == [child.pid for child in children]
        wait_for(lambda: marked(group.id) == {child.pid for child in children})
    assert [child.exit_code() for child in children] == [-signal.SIGTERM, -signal.SIGTERM]


@pytest.mark.broad
def test_children_are_stopped_in_reverse_order(tmp_path: Path) -> None:
    code = f"""
    import signal, sys, time
    def stop(*_):
        with open({str(tmp_path / "order")!r}, "a") as file:
            file.write(sys.argv[1])
        sys.exit()
    signal.signal(15, stop)
    print("ready", flush=True)
    time.sleep(600)
    """
    with Supervisor() as group:
        for name in "abc":
            spawn(group, name, [*python(textwrap.dedent(code)), name], ENV, tmp_path / name)
        for name in "abc":
            wait_for(says_ready(tmp_path / name))
    assert (tmp_path / "order").read_text() == "cba"


def test_output_is_appended_to_the_log_and_stdin_is_empty(tmp_path: Path) -> None:
    log = tmp_path / "new folder" / "web.log"
    log.parent.mkdir()
    log.write_text("an earlier run\n")
    with Supervisor() as group:
        child = spawn(group, "web", python("import sys; print(repr(sys.stdin.read()), file=sys.stderr)"), ENV, log)
        wait_for(child.has_ended)
        assert log.read_text() == "an earlier run\n''\n"
        assert child.log_tail() == "''"


@pytest.mark.broad
def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path, watch: StopWatch) -> None:
    with Supervisor() as group:
        child = spawn(group, "web", python(IGNORES_SIGTERM), ENV, tmp_path / "log", grace_seconds=2)
        wait_for(says_ready(tmp_path / "log"))
    assert watch.first(signal.SIGTERM) == 0
    assert watch.first(signal.SIGKILL) == pytest.approx(2, abs=processes.POLL_SECONDS)
    assert child.exit_code() == -signal.SIGKILL


@pytest.mark.broad
def test_a_child_with_stop_main_only_stops_its_own_children(tmp_path: Path) -> None:
    code = f"""
    import subprocess, sys
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", {SLEEPS!r}])
    print("ready", flush=True)
    try:
        child.wait()
    except KeyboardInterrupt:
        child.terminate()
        print("child ended with", child.wait(), flush=True)
    """
    with Supervisor() as group:
        argv = python(textwrap.dedent(code))
        child = spawn(group, "dagster", argv, ENV, tmp_path / "log", stop_signal=signal.SIGINT, stop_main_only=True)
        wait_for(says_ready(tmp_path / "log"))
    assert child.exit_code() == 0
    assert child.log_tail().endswith("child ended with -15")


def test_a_child_handles_sigint_although_this_process_ignores_it(tmp_path: Path) -> None:
    code = "import signal; print(signal.getsignal(2) is signal.default_int_handler)"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Supervisor() as group:
            child = spawn(group, "dagster", python(code), ENV, tmp_path / "log")
            wait_for(child.has_ended)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert child.log_tail() == "True"


def test_a_process_that_outlives_its_parent_is_stopped_with_the_block(tmp_path: Path) -> None:
    code = f"import os, sys; os.spawnv(os.P_NOWAIT, sys.executable, ['x', '-I', '-S', '-c', {SLEEPS!r}])"
    with Supervisor() as group:
        child = spawn(group, "web", python(code), ENV, tmp_path / "log")
        wait_for(child.has_ended)
        assert len(marked(group.id)) == 1
        supervisor_id = group.id
    assert not marked(supervisor_id)


@pytest.mark.broad
def test_a_daemon_in_its_own_session_is_found_and_killed(tmp_path: Path) -> None:
    with Supervisor() as group:
        child = spawn(group, "web", python(DAEMON_THAT_IGNORES_SIGTERM), ENV, tmp_path / "log", grace_seconds=0.3)
        wait_for(says_ready(tmp_path / "log"))
        wait_for(child.has_ended)
        (daemon,) = marked(group.id)
        assert os.getsid(daemon) != child.pid
        supervisor_id = group.id
    assert not marked(supervisor_id)
    assert processes.read(daemon) is None


def test_a_descendant_without_the_mark_is_found_by_its_session(tmp_path: Path) -> None:
    code = f"import os, sys; print('ready', flush=True); os.execve(sys.executable, ['x', '-c', {SLEEPS!r}], {{}})"
    with Supervisor() as group:
        child = spawn(group, "web", python(f"import os; os.fork()\n{code}"), ENV, tmp_path / "log")
        wait_for(says_ready(tmp_path / "log", times=2))
        wait_for(lambda: not marked(group.id))
        members = processes.members(child.family)
        assert len(members) == 2
        assert child.pid in members
    assert not any(processes.read(pid) for pid in members)


def test_a_pid_that_now_belongs_to_another_process_is_not_signalled() -> None:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        family = processes.Family(
            pid=stranger.pid,
            identity=processes.identity(stranger.pid) - 1,
            mark="of a child that ended",
            stop_signal=signal.SIGTERM,
            stop_main_only=False,
            grace_seconds=0.1,
        )
        processes.stop(family)
        assert stranger.poll() is None
        stranger.kill()


def test_a_process_that_was_only_registered_with_on_orphan_keeps_running_after_the_block(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as other:
        with Supervisor() as group:
            group.on_orphan(other.pid)
            spawn(group, "web", python(SLEEPS), ENV, tmp_path / "log")
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize(
    ("code", "exit_code", "how"),
    [
        ("print('no such table'); raise SystemExit(3)", 3, "exit code 3"),
        ("import os; print('no such table', flush=True); os.kill(os.getpid(), 9)", -9, "SIGKILL"),
    ],
)
def test_the_end_of_a_child_is_reported_with_the_end_of_its_log(
    tmp_path: Path, code: str, exit_code: int, how: str
) -> None:
    with Supervisor() as group:
        spawn(group, "web", python(SLEEPS), ENV, tmp_path / "web.log")
        spawn(group, "daemon", python(code), ENV, tmp_path / "daemon.log")
        ended = group.until_signalled()
    log = tmp_path / "daemon.log"
    assert ended == ChildExit("daemon", exit_code, log, "no such table")
    assert str(ended) == f"`daemon` ended with {how}; the end of {log}:\nno such table"


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_ends_the_wait_and_is_named(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Supervisor() as group:
        child = spawn(group, "web", python(SLEEPS), ENV, tmp_path / "log")
        assert group.until_signalled(timeout_seconds=0) is None
        threading.Timer(0.1, os.kill, [os.getpid(), number]).start()
        assert group.until_signalled(timeout_seconds=180) == number
        assert child.exit_code() is None
    assert signal.getsignal(number) == before


def test_a_signal_before_until_signalled_ends_the_block_and_the_children(tmp_path: Path) -> None:
    group = Supervisor()

    def start_and_wait() -> None:
        with group:
            spawn(group, "web", python(SLEEPS), ENV, tmp_path / "log")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(180)

    with pytest.raises(SystemExit) as raised:
        start_and_wait()
    (child,) = group.children
    assert raised.value.code == 128 + signal.SIGTERM
    assert child.exit_code() == -signal.SIGTERM


def test_a_second_signal_kills_children_before_their_grace_is_over(tmp_path: Path, watch: StopWatch) -> None:
    def interrupt() -> None:
        if watch.now > 0.5:
            watch.meanwhile = lambda: None
            os.kill(os.getpid(), signal.SIGINT)

    with Supervisor() as group:
        child = spawn(group, "web", python(IGNORES_SIGTERM), ENV, tmp_path / "log", grace_seconds=60)
        wait_for(says_ready(tmp_path / "log"))
        watch.meanwhile = interrupt
    assert 0.5 < watch.first(signal.SIGKILL) < 1
    assert child.exit_code() == -signal.SIGKILL


SWALLOWS_SIGNALS = """
import sys, time
from ema_assets.runtime import supervisor
from ema_assets.runtime.supervisor import Program, Supervisor
from pathlib import Path
supervisor._STUCK_SECONDS = 0.0
def work():
    is_told = False
    while True:
        try:
            if not is_told:
                is_told = True
                print("ready", flush=True)
            time.sleep(600)
        except BaseException:
            print("caught", flush=True)
with Supervisor() as group:
    child = group.spawn(Program("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"], {}, Path(sys.argv[1])))
    print(child.pid, flush=True)
    group.interruptibly(work)
"""


def test_a_second_signal_ends_a_process_whose_code_has_caught_the_first(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SWALLOWS_SIGNALS, tmp_path / "log"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "caught\n"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 128 + signal.SIGINT
    wait_for(lambda: processes.read(child) is None)


@pytest.mark.parametrize(("program", "log"), [("nothing", "log"), (sys.executable, "file/log")])
def test_a_program_or_a_log_that_cannot_be_opened_is_a_configuration_error(
    tmp_path: Path, program: str, log: str
) -> None:
    (tmp_path / "file").touch()
    with Supervisor() as group, pytest.raises(ConfigurationError, match="`web` cannot be started"):
        spawn(group, "web", [tmp_path / program], ENV, tmp_path / log)


def test_a_guard_that_was_killed_is_replaced(tmp_path: Path) -> None:
    with Supervisor() as group:
        spawn(group, "web", python(SLEEPS), ENV, tmp_path / "log")
        assert group._guard is not None
        first = group._guard._process.pid
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: processes.read(first) is None)
        assert group.check() is None
        assert group._guard._process.pid != first


def test_the_guard_uses_less_than_25_mb_of_memory() -> None:
    with Supervisor() as group:
        assert group._guard is not None
        guard = Path(f"/proc/{group._guard._process.pid}")
        wait_for(lambda: b"ema_assets.runtime.guard" in (guard / "cmdline").read_bytes())
        time.sleep(0.3)
        (line,) = (line for line in (guard / "status").read_text().splitlines() if line.startswith("VmRSS"))
        assert int(line.split()[1]) < 25_000, line


# -------------------------------------------------------------------------------- death of the supervisor

SUPERVISED = """
import os, signal, subprocess, sys, time
from pathlib import Path
from ema_assets.runtime.supervisor import Program, Supervisor

folder = Path(sys.argv[1])
def python(code):
    return [sys.executable, "-I", "-S", "-c", code]

def wait_for(name, text):
    while not ((folder / name).exists() and text in (folder / name).read_text()):
        time.sleep(0.01)

database = subprocess.Popen([*python(sys.argv[2]), str(folder)], start_new_session=True)
wait_for("database", "up")
try:
    with Supervisor() as group:
        (folder / "mark").write_text(group.id)
        group.on_orphan(database.pid, after_seconds=5)
        for name, code in zip(("plain", "stubborn", "daemon"), sys.argv[3:6]):
            group.spawn(Program(name, python(code), os.environ, folder / name, grace_seconds=0.1))
        wait_for("stubborn", "ready")
        wait_for("daemon", "ready")
        if sys.argv[6] == "fork" and os.fork() == 0:
            time.sleep(600)
        print(group.id, group._guard._process.pid, database.pid, flush=True)
        if sys.argv[6] == "exception":
            sys.stdin.read()
            raise RuntimeError("as it happens")
        while not isinstance(group.until_signalled(), signal.Signals):
            time.sleep(0.05)
finally:
    database.send_signal(signal.SIGINT)
    database.wait()
"""

# A substitute for PostgreSQL. It writes to a file that it was signaled to stop, and how many clients it still had.
DATABASE = """
import os, signal, sys, time
def stop(*_):
    left = 0
    mark = b"EMA_SUPERVISOR_ID=" + open(sys.argv[1] + "/mark", "rb").read()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            left += mark in open(f"/proc/{pid}/environ", "rb").read()
        except OSError:
            pass
    with open(sys.argv[1] + "/database", "a") as file:
        file.write(f", asked to stop with {left} clients")
    sys.exit()
signal.signal(signal.SIGINT, stop)
with open(sys.argv[1] + "/database", "w") as file:
    file.write("up")
while True:
    time.sleep(1)
"""


@pytest.mark.broad
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "exception", "fork"])
def test_no_process_outlives_the_supervisor(tmp_path: Path, how: str) -> None:
    codes = [DATABASE, SLEEPS, IGNORES_SIGTERM, DAEMON_THAT_IGNORES_SIGTERM]
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISED, tmp_path, *codes, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=ENV,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            supervisor_id, *others = process.stdout.readline().split()
            wait_for(lambda: len(marked(supervisor_id)) == 3)
            if how == "exception":
                process.stdin.close()
            else:
                os.kill(process.pid, signal.SIGKILL if how == "fork" else signal.Signals[how])
            guard_and_database = {int(pid) for pid in others}
            wait_for(lambda: not guard_and_database & set(processes.table()))
            assert not marked(supervisor_id)
            assert (tmp_path / "database").read_text() == "up, asked to stop with 0 clients"
        finally:
            # In "fork", a fork of the supervisor keeps the pipe to the guard open, and has lost its parent.
            for pid in of_this_run() | {process.pid}:
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not of_this_run())  # a killed process does not disappear at once


def test_the_guard_reads_messages_that_a_supervisor_sent_just_before_it_died() -> None:
    read, write = os.pipe()
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as child:
        family = processes.Family(child.pid, processes.identity(child.pid), "no mark", signal.SIGTERM, False, 1.0)
        os.write(write, json.dumps({"Family": asdict(family)}).encode() + b"\n")
        # The write end stays open, as in a fork. The pid 0 stands for a supervisor that has died.
        subprocess.run(
            [sys.executable, "-S", "-P", "-m", "ema_assets.runtime.guard", "no-id", "0"],
            stdin=read,
            env={"PYTHONPATH": os.pathsep.join((str(ROOT), str(Path(psutil.__file__).parents[1])))},
            timeout=180,
            check=True,
        )
        assert child.wait(timeout=180) == -signal.SIGTERM
    os.close(read)
    os.close(write)
