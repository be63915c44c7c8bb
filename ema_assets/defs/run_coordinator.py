"""The run queue of several hosts: Dagster's, which counts every run that is not live among the background ones."""

from dagster import DagsterRun
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext

from ema_assets.defs.requests import BACKGROUND_LANE, LANE_TAG


class LaneRunCoordinator(QueuedRunCoordinator):
    """Puts runs without a lane, such as backfills and those of a person, into the background lane and its limit."""

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Enqueue the run."""
        run = context.dagster_run
        if LANE_TAG not in run.tags:
            self._instance.add_run_tags(run.run_id, {LANE_TAG: BACKGROUND_LANE})
        return super().submit_run(context)
