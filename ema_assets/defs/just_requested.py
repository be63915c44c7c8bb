"""Runs that a tick of this process has just requested: for some seconds no other tick finds them in Dagster."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ema_assets.refresh.runs import PlannedRun

# The daemon makes the runs of a tick when the tick is over, one after another. A tick that fails makes none.
_LONGEST = timedelta(seconds=30)
# So far the clock of the database may be behind ours.
_CLOCKS_APART = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class _Request:
    at: datetime
    tick: str
    run: PlannedRun


class JustRequested:
    """What ticks of schedules and sensors, at work side by side, have requested.

    A tick is told from others by its name. What it has requested itself is known when it looks again.
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
        """The runs that `plan` makes of what other ticks have requested and Dagster does not know; noted for others.

        Args:
            tick: the name of the schedule or sensor that asks.
            now: the machine's time.
            made_since: the first and last series of the runs that Dagster has made since a time; asked only where there
                is a request of another tick.
            plan: gets these requests.
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
