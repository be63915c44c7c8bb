"""The check of runs that fail as a whole, again and again: their series do not say so, because they never failed."""

from collections.abc import Iterator

from ema_assets.doctor.declaration import Check, Finding, Surroundings, ok, warning
from ema_assets.reports import automation

_REMEDY = "the pages of these runs in the Dagster UI say what has ended them, such as too little memory"


def _look(seen: Surroundings) -> Iterator[Finding]:
    if seen.database is None:
        return
    with seen.database.transaction() as transaction:
        loops = automation.crash_loops(transaction, seen.now)
    if loops is None:
        return
    for loop in loops:
        newest = f"{loop.last_at:%Y-%m-%d %H:%M:%S} UTC"
        what = f"the last {len(loop.runs)} runs failed as a whole, the newest at {newest}"
        yield warning(f"{loop.timeframe} ({loop.lane}): {what}", _REMEDY)
    if not loops:
        yield ok("none fails as a whole again and again")


CHECK = Check("runs", 96, _look)
