"""The run queue of several hosts: Dagster's queue, which counts every run that is not live as a background run."""

from dagster import DagsterRun
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import RunQueueConfig

from ema_assets.defs.run_tags import BACKGROUND_LANE, LANE_TAG

# The pause in seconds and the number of attempts to hand a run to a broker that is away: about three hours.
_PAUSE, _ATTEMPTS = 10, 1000


class LaneRunCoordinator(QueuedRunCoordinator):
    """Puts runs without a lane, such as backfills and runs of a person, into the background lane and its limit."""

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Enqueue the run."""
        run = context.dagster_run
        if LANE_TAG not in run.tags:
            self._instance.add_run_tags(run.run_id, {LANE_TAG: BACKGROUND_LANE})
        return super().submit_run(context)

    def get_run_queue_config(self) -> RunQueueConfig:
        """Return the configuration for the daemon.

        A run that could not be handed to the broker stays queued for a while.
        """
        config = super().get_run_queue_config()
        if config.max_user_code_failure_retries:
            return config
        return config._replace(max_user_code_failure_retries=_ATTEMPTS, user_code_failure_retry_delay=_PAUSE)
