"""Where a worker executes a run: in its own warm process, or in a new one after a change of signals or strategies."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dagster._grpc.types import ExecuteRunArgs

from ema_assets.config.settings import Settings
from ema_assets.defs.configuration import configuration_drift
from ema_assets.model.errors import ConfigurationError
from ema_assets.refresh.graph import Graph, configured

# The graph that this process loads with its first run; at most one.
_loaded: list[Graph] = []


def is_outdated() -> bool:
    """Return whether signals or strategies have changed since the first run of this process.

    The first call precedes it.
    """
    if _loaded:
        return configuration_drift(_loaded[0]) is not None
    try:
        _loaded.append(configured(Settings.from_env()))
    except ConfigurationError:
        # The run reports the error itself when it loads the same configuration.
        return False
    return False


@contextmanager
def stopped_by_sigterm(stop: Callable[..., Any] | signal.Handlers = signal.SIG_DFL) -> Iterator[None]:
    """Make SIGTERM call `stop` within the block, or end this process, as it does afterwards.

    *Terminate* stops a run by SIGTERM. While Dagster executes a run here it handles signals its own way, and it leaves
    SIGTERM ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def execute_in_a_new_process(args: ExecuteRunArgs) -> int:
    """Execute the run of `args` as Dagster does without workers, with the instance of this host; return its exit code.

    *Terminate* stops the new process, which itself reports that the run was canceled.
    """
    own = ExecuteRunArgs(args.job_origin, args.run_id, None, args.set_exit_code_on_failure)
    words = [sys.executable, "-m", "dagster", *own.get_command_args()[-3:]]
    with subprocess.Popen(words) as running, stopped_by_sigterm(lambda *_: running.terminate()):  # noqa: S603 - our own
        return running.wait()
