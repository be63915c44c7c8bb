"""Crash loops: what ends a run before its time, such as too little memory, often ends the next one, too.

A series that fails pauses by itself (`store.ledger`). A run whose process is killed, or that fails with all its series,
leaves them stale, and the sweep would launch it again within seconds, for ever. So the sweep pauses: the longer, the
more runs of a timeframe and lane have ended this way in a row. Schedules go on with each close.

If all of them ended while they computed the same signal or strategy of the user, only its series pause.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from dagster import DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter

from ema_assets.defs.jobs import REFRESH_JOB
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.defs.requests import lane_of
from ema_assets.defs.run_tags import DEFER_TAG, FAILED_TAG, LANE_TAG, TIMEFRAME_TAG
from ema_assets.refresh.graph import Graph
from ema_assets.refresh.own_code import edition_of
from ema_assets.refresh.runs import PlannedRun
from ema_assets.reports.automation import CRASHES_LOOKED_AT, ENDS_RUNS, SINGLE_CRASHES, CrashLoop, Ended, loops_among
from ema_assets.store import ledger
from ema_assets.store.database import Transaction

_FIRST, _LONGEST = timedelta(seconds=30), timedelta(minutes=5)
# Within the longest pause, a timeframe has at most a dozen crashes in the time that is looked at.
_MOST_RUNS = 200
_LOOKED_AT = SINGLE_CRASHES + 1
_ENDED = f"the last {_LOOKED_AT} runs ended while they computed"

# Of a run: the key of its timeframe, and its lane.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Pause:
    """No run of the timeframe and lane of `loop` is launched until `ends`."""

    loop: CrashLoop
    ends: datetime

    def __str__(self) -> str:
        return (
            f"{self.loop.timeframe} ({self.loop.lane}): runs have failed as a whole {self.loop.crashes} times in a "
            f"row, as their pages say, so the next one waits until {self.ends:%H:%M:%S} UTC"
        )


class Pauses:
    """The pauses at the machine's time `now`, read from Dagster when the first run is asked about."""

    def __init__(self, instance: DagsterInstance, now: datetime, graph: Graph, namespace: Namespace = ALONE) -> None:
        self._instance = instance
        self._now = now
        self._graph = graph
        self._namespace = namespace
        # Why runs were held back or go on without an asset.
        self._said: dict[Key, str] = {}

    def hold(self, transaction: Transaction, now: datetime, run: PlannedRun) -> bool:
        """Return whether `run` must wait. If only one asset must, write at `now` that its series have failed."""
        key = run.rectangle.timeframe.key, lane_of(run)
        if (pause := self._found.get(key)) is None:
            return False
        asset = self._computed_by(pause.loop)
        if asset is None or not self._leave_out(transaction, now, run, asset, pause.loop):
            self._said[key] = str(pause)
            return True
        self._said[key] = f"{key[0]} ({key[1]}): {_ENDED} {asset}, so its series pause"
        return False

    @property
    def sentences(self) -> list[str]:
        """One sentence per timeframe and lane in which something waits."""
        return list(self._said.values())

    def _computed_by(self, loop: CrashLoop) -> str | None:
        """Return the asset during whose computation the newest runs of `loop` ended; None unless it is the user's."""
        steps = {self._step_of(run_id) for run_id in loop.runs[:_LOOKED_AT]}
        if len(steps) > 1:
            return None
        step = steps.pop()
        node = next((each for each in self._graph.computed if self._namespace.name(each.name) == step), None)
        return None if node is None or edition_of(node) is None else node.name

    def _leave_out(self, transaction: Transaction, now: datetime, run: PlannedRun, asset: str, loop: CrashLoop) -> bool:
        """Write that the series of `asset` have failed; return False if runs do not leave it out for that."""
        code, timeframe = edition_of(self._graph.nodes[asset]), run.rectangle.timeframe
        due = ledger.pending(transaction, asset, timeframe, sorted(run.symbols), now, everything=False, code=code)
        reason = f"{_ENDED} {asset}; {ENDS_RUNS}"
        ledger.fail(transaction, asset, timeframe, dict.fromkeys(due["symbol"], reason), now, code=code)
        # The hosts of runs may have another edition of the user's file.
        return not due.is_empty() or loop.crashes <= _LOOKED_AT

    def _step_of(self, run_id: str) -> str | None:
        """Return the step that the run was at when it ended."""
        begun = [each.step_key for each in self._instance.get_run_step_stats(run_id) if each.end_time is None]
        return begun[0] if len(begun) == 1 else None

    @cached_property
    def _found(self) -> dict[Key, Pause]:
        failed = self._ended(DagsterRunStatus.FAILURE)
        if sum(run.is_crash for run in failed) <= SINGLE_CRASHES:
            return {}
        return pauses([*failed, *self._ended(DagsterRunStatus.SUCCESS)], self._now)

    def _ended(self, status: DagsterRunStatus) -> list[Ended]:
        chosen = RunsFilter(
            job_name=self._namespace.name(REFRESH_JOB),
            statuses=[status],
            tags={DEFER_TAG: "true"},
            updated_after=self._now - CRASHES_LOOKED_AT,
        )
        return [_of_record(record) for record in self._instance.get_run_records(chosen, limit=_MOST_RUNS)]


def pauses(ended: Iterable[Ended], now: datetime) -> dict[Key, Pause]:
    """Return the pauses that are not over at `now`, given runs that have succeeded or failed, in any order."""
    found = {}
    for loop in loops_among(ended):
        length = min(_FIRST * 2 ** (loop.crashes - SINGLE_CRASHES - 1), _LONGEST)
        ends = loop.last_at + length
        # A crash in the future was noted by a clock that was ahead.
        if now < ends <= now + length:
            found[loop.timeframe, loop.lane] = Pause(loop, ends)
    return found


def _of_record(record: RunRecord) -> Ended:
    run = record.dagster_run
    at = record.update_timestamp if record.end_time is None else datetime.fromtimestamp(record.end_time, UTC)
    # The tag names a series that has failed by itself.
    is_crash = run.status is DagsterRunStatus.FAILURE and FAILED_TAG not in run.tags
    return Ended(run.tags.get(TIMEFRAME_TAG, ""), run.tags.get(LANE_TAG, ""), at, is_crash, run.run_id)
