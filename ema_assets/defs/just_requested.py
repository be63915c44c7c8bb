"""Runs that a tick of this process has just requested: for some seconds, other ticks do not find them in Dagster."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ema_assets.refresh.runs import PlannedRun

# The daemon creates the runs of a tick when the tick is over, one after another. A tick that fails creates none.
_LONGEST = timedelta(seconds=30)
# The clock of the database may be behind ours by as much.
_CLOCKS_APART = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class _Request:
    at: datetime
    tick: str
    run: PlannedRun


class JustRequested:
    """The runs requested by concurrent ticks of schedules and sensors.

    Ticks are distinguished by name. A tick finds its own earlier requests in Dagster when it looks again.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._requests: list[_Request] = []

    def plan(
        self,
        tick: str,
        now: datetime,
        made_since: Callable[[datetime], set[tuple[str, str]]],
        plan: Callable[[list[PlannedRun]], list[PlannedRun]],
    ) -> list[PlannedRun]:
        """Return the runs that `plan` makes, given what other ticks have requested and Dagster does not know yet.

        The returned runs are noted for other ticks.

        Args:
            tick: the name of the schedule or sensor that plans.
            now: the machine's time.
            made_since: returns the first and last series of the runs that Dagster has created since a time; called only
                when there is a request of another tick.
            plan: receives the requests of the other ticks.
        """
        with self._turn:
            young = [each for each in self._requests if abs(now - each.at) < _LONGEST]
            others = [each for each in young if each.tick != tick]
            if others:
                made = made_since(min(each.at for each in others) - _CLOCKS_APART)
                known = [each for each in others if each.run.rectangle.corners in made]
                young = [each for each in young if each not in known]
                others = [each for each in others if each not in known]
            runs = plan([each.run for each in others])
            self._requests = [*young, *(_Request(now, tick, run) for run in runs)]
            return runs
