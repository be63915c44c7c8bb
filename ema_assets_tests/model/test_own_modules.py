"""Tests of the time limit for a user's own modules: an endless module is reported and the process continues."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from ema_assets.model import own_modules
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.time_limits import Overdue
from ema_assets.signals import discovery
from ema_assets.strategies import rule_discovery

ENDLESS = {
    "a loop": "x = 1\nwhile True:\n    pass\n",
    "a loop that catches everything": "while True:\n    try:\n        x = 1\n    except BaseException:\n        break\nwhile True:\n    pass\n",
}
SLEEPS = {"a wait": "import threading\nthreading.Event().wait()\n"}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_modules, "LIMIT_SECONDS", 0.2)
    monkeypatch.setattr("ema_assets.model.time_limits._AGAIN_SECONDS", 0.05)


def in_the_main_thread(work: Callable[[], object]) -> None:
    work()


def in_another_thread(work: Callable[[], object]) -> None:
    """Run `work` in another thread, as a tick of a sensor does."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in raised:
        raise error


@pytest.mark.parametrize("run", [in_the_main_thread, in_another_thread])
@pytest.mark.parametrize("kind", [*ENDLESS, *SLEEPS])
def test_an_endless_module_is_named_with_its_line_and_not_loaded_again_until_it_changes(
    tmp_path: Path, run: Callable[[Callable[[], object]], None], kind: str
) -> None:
    if kind in SLEEPS and run is in_another_thread:
        pytest.skip("ends loops only")
    path = tmp_path / "mine.py"
    path.write_text((ENDLESS | SLEEPS)[kind])
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(ConfigurationError, match=r"mine\.py: line \d: is not done after 0.2 seconds; is there a loop"):
        run(lambda: own_modules.load(path, "signal"))
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(own_modules, "time_limit", None)
        with pytest.raises(ConfigurationError, match=r"mine\.py: is not done after"):
            run(lambda: own_modules.load(path, "signal"))
    path.write_text("answer = 42\n")
    run(lambda: own_modules.load(path, "signal"))
    assert own_modules.load(path, "signal").answer == 42


def test_a_call_gets_more_time_for_more_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    @contextmanager
    def time_limit(seconds: float) -> Iterator[None]:
        given.append(seconds)
        yield
        if len(given) > 1:
            raise Overdue

    monkeypatch.setattr(own_modules, "time_limit", time_limit)
    assert own_modules.in_time(lambda: 42, 0) == 42
    with pytest.raises(own_modules.TooLong, match="is not done with 400,000 bars after 460 seconds; is there a loop"):
        own_modules.in_time(lambda: 42, 400_000)
    assert given == [60.0, 460.0]


def test_an_overdue_call_is_reported_as_too_long_even_if_polars_raises_its_own_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_modules, "COMPUTE_SECONDS", 0.0)

    def fails() -> None:
        raise pl.exceptions.ComputeError("Overdue")

    with pytest.raises(own_modules.TooLong, match="is not done with 0 bars after 0 seconds"):
        own_modules.in_time(fails, 0)


def test_an_error_within_the_time_limit_is_passed_on() -> None:
    def fails() -> None:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        own_modules.in_time(fails, 1)


def test_files_of_skips_helpers_and_excluded_files_and_all_files_lists_all_that_are_not_hidden(tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "_helper.py", "notes.txt", "._b.py"):
        (tmp_path / name).write_text("")
    # Emacs makes such a link to nothing while the file is edited.
    (tmp_path / ".#b.py").symlink_to("me@here.4711")
    for name in ("below", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "c.py").write_text("")
    found = own_modules.files_of(tmp_path, "signals", without=[tmp_path / "a.py"])
    assert [path.name for path in found] == ["b.py"]
    assert [path.name for path in own_modules.all_files([None, tmp_path])] == ["_helper.py", "a.py", "b.py", "c.py"]
    with pytest.raises(ConfigurationError, match="there is no such folder of signals"):
        list(own_modules.files_of(tmp_path / "none", "signals"))


def test_a_timer_that_is_already_running_continues(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1000)
        own_modules.load(tmp_path / "mine.py", "signal")
        assert 0 < signal.setitimer(signal.ITIMER_REAL, 0)[0] <= 1000
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_functions_that_discovery_calls_have_the_time_limit_too(tmp_path: Path) -> None:
    signals, strategies = tmp_path / "signals", tmp_path / "strategies"
    for folder in (signals, strategies):
        folder.mkdir()
    loop = "def endless(*_):\n    while True:\n        pass\n\n"
    (signals / "mine.py").write_text(
        "from dataclasses import replace\nfrom ema_assets.signals.rsi import SIGNAL\n"
        f'{loop}SIGNAL = replace(SIGNAL, name="mine", bars_before=endless)\n'
    )
    (strategies / "mine.py").write_text(
        "from dataclasses import replace\nfrom ema_assets.strategies.rules.crossover import RULE\n"
        f'{loop}RULE = replace(RULE, name="mine", table=None, check=endless)\n'
    )
    with pytest.raises(ConfigurationError, match=r"mine\.py: line [45]: is not done"):
        discovery.discover(signals)
    with pytest.raises(ConfigurationError, match=r"mine\.py: line [45]: is not done"):
        rule_discovery.discover(strategies)


# The profiler is called at every function call. If the limit left state in the interpreter, it would never return.
PROFILED = """
import sys, threading
from ema_assets.model.time_limits import time_limit

def limited():
    with time_limit(60):
        pass

thread = threading.Thread(target=limited)
thread.start()
thread.join()
sys.setprofile(lambda *_: None)
limited()
sys.setprofile(None)
print("done")
"""


def test_a_limit_that_was_not_reached_leaves_no_state_in_the_interpreter() -> None:
    done = subprocess.run([sys.executable, "-c", PROFILED], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "done\n", done.stderr
