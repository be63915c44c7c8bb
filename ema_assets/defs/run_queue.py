"""Numbers about runs from Dagster's instance: how many wait and run, and how the last of each timeframe ended."""

from collections.abc import Sequence
from dataclasses import dataclass

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from ema_assets.defs.requests import IN_FLIGHT
from ema_assets.defs.run_tags import TIMEFRAME_TAG

_ENDED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs by state, when the oldest queued one was created, and the state and end of each timeframe's last run.

    Times are seconds since 1970.
    """

    counts: dict[str, int]
    queued_since: float | None
    last: dict[str, tuple[str, float]]


class RunQueue:
    """Reads runs from the instance of DAGSTER_HOME, which is made on the first call and again after an error."""

    def __init__(self) -> None:
        self._instance: DagsterInstance | None = None

    def __call__(self, timeframes: Sequence[str]) -> Runs:
        """Return the numbers of all runs, and the last run of each of `timeframes`."""
        try:
            if self._instance is None:
                self._instance = DagsterInstance.get()
            return read(self._instance, timeframes)
        except BaseException:
            self._instance = None
            raise


def read(instance: DagsterInstance, timeframes: Sequence[str]) -> Runs:
    """Read the counts per status, the oldest queued run, and the last ended run of each timeframe."""
    counts = {each.value.lower(): instance.get_runs_count(RunsFilter(statuses=[each])) for each in IN_FLIGHT}
    queued = instance.get_run_records(RunsFilter(statuses=[DagsterRunStatus.QUEUED]), limit=1, ascending=True)
    last = {}
    for timeframe in timeframes:
        records = instance.get_run_records(RunsFilter(statuses=_ENDED, tags={TIMEFRAME_TAG: timeframe}), limit=1)
        for record in records:
            ended = record.end_time or record.update_timestamp.timestamp()
            last[timeframe] = (record.dagster_run.status.value.lower(), ended)
    return Runs(counts, queued[0].create_timestamp.timestamp() if queued else None, last)
