"""Tests of how `up` starts a command of Dagster: the imports, the wait for the code server, then the command."""

import gc
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ema_assets.defs import command


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """The arguments of each call of the command in the module `theirs`."""
    calls: list[list[str]] = []
    theirs: Any = ModuleType("theirs")

    def main() -> None:
        assert gc.isenabled()
        calls.append(list(sys.argv))

    theirs.main = main
    monkeypatch.setitem(sys.modules, "theirs", theirs)
    # Freezing would affect objects of other tests, too.
    monkeypatch.setattr(gc, "freeze", lambda: None)
    yield calls
    assert gc.isenabled()


def given(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["command", *words])


def test_a_command_is_run_with_its_arguments(monkeypatch: pytest.MonkeyPatch, called: list[list[str]]) -> None:
    given(monkeypatch, "theirs", "run", "--after", "noon")
    command.main()
    assert called == [["theirs", "run", "--after", "noon"]]


def test_a_command_waits_for_the_code_server(
    monkeypatch: pytest.MonkeyPatch, called: list[list[str]], tmp_path: Path
) -> None:
    socket = tmp_path / "code_server"
    given(monkeypatch, "--after", str(socket), "theirs", "run")
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        assert called == []
        waited.append(seconds)
        if len(waited) == 3:
            socket.touch()

    monkeypatch.setattr(time, "sleep", sleep)
    command.main()
    assert called == [["theirs", "run"]]
    assert len(waited) == 3


def test_a_waiting_command_ends_with_its_parent_process(
    monkeypatch: pytest.MonkeyPatch, called: list[list[str]], tmp_path: Path
) -> None:
    given(monkeypatch, "--after", str(tmp_path / "code_server"), "theirs", "run")
    parents = iter([os.getppid(), os.getppid(), 1])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    command.main()
    assert called == []
