"""The run launcher of several hosts: Celery's, with a queue per lane, termination of runs, and monitoring.

It needs the extra `cluster`; see docs/CLUSTER.md. `run_launcher` in deploy/celery/dagster.yaml names the class.
"""

from typing import Any

from dagster import DagsterRun
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from kombu.exceptions import OperationalError

from ema_assets.defs.celery_queues import TASK_TAG, check_client, queue_of, tags_of


class LaneRunLauncher(CeleryRunLauncher):  # type: ignore[misc, unused-ignore]
    """Sends each run to the queue of its lane. The result backend of Celery is never queried."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        # The message's setting overrides that of the worker's task. Without it, each run leaves two messages in a queue
        # of the broker that nobody reads.
        self.celery.conf.task_ignore_result = True

    def launch_run(self, context: LaunchRunContext) -> None:
        """Hand the run to the broker. While the broker does not answer, the run goes back into Dagster's queue."""
        check_client(self.broker or "")
        run = context.dagster_run
        tagged = run.with_tags({**run.tags, **tags_of(run.tags, self.broker or "")})
        try:
            super().launch_run(context._replace(dagster_run=tagged))
        except OperationalError as error:
            # This is the only error after which Dagster requeues the run instead of failing it, as often as
            # `LaneRunCoordinator` allows.
            raise DagsterUserCodeUnreachableError(f"the broker of Celery does not answer: {error}") from error

    def terminate(self, run_id: str) -> bool:
        """Stop the run, or keep it from beginning; return False when it is over.

        The worker kills its process. The sweep then records the run as canceled, as it does for a run that no worker
        had.
        """
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        if task := run.tags.get(TASK_TAG):
            self.celery.control.revoke(task, terminate=True)
        return True

    def check_run_worker_health(self, _run: DagsterRun) -> CheckRunHealthResult:
        """Return RUNNING: the sweep fails runs without a session of the database.

        The state of the task is not tracked.
        """
        return CheckRunHealthResult(WorkerStatus.RUNNING, "the sweep watches over its session of the database")

    def get_run_worker_debug_info(
        self,
        run: DagsterRun,
        include_container_logs: bool | None = True,  # noqa: ARG002 - as Dagster names it
    ) -> str | None:
        """Return what is reported about a run that has not begun in time."""
        return (
            f"No worker has begun task {run.tags.get(TASK_TAG, 'without an id')} of the queue `{queue_of(run.tags)}`: "
            "the message was lost with a worker or the broker, or no worker of that queue is free."
        )
