"""The rows `[[alert]]` and the table `[channels]` of a watchlist, read into subscriptions. No I/O.

The content of a URL is never shown, because it may be a secret.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import time
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ema_assets.alerts.channels import Channel, inline_channel, problem_with_template
from ema_assets.alerts.discovery import discover
from ema_assets.alerts.quiet_hours import QuietHours
from ema_assets.alerts.subscriptions import GROUP_SECONDS, Alerts, Subscription
from ema_assets.model.declarations import Param
from ema_assets.model.errors import WatchlistError, did_you_mean
from ema_assets.model.timeframes import Timeframe

_FILTERS = ("symbols", "groups", "timeframes", "strategies", "averages")
_KEYS = ("name", "on", "to", *_FILTERS, "quiet_hours", "time_zone", "messages_per_hour", "group_seconds")
_GROUP_SECONDS = Param(GROUP_SECONDS, "", least=0, most=86_400)
_MESSAGES = Param(60, "", least=1, most=3_600)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\- ]{0,47}")
_QUIET = re.compile(r"([0-2]\d):([0-5]\d)-([0-2]\d):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class Listed:
    """The parts of the watchlist that alerts refer to: symbols, their groups, and the timeframes with bars."""

    symbols: Sequence[str]
    groups: Mapping[str, Sequence[str]]
    timeframes: Sequence[Timeframe]


def alerts(rows: Sequence[Mapping[str, Any]], channels: Any, listed: Listed, where: str) -> Alerts | None:
    """Return the subscriptions in `rows` and the `channels` that are named; None when there is no row.

    Raises:
        WatchlistError: naming the row, the key, what was received and what is allowed.
    """
    known = _channels(channels, where)
    found: dict[str, Subscription] = {}
    for number, row in enumerate(rows, start=1):
        name = row.get("name", f"alert {number}")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise WatchlistError(
                f"{where}: alert {number}: `name` must be 1 to 48 letters, digits, blanks or . _ -, received "
                f"{_shown(name)}"
            )
        if name in found:
            raise WatchlistError(f"{where}: alert {name!r}: the name is used twice; keep one of them")
        found[name] = _subscription(row, name, known, listed, f"{where}: alert {name!r}")
    return Alerts(tuple(found.values()), known) if found else None


def _channels(table: Any, where: str) -> dict[str, Channel]:
    if not isinstance(table, dict) or not all(isinstance(url, str) for url in table.values()):
        raise WatchlistError(
            f"{where}: `channels` must be a table of URLs by name, such as `[channels]` with "
            '`phone = "tgram://${TELEGRAM_TOKEN}/${TELEGRAM_CHAT}"`'
        )
    for name, url in table.items():
        if not _NAME.fullmatch(name):
            raise WatchlistError(
                f"{where}: channels: a name must be 1 to 48 letters, digits, blanks or . _ -, received {_shown(name)}"
            )
        if problem := problem_with_template(url):
            raise WatchlistError(f"{where}: channels: `{name}` {problem}")
    return {name: Channel(name, url) for name, url in table.items()}


def _subscription(
    row: Mapping[str, Any], name: str, channels: dict[str, Channel], listed: Listed, where: str
) -> Subscription:
    kinds = _kinds(row, where)
    params = {key: param for kind in kinds for key, param in discover()[kind].params.items()}
    _only(row, (*_KEYS, *params), where)
    _refuse_idle_filters(row, kinds, where)
    timeframes = _names(row, "timeframes", [each.key for each in listed.timeframes], where)
    per_hour = row.get("messages_per_hour")
    return Subscription(
        name=name,
        kinds=kinds,
        to=_to(row, channels, where),
        symbols=_symbols(row, listed, where),
        timeframes=timeframes,
        # The graph of assets determines which ones exist.
        strategies=_names(row, "strategies", None, where),
        averages=_names(row, "averages", None, where),
        params={key: _value(row, key, param, where) for key, param in params.items()},
        quiet=_quiet(row, where),
        messages_per_hour=None if per_hour is None else _value(row, "messages_per_hour", _MESSAGES, where),
        group_seconds=_value(row, "group_seconds", _GROUP_SECONDS, where),
    )


def _shown(value: object) -> str:
    """Return what was received, unless it contains a URL."""
    return "a URL" if "://" in str(value) else repr(value)


def _only(row: Mapping[str, Any], allowed: Iterable[str], where: str) -> None:
    for key in row:
        if key not in allowed:
            owners = [kind.name for kind in discover().values() if key in kind.params]
            hint = f"; it is a key of {', '.join(owners)}" if owners else did_you_mean(key, allowed)
            raise WatchlistError(f"{where}: unknown key `{key}`, allowed are {', '.join(allowed)}{hint}")


def _refuse_idle_filters(row: Mapping[str, Any], kinds: Sequence[str], where: str) -> None:
    """Refuse a filter that narrows none of `kinds`: its writer expects fewer alerts than would be sent."""
    for key in _FILTERS:
        narrowed = [kind.name for kind in discover().values() if key in kind.filters]
        if key in row and not set(narrowed) & set(kinds):
            raise WatchlistError(
                f"{where}: `{key}` does not apply to {', '.join(kinds)}; leave it out, for it narrows only "
                f"{', '.join(narrowed)}"
            )


def _kinds(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    known = discover()
    on = row.get("on")
    if not isinstance(on, list) or not on or not all(isinstance(each, str) for each in on):
        received = "it is missing" if on is None else f"received {_shown(on)}"
        raise WatchlistError(f'{where}: `on` must be a list such as ["crossover", "entry"], {received}')
    for each in on:
        if each not in known:
            raise WatchlistError(
                f"{where}: `on` must name kinds of alerts, {', '.join(known)}; received {_shown(each)}"
                f"{did_you_mean(each, known)}"
            )
    return tuple(dict.fromkeys(on))


def _to(row: Mapping[str, Any], channels: dict[str, Channel], where: str) -> tuple[str, ...]:
    """Return the names of the channels; URLs that are written here directly are added to `channels`."""
    entries = row.get("to")
    if not isinstance(entries, list) or not entries or not all(isinstance(each, str) for each in entries):
        raise WatchlistError(
            f"{where}: `to` must be a list of names of `[channels]` and of URLs such as "
            '["tgram://${TELEGRAM_TOKEN}/${TELEGRAM_CHAT}"]' + (", it is missing" if entries is None else "")
        )
    names = []
    for number, entry in enumerate(entries, start=1):
        if entry in channels:
            names.append(entry)
            continue
        if problem := problem_with_template(entry):
            # The entry is not shown: it may be a token.
            raise WatchlistError(f"{where}: `to`, entry {number}: {problem}{_named(entry, channels)}")
        channel = inline_channel(entry)
        channels[channel.name] = channel
        names.append(channel.name)
    return tuple(dict.fromkeys(names))


def _named(entry: str, channels: Mapping[str, Channel]) -> str:
    """Return which names `entry` may have been meant as; nothing when it was meant as a URL."""
    if "://" in entry or "$" in entry:
        return ""
    named = f"the names of `[channels]` are {', '.join(channels)}" if channels else "there are no `[channels]`"
    return f"; {named}{did_you_mean(entry, channels)}"


def _symbols(row: Mapping[str, Any], listed: Listed, where: str) -> tuple[str, ...] | None:
    symbols = _names(row, "symbols", listed.symbols, where)
    groups = _names(row, "groups", listed.groups, where)
    if symbols is None and groups is None:
        return None
    of_groups = (symbol for group in groups or () for symbol in listed.groups[group])
    return tuple(dict.fromkeys([*(symbols or ()), *of_groups]))


def _names(row: Mapping[str, Any], key: str, allowed: Iterable[str] | None, where: str) -> tuple[str, ...] | None:
    """Return the names that a filter lists; None when it is not given."""
    given = row.get(key)
    if given is None:
        return None
    if not isinstance(given, list) or not given or not all(isinstance(each, str) for each in given):
        raise WatchlistError(f"{where}: `{key}` must be a list of texts with one at least, received {_shown(given)}")
    known = None if allowed is None else list(allowed)
    for each in given:
        if known is not None and each not in known:
            shown = ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
            raise WatchlistError(
                f"{where}: `{key}` must name {key} of the watchlist, {shown or 'of which there are none'}; received "
                f"{_shown(each)}{did_you_mean(each, known)}"
            )
    return tuple(dict.fromkeys(given))


def _value(row: Mapping[str, Any], key: str, param: Param, where: str) -> Any:
    if key not in row:
        return param.default
    if problem := param.problem_with(row[key]):
        raise WatchlistError(f"{where}: `{key}` {problem}")
    return type(param.default)(row[key])


def _quiet(row: Mapping[str, Any], where: str) -> QuietHours | None:
    hours, zone = row.get("quiet_hours"), row.get("time_zone")
    if hours is None and zone is None:
        return None
    times = _times(hours)
    if times is None:
        received = "it is missing" if hours is None else f"received {_shown(hours)}"
        raise WatchlistError(f'{where}: `quiet_hours` must be two different times such as "22:00-07:00", {received}')
    if isinstance(zone, str):
        with suppress(ZoneInfoNotFoundError, ValueError, OSError):
            return QuietHours(*times, ZoneInfo(zone))
    received = "it is missing" if zone is None else f"received {_shown(zone)}"
    raise WatchlistError(f'{where}: `quiet_hours` need a `time_zone` such as "America/New_York" or "UTC", {received}')


def _times(hours: object) -> tuple[time, time] | None:
    match = _QUIET.fullmatch(hours) if isinstance(hours, str) else None
    if match is None:
        return None
    first, first_minute, last, last_minute = map(int, match.groups())
    if max(first, last) > 23 or (first, first_minute) == (last, last_minute):
        return None
    return time(first, first_minute), time(last, last_minute)
