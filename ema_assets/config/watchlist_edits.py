"""Changes to the watchlist file that keep its comments: symbols added and removed, by one process at a time."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tomlkit

from ema_assets.config import shared_files, watchlist
from ema_assets.market.listings import listing_of, symbol_of
from ema_assets.model.errors import EmptyWatchlist, WatchlistError
from ema_assets.model.symbols import DEFAULT_CALENDAR, Instrument


def instrument_of(symbol: str, calendar: str | None = None, provider: str | None = None) -> Instrument:
    """Return `symbol` with a calendar, and whether its prices may be negative.

    Without `calendar`, both follow from how the symbol is written.

    Raises:
        InvalidKeyError: when it is malformed.
        UnclearSymbol: when its calendar does not follow from how it is written, or it is written as elsewhere.
    """
    symbol = symbol_of(symbol)
    if calendar is not None:
        return Instrument(symbol, calendar, provider)
    listing = listing_of(symbol)
    return Instrument(symbol, listing.calendar, provider, listing.asset_class == "futures")


def add_instruments(path: Path, instruments: Iterable[Instrument]) -> list[str]:
    """Append `instruments` to the file at `path`, each to the group that fits; return the symbols that were not there.

    The file may list no symbol yet.

    Raises:
        WatchlistError: when the file is missing or malformed.
    """
    wanted = {each.symbol: each for each in instruments}

    def add(document: tomlkit.TOMLDocument, known: frozenset[str]) -> list[str]:
        added = [each for each in wanted.values() if each.symbol not in known]
        for each in added:
            _group_for(document, each)["symbols"].append(each.symbol)
        return [each.symbol for each in added]

    return _edit(path, add)


def remove_symbols(path: Path, symbols: Iterable[str]) -> list[str]:
    """Remove `symbols` from the file at `path`; return those that were there.

    Raises:
        WatchlistError: when the file is missing or malformed, or would be left without a symbol, and when an alert
            names one of them.
    """
    wanted = list(dict.fromkeys(symbols))

    def remove(document: tomlkit.TOMLDocument, known: frozenset[str]) -> list[str]:
        removed = [symbol for symbol in wanted if symbol in known]
        _refuse_named(document, removed, path)
        for symbol in removed:
            for group in document["group"]:
                if symbol in group.get("symbols", []):
                    group["symbols"].remove(symbol)
        return removed

    try:
        return _edit(path, remove)
    except EmptyWatchlist:
        raise EmptyWatchlist(
            f"{path}: the last symbol cannot be removed; add another one first, as in `ema-assets symbols add NVDA`, "
            "or stop everything with `ema-assets down`"
        ) from None


def _refuse_named(document: tomlkit.TOMLDocument, symbols: list[str], path: Path) -> None:
    """Refuse to remove symbols that an alert names: an alert without its last symbol would be about all symbols."""
    for number, alert in enumerate(document.get("alert", []), start=1):
        if named := [symbol for symbol in symbols if symbol in alert.get("symbols", [])]:
            them = "it" if len(named) == 1 else "them"
            raise WatchlistError(
                f"{path}: the alert {str(alert.get('name', f'alert {number}'))!r} still names {', '.join(named)}; take "
                f"{them} out of its `symbols`, or the alert out of the file, and remove {them} then"
            )


def listed(path: Path) -> tuple[str, ...]:
    """Return the symbols in the file at `path`, possibly none: for a caller that is about to add some.

    Raises:
        WatchlistError: when the file is missing or malformed.
    """
    return _listed(watchlist.read_text(path), path)


def _listed(text: str, path: Path) -> tuple[str, ...]:
    try:
        return watchlist.parse(text, str(path)).symbols
    except EmptyWatchlist:
        return ()


_Change = Callable[[tomlkit.TOMLDocument, frozenset[str]], list[str]]


def _edit(path: Path, change: _Change) -> list[str]:
    """Apply `change`, which receives the listed symbols, to the file at `path`; return the symbols that it changed."""
    # Read here, too: a file that is missing or malformed is refused before a file is made next to it.
    listed(path)
    with shared_files.locked(path) as target:
        text = watchlist.read_text(path)
        known = frozenset(_listed(text, path))
        document = tomlkit.parse(text)
        changed = change(document, known)
        if changed:
            edited = tomlkit.dumps(document)
            watchlist.parse(edited, str(path))
            shared_files.replace_text(target, edited)
    return changed


def _group_for(document: tomlkit.TOMLDocument, instrument: Instrument) -> Any:
    """Return the first group that fits `instrument`, with regular hours and the file's timeframes, or a new one."""
    if not document.get("group"):
        # `group = []` is an array of values, to which tables cannot be appended.
        document.pop("group", None)
        document["group"] = tomlkit.aot()
    groups: Any = document["group"]
    for group in groups:
        if (
            "symbols" in group
            and "timeframes" not in group
            and group.get("calendar", DEFAULT_CALENDAR) == instrument.calendar
            and group.get("hours", watchlist.REGULAR_HOURS) == watchlist.REGULAR_HOURS
            and group.get("provider") == instrument.provider
            and group.get("allow_negative", False) == instrument.allow_negative
        ):
            return group
    added = tomlkit.table()
    added["name"] = ("Added" if instrument.is_fetched else "From files") + f", {instrument.calendar}"
    added["calendar"] = instrument.calendar
    if instrument.provider is not None:
        added["provider"] = instrument.provider
    if instrument.allow_negative:
        added["allow_negative"] = True
    added["symbols"] = tomlkit.array()
    groups.append(added)
    return groups[-1]
