"""The check of runs that fail as a whole, again and again: their series do not say so, because they never failed."""

from collections.abc import Iterator
from datetime import timedelta

from ema_assets.doctor.declaration import Check, Finding, Surroundings, ok, warning
from ema_assets.store import diagnosis

_LOOKED_AT = timedelta(hours=1)
# One or two crashes happen: somebody has killed a process, or a host has restarted.
_MOST = 2
_REMEDY = "the pages of these runs in the Dagster UI say what has ended them, such as too little memory"


def _look(seen: Surroundings) -> Iterator[Finding]:
    if seen.database is None:
        return
    with seen.database.transaction() as transaction:
        crashed = diagnosis.crashed_runs(transaction, seen.now - _LOOKED_AT)
    if crashed is None:
        return
    loops = [row for row in crashed.iter_rows() if row[2] > _MOST]
    for timeframe, lane, runs, last_at in loops:
        newest = f"{last_at:%Y-%m-%d %H:%M:%S} UTC"
        yield warning(f"{timeframe} ({lane}): the last {runs} runs failed as a whole, the newest at {newest}", _REMEDY)
    if not loops:
        yield ok("none fails as a whole again and again")


CHECK = Check("runs", 96, _look)
