"""Crash loops: what ends a run before its time, such as too little memory, often ends the next one, too.

A series that fails pauses by itself (`store.ledger`). A run whose process is killed, or that fails with all its series,
leaves them stale, and the sweep would launch it again within seconds, for ever. So the sweep pauses: the longer, the
more runs of a timeframe and lane have ended this way in a row. Schedules go on with each close.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunRecord, RunsFilter

from ema_assets.defs.jobs import REFRESH_JOB
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.defs.requests import lane_of
from ema_assets.defs.run_tags import DEFER_TAG, FAILED_TAG, LANE_TAG, TIMEFRAME_TAG
from ema_assets.refresh.runs import PlannedRun
from ema_assets.reports.automation import CRASHES_LOOKED_AT, SINGLE_CRASHES

_FIRST, _LONGEST = timedelta(seconds=30), timedelta(minutes=5)
# Runs that end within so short a time have one cause, such as the end of their host.
_ONE_EVENT = timedelta(seconds=5)
# Within the longest pause, a timeframe has at most a dozen crashes in the time that is looked at.
_MOST_RUNS = 200

# Of a run: the key of its timeframe, and its lane.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Pause:
    """After so many crashes in a row, no run is launched until `ends`."""

    crashes: int
    ends: datetime

    def sentence(self, key: Key) -> str:
        """Say what pauses and until when."""
        timeframe, lane = key
        return (
            f"{timeframe} ({lane}): runs have failed as a whole {self.crashes} times in a row, as their pages say, "
            f"so the next one waits until {self.ends:%H:%M:%S} UTC"
        )


class Pauses:
    """The pauses at the machine's time `now`, read from Dagster when the first run is asked about."""

    def __init__(self, instance: DagsterInstance, now: datetime, namespace: Namespace = ALONE) -> None:
        self._instance = instance
        self._now = now
        self._job = namespace.name(REFRESH_JOB)
        # The pauses that have held back a run.
        self._met: dict[Key, Pause] = {}

    def hold(self, run: PlannedRun) -> bool:
        """Return whether `run` must wait."""
        key = run.rectangle.timeframe.key, lane_of(run)
        if (pause := self._found.get(key)) is not None:
            self._met[key] = pause
        return pause is not None

    @property
    def sentences(self) -> list[str]:
        """One sentence per pause that has held back a run."""
        return [pause.sentence(key) for key, pause in self._met.items()]

    @cached_property
    def _found(self) -> dict[Key, Pause]:
        failed = self._ended(DagsterRunStatus.FAILURE)
        if sum(_is_crash(record.dagster_run) for record in failed) <= SINGLE_CRASHES:
            return {}
        return pauses([*failed, *self._ended(DagsterRunStatus.SUCCESS)], self._now)

    def _ended(self, status: DagsterRunStatus) -> list[RunRecord]:
        chosen = RunsFilter(
            job_name=self._job, statuses=[status], tags={DEFER_TAG: "true"}, updated_after=self._now - CRASHES_LOOKED_AT
        )
        return list(self._instance.get_run_records(chosen, limit=_MOST_RUNS))


def pauses(records: Iterable[RunRecord], now: datetime) -> dict[Key, Pause]:
    """Return the pauses that are not over at `now`, given runs that have succeeded or failed, in any order."""
    ended: defaultdict[Key, list[tuple[datetime, bool]]] = defaultdict(list)
    for record in records:
        run = record.dagster_run
        key = run.tags.get(TIMEFRAME_TAG, ""), run.tags.get(LANE_TAG, "")
        at = record.update_timestamp if record.end_time is None else datetime.fromtimestamp(record.end_time, UTC)
        ended[key].append((at, _is_crash(run)))
    found = {}
    for key, each in ended.items():
        each.sort(reverse=True)
        crashes = _crashes(each)
        if crashes <= SINGLE_CRASHES:
            continue
        length = min(_FIRST * 2 ** (crashes - SINGLE_CRASHES - 1), _LONGEST)
        pause = Pause(crashes, each[0][0] + length)
        # A crash in the future was noted by a clock that was ahead.
        if now < pause.ends <= now + length:
            found[key] = pause
    return found


def _crashes(ended: Sequence[tuple[datetime, bool]]) -> int:
    """Return how often runs have crashed since the last one that did not; `ended` is the newest first."""
    crashes, before = 0, None
    for at, is_crash in ended:
        if not is_crash:
            break
        if before is None or before - at >= _ONE_EVENT:
            crashes, before = crashes + 1, at
    return crashes


def _is_crash(run: DagsterRun) -> bool:
    """Return whether `run` failed as a whole: the tag names a series that has failed by itself."""
    return run.status is DagsterRunStatus.FAILURE and FAILED_TAG not in run.tags
