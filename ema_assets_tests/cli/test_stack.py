"""Tests of `ema-assets up`, `down` and `sandbox` without a running stack. The end-to-end tests start everything."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ema_assets.runtime.stack import few_connections
from ema_assets.store.database import Database
from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.cli.shell import DEAD, an_up, as_root, free_port, in_a_process, sentence_of, unprivileged
from ema_assets_tests.conftest import Databases
from ema_assets_tests.waiting import wait_until


@pytest.mark.broad
def test_a_ui_port_in_use_is_reported_with_another_one_to_use(home: Path, taken_port: int) -> None:
    done = in_a_process("up", "--port", str(taken_port))
    assert done.returncode == 1
    sentence = sentence_of(done.stderr)
    assert f"port {taken_port} on 127.0.0.1 is in use" in sentence
    assert f"`ema-assets up --port {taken_port + 1}`" in sentence
    assert not (home / "postgres").exists()


@pytest.mark.broad
def test_a_board_port_in_use_is_reported_with_the_option_to_change_it(refused: Refused, taken_port: int) -> None:
    beside = sentence_of(in_a_process("up", "--port", str(free_port()), "--board-port", str(taken_port)).stderr)
    assert f"port {taken_port} on 127.0.0.1 is in use" in beside
    assert f"`ema-assets up --board-port {taken_port + 1}`" in beside
    alone = refused("board", "--port", str(taken_port), EMA_DATABASE_URL=DEAD)
    assert f"port {taken_port} on 127.0.0.1 is in use" in alone
    assert "`--board-port" in alone


@pytest.mark.parametrize(
    ("options", "first", "second"),
    [
        (("--board-port", "3831"), "--port", "--board-port"),
        (("--metrics-port", "3831"), "--port", "--metrics-port"),
        (("--metrics-port", "3832"), "--board-port", "--metrics-port"),
        (("--board-port", "3840", "--metrics-port", "3840"), "--board-port", "--metrics-port"),
    ],
)
def test_two_servers_on_one_port_are_refused_before_anything_starts(
    refused: Refused, home: Path, options: tuple[str, ...], first: str, second: str
) -> None:
    # The missing watchlist is checked after the ports, and would end `up` with another error.
    sentence = refused("up", "--port", "3831", *options, EMA_WATCHLIST="none.toml")
    assert sentence.startswith(f"`{first}`")
    assert f" and `{second}`" in sentence
    assert sentence.endswith(f" must be two ports, received {options[-1]} for both")
    assert [each.name for each in home.iterdir()] == ["watchlist.toml"]


def test_a_port_from_the_settings_and_the_highest_port_are_compared_as_well(refused: Refused) -> None:
    assert "received 3832 for both" in refused(
        "up", "--port", "3831", EMA_METRICS_PORT="3832", EMA_WATCHLIST="none.toml"
    )
    assert "received 65535 for both" in refused("up", "--port", "65535", EMA_WATCHLIST="none.toml")
    taken = refused("up", "--port", "3831", "--no-board", "--metrics-port", "3832", EMA_WATCHLIST="none.toml")
    assert "two ports" not in taken, "without a board its port is free"


def test_a_board_refuses_invalid_addresses_and_hosts(refused: Refused) -> None:
    assert "`--dagster-url` must be an http or https URL" in refused("board", "--dagster-url", "dagster")
    unknown = refused("board", "--host", "nowhere.invalid", "--port", "0", EMA_DATABASE_URL=DEAD)
    assert unknown.startswith("the board cannot listen on nowhere.invalid, port 0: ")
    assert "Errno" not in unknown
    assert "`--allow-host` must be names of hosts without ports, received 'x:80'" in refused(
        "board", "--allow-host", "x:80"
    )


def test_commands_that_need_data_create_no_database(refused: Refused, home: Path) -> None:
    for words in (("board", "--port", "0"), ("backup", str(home / "all.backup")), ("alerts", "log"), ("maintain",)):
        assert "there is nothing in" in refused(*words)
    assert refused("restore", str(home / "none.dump")) == f"{home / 'none.dump'}: there is no such file"
    assert [each.name for each in home.iterdir()] == ["watchlist.toml"]


def test_a_sandbox_port_in_use_is_reported(refused: Refused, taken_port: int) -> None:
    assert refused("sandbox", "--port", str(taken_port)).startswith(f"port {taken_port} on 127.0.0.1 is already in use")


@pytest.mark.parametrize(("command", "port"), [("up", "0"), ("up", "65536"), ("sandbox", "-1"), ("up", "http")])
def test_an_invalid_port_is_refused(run: Run, command: str, port: str) -> None:
    result = run(command, "--port", port)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("Error: Invalid value for '--port'")


def test_down_without_a_running_up_reports_this_and_succeeds(run: Run, home: Path) -> None:
    result = run("down")
    assert result.exit_code == 0
    assert result.stdout == f"Nothing runs on {home}.\n"


def test_down_stops_the_running_up(run: Run, home: Path) -> None:
    """A process that holds the lock and has written its id to it counts as an `up`."""
    code = (
        "import fcntl, os, signal, sys\n"
        "lock = open(sys.argv[1], 'w')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print(os.getpid(), file=lock, flush=True)\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    argv = [sys.executable, "-c", code, str(home / "up.lock")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        result = run("down")
        assert (result.exit_code, result.stdout) == (0, "Stopped.\n")
        assert process.wait() == -signal.SIGTERM


@as_root
@pytest.mark.parametrize(("user", "called"), [(0, "root"), (54_321, "the user with the number 54321")])
def test_down_names_the_owner_of_a_process_that_it_may_not_stop(
    refused: Refused, reachable: Path, user: int, called: str
) -> None:
    with subprocess.Popen(["sleep", "60"], user=user) as process:
        try:
            with an_up(reachable / "home", process.pid), unprivileged():
                sentence = refused("down")
            assert process.poll() is None
        finally:
            process.kill()
    assert sentence == (
        f"process {process.pid} belongs to {called} and you may not stop it; its owner can, with `ema-assets down`"
    )


def test_a_signal_that_down_may_not_send_is_reported_without_a_hint_about_the_home(
    refused: Refused, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, number: int) -> None:
        assert (pid, number) == (os.getpid(), signal.SIGTERM)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with an_up(home, os.getpid()), monkeypatch.context() as patched:
        patched.setattr(os, "kill", refuse)
        sentence = refused("down")
    assert sentence.startswith(f"process {os.getpid()} belongs to ")
    assert sentence.endswith(" and you may not stop it; its owner can, with `ema-assets down`")


def test_down_names_a_process_that_does_not_stop(refused: Refused, home: Path) -> None:
    """Here the process has already ended, and something else keeps its lock."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    with an_up(home, process.pid):
        sentence = refused("down", "--timeout", "0.1")
    assert sentence == f"process {process.pid} has not stopped within 0.1 s; its logs are in {home / 'logs'}"


def test_a_database_with_few_free_connections_causes_a_warning(databases: Databases) -> None:
    url = databases.make()
    with databases.member(url, "ema_reader") as member, Database(member) as database:
        assert few_connections(database) is None
    with databases.member(url, "ema_reader") as member:
        databases.execute("ALTER ROLE member CONNECTION LIMIT 7")
        expected = "Only 6 of 7 connections of the database are free, and a running `up` uses about 20"
        with Database(member) as database:
            # The driver first asks for types on a connection of its own, whose session may not have ended yet.
            wait_until(
                lambda: str(few_connections(database)).startswith(expected),
                "one session of the member",
                evidence=lambda: few_connections(database),
            )
    databases.drop(url)
