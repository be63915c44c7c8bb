"""Tests of all commands: their order, help that works in any environment, and output that cannot be written."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ema_assets.cli import main
from ema_assets_tests.cli.conftest import Run
from ema_assets_tests.cli.shell import in_a_process, start
from ema_assets_tests.waiting import GIVEN_UP_AFTER_SECONDS


def _all_commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _all_commands(command, (*path, name))
        else:
            yield (*path, name)


COMMANDS = list(_all_commands(main))
every_command = pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "ema-assets")

# Each makes settings, the watchlist or the home unusable; FILE and FOLDER stand for a file and a folder.
BROKEN = [
    {"EMA_PROVIDER": "foo"},
    {"EMA_CLOCK": "yesterday"},
    {"EMA_DATABASE_URL": "mysql://trader@127.0.0.1/market"},
    {"EMA_HOME": "FILE"},
    {"EMA_WATCHLIST": "FOLDER"},
    {"EMA_SIGNALS_FOLDER": "FILE"},
    {"EMA_SERIES_PER_RUN": "many", "APCA_API_KEY_ID": "the-key"},
]


@every_command
def test_no_line_of_a_help_is_longer_than_a_terminal_of_80_columns(run: Run, path: tuple[str, ...]) -> None:
    assert [line for line in run(*path, "--help").stdout.splitlines() if len(line) > 80] == []


@every_command
def test_the_help_of_every_command_shows_its_usage_and_what_it_does(run: Run, path: tuple[str, ...]) -> None:
    for option in ("--help", "-h"):
        shown = run(*path, option)
        assert shown.exit_code == 0
        assert shown.stdout.startswith(f"Usage: {' '.join(('ema-assets', *path))} ")
        assert len(shown.stdout.split("Options:")[0].split("\n\n")[1].split()) >= 4


@every_command
def test_help_is_the_same_in_every_environment(run: Run, tmp_path: Path, path: tuple[str, ...]) -> None:
    places = {"FILE": tmp_path / "file", "FOLDER": tmp_path / "folder"}
    places["FILE"].touch()
    places["FOLDER"].mkdir()
    sound = run(*path, "--help").stdout
    for settings in BROKEN:
        env = {name: str(places.get(value, value)) for name, value in settings.items()}
        shown = run(*path, "--help", **env)
        assert (shown.exit_code, shown.stderr, shown.stdout) == (0, "", sound), env


@pytest.mark.broad
def test_help_and_version_work_with_broken_settings(home: Path, tmp_path: Path) -> None:
    (tmp_path / "watchlist.toml").write_bytes(b"\xff")
    (tmp_path / "file").touch()
    broken = {name: value for settings in BROKEN for name, value in settings.items()}
    env = {**broken, "EMA_HOME": str(tmp_path / "file"), "EMA_SIGNALS_FOLDER": str(tmp_path / "file")}
    asked = (("--help",), ("up", "--help"), ("symbols", "add", "-h"), ("--version",))
    for process in [start(*arguments, **env) for arguments in asked]:
        with process:
            stdout, stderr = process.communicate(timeout=GIVEN_UP_AFTER_SECONDS)
        assert (process.returncode, stderr) == (0, ""), stderr
        assert stdout.startswith(("Usage: ", "ema-assets, version "))


def test_a_wrong_option_is_reported_before_a_wrong_setting(run: Run) -> None:
    result = run("up", "--prot", "3000", EMA_PROVIDER="foo")
    assert result.exit_code == 2
    # Older versions of click put a colon in place of the quotes.
    assert re.match(r"Error: No such option(: | ')--prot\b", result.stderr.splitlines()[-1])
    assert "EMA_PROVIDER" not in result.output


def test_commands_are_listed_in_the_order_in_which_a_newcomer_needs_them(run: Run) -> None:
    listed = run("--help").stdout.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in listed if line.startswith("  ") and line[2] != " "] == [
        *("up", "down", "board", "status", "doctor", "plan", "refresh", "symbols", "ingest", "actions", "quality"),
        *("screen", "chart", "backtest", "alerts", "export", "sandbox", "worker", "metrics", "capacity", "maintain"),
        "backup",
        "restore",
        "migrate",
    ]
    of_symbols = [("symbols",), *(("symbols", name) for name in ("list", "add", "import", "check", "remove"))]
    assert list(COMMANDS)[8:14] == of_symbols


@pytest.mark.broad
def test_a_command_that_does_not_exist_is_refused_in_one_sentence() -> None:
    done = in_a_process("refersh")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: No such command 'refersh'")
    assert "Traceback" not in done.stderr


def test_a_bug_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr("ema_assets.cli.status.status_command.callback", broken)
    assert isinstance(run("status").exception, LookupError)


@pytest.mark.broad
def test_a_closed_output_causes_no_traceback(home: Path) -> None:
    """A program may start a command without an output."""
    words = ["bash", "-c", 'exec "$0" -m ema_assets symbols list >&-', sys.executable]
    done = subprocess.run(words, capture_output=True, text=True, timeout=GIVEN_UP_AFTER_SECONDS, check=False)
    assert "Traceback" not in done.stderr


@pytest.mark.broad
def test_a_command_ends_quietly_if_its_reader_has_closed_the_pipe(home: Path) -> None:
    """An example is `ema-assets symbols list | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "ema_assets", "symbols", "list"],
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            timeout=180,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == ""


def test_ctrl_c_while_the_commands_are_imported_causes_no_traceback() -> None:
    program = """
import signal, sys
class Interrupted:
    def find_spec(name, path=None, target=None):
        if name == "ema_assets.cli.status":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupted)
from ema_assets.__main__ import main
main()
"""
    words = [sys.executable, "-c", program, "--help"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=GIVEN_UP_AFTER_SECONDS, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.broad
def test_a_character_that_the_terminal_does_not_have_is_printed_as_a_question_mark(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ema_assets", "backtest", "--help"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1:strict"},
        capture_output=True,
        timeout=GIVEN_UP_AFTER_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"KEY=VALUE[,VALUE?]" in done.stdout


@pytest.mark.parametrize("group", [[], ["symbols"], ["alerts"], ["actions"]], ids=str)
def test_the_list_of_commands_has_complete_sentences(run: Run, group: list[str]) -> None:
    listed = run(*group, "--help").stdout.partition("Commands:\n")[2]
    assert "..." not in listed
    sentences = re.split(r"\n  (?=\S)", listed)
    assert all(each.strip().endswith(".") for each in sentences), sentences


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        (["screen", "--limit"], "of 1 or more"),
        (["screen", "--crossed-within"], "of 0 or more"),
        (["worker", "--processes"], "from 1 to 256"),
        (["up", "--port"], "from 1 to 65535"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("given", ["ten", "1.5", "-1"])
def test_an_option_that_takes_a_number_says_which_are_allowed(
    run: Run, command: list[str], allowed: str, given: str
) -> None:
    result = run(*command, given)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        f"Error: Invalid value for '{command[-1]}': must be a whole number {allowed}, received '{given}'"
    )
