"""The tables `[calendar.CODE]` of a watchlist: days on which an exchange differs from its calendar. Parses, no I/O."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import date, datetime, time
from typing import Any

from ema_assets.model.errors import WatchlistError, did_you_mean
from ema_assets.model.special_days import SpecialDays
from ema_assets.model.symbols import without_hours

_EXAMPLE = 'extra = [2026-02-01, { day = 2025-10-21, open = "18:00", close = "19:00" }]'


def special_days(tables: Any, used: Collection[str], where: str) -> dict[str, SpecialDays]:
    """Return the special days of every calendar in `tables`. `used` are the calendars of the groups.

    Raises:
        WatchlistError: naming the calendar, the entry and what is allowed.
    """
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise WatchlistError(f"{where}: special days stand in a table of their calendar, such as `[calendar.XBOM]`")
    exchanges = {without_hours(calendar) for calendar in used}
    found = {}
    for code, table in tables.items():
        if code not in exchanges:
            raise WatchlistError(
                f"{where}: `[calendar.{code}]`: no group has the calendar {code!r}, in use are "
                f"{', '.join(sorted(exchanges))}{did_you_mean(code, exchanges)}"
            )
        found[code] = _special_days(table, f"{where}: calendar {code}")
    return found


def _special_days(table: Mapping[str, Any], where: str) -> SpecialDays:
    for key in table:
        if key not in ("extra", "closed"):
            raise WatchlistError(f"{where}: unknown key `{key}`, allowed are extra, closed")
    extra = dict(_extra(entry, where) for entry in _list(table, "extra", where))
    closed = frozenset(_day(entry, f"{where}: closed") for entry in _list(table, "closed", where))
    for day in sorted(closed & set(extra)):
        raise WatchlistError(f"{where}: {day} is both in `extra` and in `closed`; keep one of them")
    return SpecialDays(extra, closed)


def _list(table: Mapping[str, Any], key: str, where: str) -> list[Any]:
    entries = table.get(key, [])
    if not isinstance(entries, list):
        raise WatchlistError(f"{where}: `{key}` must be a list of days such as [2026-02-01], received {entries!r}")
    return entries


def _extra(entry: Any, where: str) -> tuple[date, tuple[time, time] | None]:
    where = f"{where}: extra"
    if not isinstance(entry, dict):
        return _day(entry, where), None
    if set(entry) != {"day", "open", "close"}:
        raise WatchlistError(f"{where}: a day with hours needs day, open and close, such as `{_EXAMPLE}`")
    opened, closed = (_hour(entry[key], f"{where}: `{key}`") for key in ("open", "close"))
    if opened >= closed:
        raise WatchlistError(f"{where}: `open` must be before `close`, received {opened} and {closed}")
    return _day(entry["day"], where), (opened, closed)


def _day(entry: Any, where: str) -> date:
    if isinstance(entry, str):
        with suppress(ValueError):
            return date.fromisoformat(entry)
    if isinstance(entry, date) and not isinstance(entry, datetime):
        return entry
    raise WatchlistError(f"{where}: a day must be written 2026-02-01, received {entry!r}")


def _hour(entry: Any, where: str) -> time:
    moment = entry
    if isinstance(entry, str):
        with suppress(ValueError):
            moment = time.fromisoformat(entry)
    if isinstance(moment, time) and moment.tzinfo is None:
        return moment
    raise WatchlistError(f'{where} must be a time at the exchange such as "18:00", received {entry!r}')
