"""The check of the watchlist: whether it can be read, and what it names exists."""

from collections.abc import Iterator

from ema_assets.doctor.declaration import Check, Finding, Surroundings, error, ok, warning


def _look(seen: Surroundings) -> Iterator[Finding]:
    path = seen.settings.watchlist_path
    if seen.watched is None:
        yield error(seen.watchlist_error or str(path), "correct the file; a running `up` goes on with what it has read")
    elif not path.exists():
        yield ok(f"{path} is not there yet; the first command that needs it writes the default one")
    elif not seen.watched.instruments:
        yield warning(f"{path} names no symbol", "add some with `ema-assets symbols add`")
    else:
        timeframes = ", ".join(each.key for each in seen.watched.timeframes)
        yield ok(f"{path}: {len(seen.watched.instruments)} symbols on {timeframes}")


CHECK = Check("watchlist", 60, _look)
