"""Where a worker executes a run: in its own warm process, or in a new one after a change of signals or strategies."""

import subprocess
import sys

from dagster._grpc.types import ExecuteRunArgs

from ema_assets.config.settings import Settings
from ema_assets.defs.configuration import configuration_drift
from ema_assets.model.errors import ConfigurationError
from ema_assets.refresh.graph import Graph, configured

# What this process loads with its first run; at most one.
_loaded: list[Graph] = []


def is_outdated() -> bool:
    """Whether signals or strategies have changed since the first run of this process, which this call precedes."""
    if _loaded:
        return configuration_drift(_loaded[0]) is not None
    try:
        _loaded.append(configured(Settings.from_env()))
    except ConfigurationError:
        # The run says so itself, when it loads the same.
        return False
    return False


def execute_in_a_new_process(args: ExecuteRunArgs) -> int:
    """Execute the run of `args` as Dagster does without workers, with the instance of this host; its exit code."""
    own = ExecuteRunArgs(args.job_origin, args.run_id, None, args.set_exit_code_on_failure)
    words = [sys.executable, "-m", "dagster", *own.get_command_args()[-3:]]
    done = subprocess.run(words, check=False)  # noqa: S603 - our own program
    return done.returncode
