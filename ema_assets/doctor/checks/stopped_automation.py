"""The check of schedules and sensors: whether somebody stopped one in the UI, which a restart does not undo."""

from collections.abc import Iterator

from ema_assets.doctor.declaration import Check, Finding, Surroundings, ok, warning
from ema_assets.store import diagnosis

_REMEDY = 'start it in the Dagster UI under "Automation", or reset it there'
# The consequence of stopping each one. The sweep does the work of a stopped schedule later.
_WAITS = {
    "sweep": "what no schedule sees to waits: corrections, files, failed attempts, first results of new symbols",
    "sync_watchlist": "new symbols are not loaded, and no other edit of the watchlist is taken up",
    "maintenance": "the record of runs grows",
    "performance": "performance is not added up",
    "performance_of_new_series": "performance of new series waits for its schedule",
    "deliver_alerts": "alerts go out only where `ema-assets up` or `ema-assets alerts deliver` runs",
}


def _look(seen: Surroundings) -> Iterator[Finding]:
    if seen.database is None or seen.watched is None:
        return
    waits = {
        **_WAITS,
        **{f"refresh_{each.key}": f"new {each.key} bars wait for the sweep" for each in seen.watched.with_bars},
    }
    with seen.database.transaction() as transaction:
        stopped = diagnosis.stopped_automation(transaction)
    if stopped is None:
        return
    # In a component of another project, the names have a prefix, such as `eu__sweep`.
    found = [(name, waits[own]) for name in stopped if (own := name.rpartition("__")[2]) in waits]
    for name, consequence in found:
        yield warning(f"{name} is stopped: {consequence}", _REMEDY)
    if not found:
        yield ok("none was stopped in the Dagster UI")


CHECK = Check("schedules and sensors", 95, _look)
