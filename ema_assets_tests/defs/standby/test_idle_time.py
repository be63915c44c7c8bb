"""Tests of what a standby process does while it has no run."""

import sys
import threading
from subprocess import PIPE, Popen

import pytest
from dagster import DagsterInstance

import ema_assets.refresh.compute  # as the code location does
from ema_assets.defs.standby import execution, warm_up
from ema_assets.defs.standby.execution import Executor


class Watched:
    """Counts how often the imports were noted."""

    noted = 0

    def note_imports(self) -> None:
        self.noted += 1


def idle_executor() -> tuple[Executor, Watched]:
    executor, watched = object.__new__(Executor), Watched()
    executor._has_kernels, executor._watch = False, watched  # type: ignore[assignment]
    return executor, watched


def test_kernels_are_made_once_and_the_modules_that_this_imports_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr("ema_assets.refresh.warm_up.warm_up", lambda: made.append(True))
    executor, watched = idle_executor()
    executor.use_idle_time()
    executor.use_idle_time()
    assert made == [True]
    assert watched.noted == 1


def test_kernels_are_made_later_if_another_process_is_making_them(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr("ema_assets.refresh.warm_up.warm_up", lambda: made.append(True))
    executor, _ = idle_executor()
    holds = "from ema_assets.model.kernels import compiling\nwith compiling() as us:\n    print(us, flush=True)\n    input()"
    with Popen([sys.executable, "-c", holds], stdin=PIPE, stdout=PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        executor.use_idle_time()
        assert made == []
        other.communicate("\n")
    executor.use_idle_time()
    assert made == [True]


def test_an_error_while_kernels_are_made_does_not_end_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise OSError("no space left for the cache")

    monkeypatch.setattr(execution, "make_kernels", fail)
    idle_executor()[0].use_idle_time()
    assert "no space left for the cache" in capsys.readouterr().err


def test_a_cancellation_that_came_too_late_does_not_cancel_the_next_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that ended at the moment of its cancellation has succeeded, and its process continues."""
    monkeypatch.setattr(execution, "stand_by", lambda: None)
    with DagsterInstance.local_temp() as instance:
        executor = object.__new__(Executor)
        executor._ref, executor._turn, executor._runs = instance.get_ref(), threading.Lock(), 1
        executor._is_over, executor._is_canceled = threading.Event(), True
        executor.execute("no run of this name")
        assert not executor._is_canceled


def test_no_kernels_are_made_for_another_code_location(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr("ema_assets.refresh.warm_up.warm_up", lambda: made.append(True))
    monkeypatch.delitem(sys.modules, ema_assets.refresh.compute.__name__)
    warm_up.make_kernels()
    assert made == []
