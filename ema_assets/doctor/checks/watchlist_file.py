"""The check of the watchlist: whether it can be read, and whether it could be synced to the database."""

from collections.abc import Iterator

from ema_assets.doctor.declaration import Check, Finding, Surroundings, error, ok
from ema_assets.model.counts import counted
from ema_assets.store import sync_failures


def _look(seen: Surroundings) -> Iterator[Finding]:
    path = seen.settings.watchlist_path
    if seen.watched is None:
        yield error(seen.watchlist_error or str(path), "correct the file; a running `up` launches nothing until then")
    elif not path.exists():
        yield ok(f"{path} is not there yet; the first command that needs it writes the default one")
    else:
        timeframes = ", ".join(each.key for each in seen.watched.timeframes)
        yield ok(f"{path}: {counted(len(seen.watched.instruments), 'symbol')} on {timeframes}")
    yield from _not_synced(seen)


def _not_synced(seen: Surroundings) -> Iterator[Finding]:
    if seen.database is None or not seen.is_migrated:
        return
    with seen.database.transaction() as transaction:
        transaction.read_one_moment()
        failure = sync_failures.last(transaction)
    if failure is not None:
        text = f"not taken up since {failure.since:%Y-%m-%d %H:%M} UTC: {failure.reason}"
        yield error(text, "mend that; Dagster tries again every ten seconds, and goes on with the last one until then")


CHECK = Check("watchlist", 60, _look)
