"""Why schedules and sensors launch less than they should, although no series has failed."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import NamedTuple

from ema_assets.store import diagnosis
from ema_assets.store.database import Transaction
from ema_assets.store.future_ticks import AHEAD

# In the failure of a signal or strategy of the user during whose computation runs have ended: no command can retry it.
ENDS_RUNS = "does it need too much memory, or end its process?"
# So many crashes in a row are nothing: somebody has killed a process, or a host has restarted.
SINGLE_CRASHES = 2
CRASHES_LOOKED_AT = timedelta(hours=1)
# Runs that end within so short a time have one cause, such as the end of their host.
_ONE_EVENT = timedelta(seconds=5)


class Ended(NamedTuple):
    """A run of a schedule or sensor that has ended (UTC). It crashed if it failed as a whole."""

    timeframe: str
    lane: str
    at: datetime
    is_crash: bool
    run_id: str


@dataclass(frozen=True, slots=True)
class CrashLoop:
    """The newest runs of a timeframe and lane, which have all crashed: which, how often, and when the last did.

    `runs` are the ids of the runs, the newest first.
    """

    timeframe: str
    lane: str
    runs: tuple[str, ...]
    crashes: int
    last_at: datetime

    def __str__(self) -> str:
        return (
            f"{self.timeframe} ({self.lane}): runs fail as a whole again and again; "
            "their pages in the Dagster UI say why"
        )


def loops_among(ended: Iterable[Ended]) -> list[CrashLoop]:
    """Return the timeframes and lanes that crash again and again, sorted; `ended` may be in any order."""
    places: defaultdict[tuple[str, str], list[Ended]] = defaultdict(list)
    for run in ended:
        places[run.timeframe, run.lane].append(run)
    found = []
    for (timeframe, lane), runs in sorted(places.items()):
        newest_first = sorted(runs, key=lambda run: (run.at, run.is_crash), reverse=True)
        crashed = list(takewhile(lambda run: run.is_crash, newest_first))
        crashes = _events(run.at for run in crashed)
        if crashes > SINGLE_CRASHES:
            found.append(CrashLoop(timeframe, lane, tuple(run.run_id for run in crashed), crashes, crashed[0].at))
    return found


def _events(times: Iterable[datetime]) -> int:
    """Return at how many times something happened; `times` are the newest first."""
    events, before = 0, None
    for at in times:
        if before is None or before - at >= _ONE_EVENT:
            events, before = events + 1, at
    return events


def crash_loops(transaction: Transaction, now: datetime) -> list[CrashLoop] | None:
    """Return the crash loops that Dagster's tables show; None if these are missing or may not be read."""
    found = diagnosis.ended_runs(transaction, now - CRASHES_LOOKED_AT)
    return None if found is None else loops_among(map(Ended._make, found.iter_rows()))


def held_up(transaction: Transaction, now: datetime) -> list[str]:
    """Return a sentence per reason why Dagster launches less than it should; none if it launches everything."""
    waiting = set_back(transaction, now)
    return [*([] if waiting is None else [waiting]), *map(str, crash_loops(transaction, now) or ())]


def set_back(transaction: Transaction, now: datetime) -> str | None:
    """Say that the clock was set back and until when Dagster waits; None when it was not.

    Dagster evaluates a schedule or a sensor only after its last tick.
    """
    tick_at = diagnosis.newest_tick_at(transaction)
    if tick_at is None or tick_at <= now + AHEAD:
        return None
    return f"the clock was set back: Dagster evaluates no schedule and no sensor before {tick_at:%Y-%m-%d %H:%M:%S} UTC"
