"""Execute a Dagster run in its own worker process, as Dagster's DefaultRunLauncher does, and measure the cost."""

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster import DagsterEventType, DagsterInstance, JobDefinition
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._grpc.types import ExecuteRunArgs

from benchmarks.measure import Spent, spend


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
    origin = JobPythonOrigin(
        job.name,
        RepositoryPythonOrigin(
            executable_path=sys.executable,
            code_pointer=ModuleCodePointer(module, "defs", working_directory=str(Path.cwd())),
        ),
    )
    run = instance.create_run_for_job(job, tags=dict(tags), run_config=run_config, job_code_origin=origin)
    command = ExecuteRunArgs(origin, run.run_id, instance.get_ref(), set_exit_code_on_failure=True).get_command_args()
    with tempfile.TemporaryDirectory(prefix="ema-bench-") as folder:
        spent = spend(command, os.environ, Path(folder) / "log")
    record = instance.get_run_record_by_id(run.run_id)
    assert record is not None
    if record.start_time is None or record.end_time is None or not record.dagster_run.is_success:
        raise SystemExit(f"the run {run.run_id} of {job.name} ended as {record.dagster_run.status.value}")
    return Worked(spent, record.end_time - record.start_time, *_steps(instance, run.run_id))


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
