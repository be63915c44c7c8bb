"""Execute a Dagster run in its own worker process, as Dagster's DefaultRunLauncher does, and measure the cost.

Or in a standby process, as the launcher of the product does.
"""

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil
from dagster import DagsterEventType, DagsterInstance, JobDefinition
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._grpc.types import ExecuteRunArgs

from benchmarks.measure import Spent, spend
from ema_assets.defs.launcher import StandbyRunLauncher
from ema_assets.defs.standby.options import Options


@dataclass(frozen=True, slots=True)
class Worked:
    """A run that succeeded: the cost of its process, seconds in Dagster's record, seconds and counts of its steps."""

    spent: Spent
    in_run_s: float
    by_step_s: dict[str, float]
    counts: dict[str, int]


def work(
    instance: DagsterInstance,
    module: str,
    job: JobDefinition,
    tags: Mapping[str, str],
    run_config: Mapping[str, Any] | None = None,
) -> Worked:
    """Execute `job` of the code location `module` and wait for it.

    The worker loads `module` again, as in production, so the input of the module must be in the environment.
    """
    origin = _origin(module, job.name)
    run = instance.create_run_for_job(job, tags=dict(tags), run_config=run_config, job_code_origin=origin)
    command = ExecuteRunArgs(origin, run.run_id, instance.get_ref(), set_exit_code_on_failure=True).get_command_args()
    with tempfile.TemporaryDirectory(prefix="ema-bench-") as folder:
        spent = spend(command, os.environ, Path(folder) / "log")
    record = instance.get_run_record_by_id(run.run_id)
    assert record is not None
    if record.start_time is None or record.end_time is None or not record.dagster_run.is_success:
        raise SystemExit(f"the run {run.run_id} of {job.name} ended as {record.dagster_run.status.value}")
    return Worked(spent, record.end_time - record.start_time, *_steps(instance, run.run_id))


@dataclass(frozen=True, slots=True)
class Launched:
    """A run that succeeded in a standby process: CPU of the process, launch and end (seconds since 1970)."""

    cpu_s: float
    launched: float
    ended: float


class Standby:
    """A standby process for runs of the code location `module`, and what its runs cost."""

    def __init__(self, instance: DagsterInstance, module: str) -> None:
        self._instance = instance
        self._module = module
        self.megabytes = 0.0
        # No spare: it would be started while the run is measured.
        self._launcher = StandbyRunLauncher(Options(module=module, max_processes=1, spare_processes=0))
        self._launcher.register_instance(instance)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._launcher.dispose()

    def wait_until_ready(self) -> None:
        """Start the process and let it load everything, as a spare one does."""
        self._launcher.prepare(_origin(self._module, "").repository_origin)

    def work(
        self, job: JobDefinition, tags: Mapping[str, str], run_config: Mapping[str, Any] | None = None
    ) -> Launched:
        """Execute `job` and wait for it."""
        run = self._instance.create_run_for_job(
            job, tags=dict(tags), run_config=run_config, job_code_origin=_origin(self._module, job.name)
        )
        (pid,) = self._launcher.pids
        before, began = _cpu_s(pid), time.time()
        self._launcher.launch_run(LaunchRunContext(run, workspace=None))
        self._launcher.join(timeout=600)
        record = self._instance.get_run_record_by_id(run.run_id)
        assert record is not None
        if record.end_time is None or not record.dagster_run.is_success:
            raise SystemExit(f"the run {run.run_id} of {job.name} ended as {record.dagster_run.status.value}")
        self.megabytes = psutil.Process(pid).memory_info().rss / 1024**2
        return Launched(_cpu_s(pid) - before, began, record.end_time)


def _cpu_s(pid: int) -> float:
    return float(sum(psutil.Process(pid).cpu_times()[:4]))


def _origin(module: str, job: str) -> JobPythonOrigin:
    return JobPythonOrigin(
        job,
        RepositoryPythonOrigin(
            executable_path=sys.executable,
            code_pointer=ModuleCodePointer(module, "defs", working_directory=str(Path.cwd())),
        ),
    )


def _steps(instance: DagsterInstance, run_id: str) -> tuple[dict[str, float], dict[str, int]]:
    seconds: dict[str, float] = {}
    counts: dict[str, int] = {}
    for entry in instance.all_logs(run_id, of_type={DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_OUTPUT}):
        event = entry.get_dagster_event()
        if event.event_type is DagsterEventType.STEP_SUCCESS and event.step_key:
            seconds[event.step_key] = event.step_success_data.duration_ms / 1000
        elif event.event_type is DagsterEventType.STEP_OUTPUT:
            for name, value in (event.step_output_data.metadata or {}).items():
                if isinstance(value.value, int):
                    counts[name] = counts.get(name, 0) + value.value
    return seconds, counts
