"""Changes of the watchlist file that keep its comments: symbols added and removed, one process at a time."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tomlkit

from ema_assets.config import shared_files, watchlist
from ema_assets.model.symbols import ALWAYS_OPEN, DEFAULT_CALENDAR, FROM_FILES, parse_symbol

# Pairs as BTC-USD, BTCUSDT, ETHUSD.KRAKEN; exchanges by the suffix that a symbol has.
_PAIR = re.compile(r"[A-Z0-9]{2,10}-(USD|USDT|USDC|EUR|BTC|ETH)|[A-Z0-9]{3,6}(USD|USDT|BUSD|USDC)(\.[A-Z]+)?")
_CALENDAR_BY_SUFFIX = {
    "L": "XLON",
    "PA": "XPAR",
    "AS": "XAMS",
    "BR": "XBRU",
    "DE": "XFRA",
    "SW": "XSWX",
    "MI": "XMIL",
    "MC": "XMAD",
    "TO": "XTSE",
    "HK": "XHKG",
    "T": "XTKS",
    "AX": "XASX",
    "NS": "XBOM",
    "BO": "XBOM",
    "JO": "XJSE",
    "SA": "BVMF",
}


def likely_calendar(symbol: str) -> str:
    """The calendar on which a symbol most likely trades, judged by the way vendors write symbols."""
    if _PAIR.fullmatch(symbol):
        return ALWAYS_OPEN
    _, dot, suffix = symbol.rpartition(".")
    return _CALENDAR_BY_SUFFIX.get(suffix, DEFAULT_CALENDAR) if dot else DEFAULT_CALENDAR


def add_symbols(
    path: Path, symbols: Iterable[str], calendar: str | None = None, provider: str | None = None
) -> list[str]:
    """Append `symbols` to the file at `path`; return those that were not there yet.

    They go to the first group with this calendar and provider, or to a new group when there is none. Without
    `calendar`, it is guessed from the symbol by `likely_calendar`.

    Raises:
        WatchlistError: when the file is missing or malformed. InvalidKeyError: when a symbol is malformed.
    """
    wanted = [parse_symbol(symbol) for symbol in dict.fromkeys(symbols)]

    def add(document: tomlkit.TOMLDocument, known: frozenset[str]) -> list[str]:
        added = [symbol for symbol in wanted if symbol not in known]
        for symbol in added:
            _group_for(document, calendar or likely_calendar(symbol), provider)["symbols"].append(symbol)
        return added

    return _edit(path, add)


def remove_symbols(path: Path, symbols: Iterable[str]) -> list[str]:
    """Remove `symbols` from the file at `path`; return those that were there.

    Raises:
        WatchlistError: when the file is missing or malformed, or would be left without a symbol.
    """
    wanted = list(dict.fromkeys(symbols))

    def remove(document: tomlkit.TOMLDocument, known: frozenset[str]) -> list[str]:
        removed = [symbol for symbol in wanted if symbol in known]
        for symbol in removed:
            for group in document["group"]:
                if symbol in group.get("symbols", []):
                    group["symbols"].remove(symbol)
        return removed

    return _edit(path, remove)


_Change = Callable[[tomlkit.TOMLDocument, frozenset[str]], list[str]]


def _edit(path: Path, change: _Change) -> list[str]:
    """Apply `change` to the file at `path` and return the symbols that it changed; it is given the symbols listed."""
    # Read here too: a file that is missing or malformed is refused before anything is made beside it.
    watchlist.load(path)
    with shared_files.locked(path) as target:
        text = watchlist.read_text(path)
        known = frozenset(watchlist.parse(text, str(path)).symbols)
        document = tomlkit.parse(text)
        changed = change(document, known)
        if changed:
            edited = tomlkit.dumps(document)
            watchlist.parse(edited, str(path))
            shared_files.replace_text(target, edited)
    return changed


def _group_for(document: tomlkit.TOMLDocument, calendar: str, provider: str | None) -> Any:
    """The first group with this calendar and provider and regular hours; a new one when there is none."""
    groups: Any = document.setdefault("group", tomlkit.aot())
    for group in groups:
        if (
            "symbols" in group
            and group.get("calendar", DEFAULT_CALENDAR) == calendar
            and group.get("hours", watchlist.REGULAR_HOURS) == watchlist.REGULAR_HOURS
            and group.get("provider") == provider
        ):
            return group
    added = tomlkit.table()
    added["name"] = f"From files, {calendar}" if provider == FROM_FILES else f"Added, {calendar}"
    added["calendar"] = calendar
    if provider is not None:
        added["provider"] = provider
    added["symbols"] = tomlkit.array()
    groups.append(added)
    return groups[-1]
