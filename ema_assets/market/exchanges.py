"""Makes sessions from exchange_calendars, and by our own rules where it does not fit. No I/O and no clock.

`calendars` works with sessions. Importing the library costs about 1.5 CPU seconds, so it is imported when sessions are
requested, and runs read them from the database.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from ema_assets.model.errors import ConfigurationError, did_you_mean
from ema_assets.model.schemas import SESSION_SCHEMA, UTC_TIME
from ema_assets.model.special_days import NO_SPECIAL_DAYS, SpecialDays
from ema_assets.model.symbols import (
    ALWAYS_OPEN,
    DEFAULT_CALENDAR,
    EXTENDED_CALENDARS,
    EXTENDED_SUFFIX,
    FX_CALENDAR,
    without_hours,
)

# New York: 04:00 to 20:00 around 09:30 to 16:00, and to 17:00 after an early close at 13:00 (NYSE Arca's and Nasdaq's
# published hours).
_EARLY, _LATE = timedelta(hours=5, minutes=30), timedelta(hours=4)
# A day of foreign exchange begins and ends at 17:00 New York: the convention of spot FX, when value dates roll over.
_NEW_YORK = ZoneInfo("America/New_York")
_FX_ROLLOVER = time(17)
# CME Globex trades from 17:00 to 16:00 Chicago (CME's published hours). The library leaves out the hour's pause.
_GLOBEX_HOURS = timedelta(hours=23)
_GLOBEX = ("CMES", "us_futures")
# The first and the last day requested from the library must not be holidays.
_MARGIN = timedelta(days=14)
_SATURDAY = 5
# The library's value for no break. It is not enough to test for numbers below zero, which are times before 1970.
_NOT_A_TIME = -(2**63)
# The version of the rules in this module. A new number makes every database compute its sessions again.
RULES_VERSION = 1


def known_calendars() -> list[str]:
    """Return the names of the library's calendars that a watchlist may use, sorted."""
    import exchange_calendars

    return sorted(exchange_calendars.get_calendar_names(include_aliases=True))


def fingerprint(special: SpecialDays) -> str:
    """Return what the sessions of a calendar depend on in addition to its name. If it differs, so may the sessions."""
    return f"{RULES_VERSION} exchange_calendars {_library_version()} {special}".rstrip()


@cache
def _library_version() -> str:
    """Return the library's version. It is read once, because finding an installed package takes milliseconds."""
    from importlib.metadata import version

    return version("exchange_calendars")


def exchange_sessions(calendar: str, start: date, end: date, special: SpecialDays = NO_SPECIAL_DAYS) -> pl.DataFrame:
    """Return the sessions of `calendar` (SESSION_SCHEMA) from `start` to `end`, both included, with `special` days.

    They are in ascending order. `24/7` has one session per UTC day, from midnight to midnight. `24/5` is foreign
    exchange: from 17:00 to 17:00 New York, Monday to Friday. `XNYS extended` has the sessions of `XNYS` with the hours
    before and after. After the last year for which the library knows an exchange's holidays, every weekday is a
    session; see `holidays_known_through`.

    Raises:
        ConfigurationError: when exchange_calendars does not know `calendar` or cannot build it, or when the hours of a
            special day reach into another session.
    """
    if calendar == ALWAYS_OPEN:
        sessions = _always_open(start, end)
    elif calendar == FX_CALENDAR:
        sessions = _foreign_exchange(start, end)
    elif calendar.endswith(EXTENDED_SUFFIX):
        return _extended(calendar, start, end, special)
    else:
        sessions = _of_library(calendar, start, end)
    return _with_special_days(sessions, calendar, start, end, special)


def zone_of(calendar: str) -> ZoneInfo:
    """Return the time zone of the exchange.

    Raises:
        ConfigurationError: as in `exchange_sessions`.
    """
    if calendar == ALWAYS_OPEN:
        return ZoneInfo("UTC")
    if calendar == FX_CALENDAR:
        return _NEW_YORK
    return ZoneInfo(str(_library_calendar(without_hours(calendar)).tz))


def holidays_known_through(calendar: str) -> date | None:
    """Return the last day for which the holidays of `calendar` are known, or None if they follow rules without end.

    Raises:
        ConfigurationError: as in `exchange_sessions`.
    """
    if calendar in (ALWAYS_OPEN, FX_CALENDAR, DEFAULT_CALENDAR):
        return None
    last = _library_calendar(without_hours(calendar)).bound_max()
    return None if last is None else last.date()


def _frame(days: list[date], opened: Callable[[date], datetime], closed: Callable[[date], datetime]) -> pl.DataFrame:
    """Return sessions on `days` without a break; the column `calendar` and regular hours are still missing."""
    return pl.DataFrame(
        {"session": days, "open": [opened(day) for day in days], "close": [closed(day) for day in days]},
        schema={"session": pl.Date, "open": UTC_TIME, "close": UTC_TIME},
    ).with_columns(break_start=pl.lit(None, UTC_TIME), break_end=pl.lit(None, UTC_TIME))


def _as_sessions(frame: pl.DataFrame, calendar: str) -> pl.DataFrame:
    return (
        frame.with_columns(calendar=pl.lit(calendar), regular_open="open", regular_close="close")
        .select(list(SESSION_SCHEMA))
        .match_to_schema(SESSION_SCHEMA)
    )


def _days(start: date, end: date) -> list[date]:
    return [start + timedelta(days=number) for number in range((end - start).days + 1)]


def _weekdays(start: date, end: date) -> list[date]:
    return [day for day in _days(start, end) if day.weekday() < _SATURDAY]


def _always_open(start: date, end: date) -> pl.DataFrame:
    days = pl.date_range(start, end, "1d", eager=True).alias("session")
    opens = pl.col("session").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    frame = pl.DataFrame({"session": days}).with_columns(
        open=opens,
        close=opens.dt.offset_by("1d"),
        break_start=pl.lit(None, UTC_TIME),
        break_end=pl.lit(None, UTC_TIME),
    )
    return _as_sessions(frame, ALWAYS_OPEN)


def _foreign_exchange(start: date, end: date) -> pl.DataFrame:
    def at_rollover(day: date) -> datetime:
        return datetime.combine(day, _FX_ROLLOVER, _NEW_YORK)

    # The two days on which banks are closed everywhere.
    days = [day for day in _weekdays(start, end) if (day.month, day.day) not in ((1, 1), (12, 25))]
    return _as_sessions(_frame(days, lambda day: at_rollover(day - timedelta(days=1)), at_rollover), FX_CALENDAR)


def _extended(calendar: str, start: date, end: date, special: SpecialDays) -> pl.DataFrame:
    exchange = without_hours(calendar)
    if exchange not in EXTENDED_CALENDARS:
        raise ConfigurationError(
            f"extended hours are known for the calendars {', '.join(EXTENDED_CALENDARS)}, received {exchange!r}"
        )
    sessions = exchange_sessions(exchange, start, end, special).with_columns(
        pl.lit(calendar).alias("calendar"), pl.col("open") - _EARLY, pl.col("close") + _LATE
    )
    _check_apart(sessions, calendar, special)
    return sessions


def _of_library(calendar: str, start: date, end: date) -> pl.DataFrame:
    from exchange_calendars.errors import InvalidCalendarName

    is_asked = pl.col("session").is_between(start, end)
    first, last = _decades(start - _MARGIN, end + _MARGIN)
    try:
        return _sessions_between(calendar, first, last).filter(is_asked)
    except (ValueError, NotImplementedError, InvalidCalendarName):
        # A day may be beyond the recorded ones. Only a calendar object tells how far they reach, or what else is wrong.
        reach = _library_calendar(calendar)
    least, most = reach.bound_min(), reach.bound_max()
    first = max(first, least.date()) if least is not None else first
    last = min(last, most.date()) if most is not None else last
    if first >= last:
        # The whole span lies beyond what the library knows, but the hours of its last sessions are needed.
        first, last = (last - timedelta(days=60), last) if most is not None and start > last else (first, first)
    if first >= last:
        return SESSION_SCHEMA.to_frame()
    try:
        known = _sessions_between(calendar, first, last)
    except (ValueError, NotImplementedError) as error:
        raise _cannot_be_built(calendar) from error
    if most is not None and end > most.date() and not known.is_empty():
        known = pl.concat([known, _usual_sessions(calendar, known, _weekdays(most.date() + timedelta(days=1), end))])
    return known.filter(is_asked)


def _decades(first: date, last: date) -> tuple[date, date]:
    """Return the first and the last day of the decades of `first` and `last`."""
    return date(first.year // 10 * 10, 1, 1), date(last.year // 10 * 10 + 9, 12, 31)


# The library takes as long for a month as for decades, so one answer serves all requests within the same decades: the
# files of a folder each have other days. A decade has half a megabyte.
@lru_cache(maxsize=64)
def _sessions_between(calendar: str, first: date, last: date) -> pl.DataFrame:
    import exchange_calendars

    found = exchange_calendars.get_calendar(calendar, start=first.isoformat(), end=last.isoformat())

    def utc(nanos: Any) -> pl.Series:
        raw = pl.Series(nanos, dtype=pl.Int64)
        known = pl.select(pl.when(raw != _NOT_A_TIME).then(raw)).to_series()
        return known.cast(pl.Datetime("ns", "UTC")).cast(UTC_TIME)

    frame = pl.DataFrame(
        {
            "session": pl.Series(found.sessions_nanos, dtype=pl.Int64).cast(pl.Datetime("ns")).cast(pl.Date),
            "open": utc(found.opens_nanos),
            "break_start": utc(found.break_starts_nanos),
            "break_end": utc(found.break_ends_nanos),
            "close": utc(found.closes_nanos),
        }
    )
    if found.name in _GLOBEX:
        frame = frame.with_columns(close=pl.min_horizontal("close", pl.col("open") + _GLOBEX_HOURS))
    return _as_sessions(frame, calendar)


@cache
def _library_calendar(calendar: str) -> Any:
    """Return the library's calendar over a few recent years. Its zone and its bounds do not depend on the years.

    Raises:
        ConfigurationError: when the library does not know `calendar` or cannot build it.
    """
    import exchange_calendars
    from exchange_calendars.errors import InvalidCalendarName

    try:
        return exchange_calendars.get_calendar(calendar)
    except InvalidCalendarName:
        hint = did_you_mean(calendar, known_calendars())
        raise ConfigurationError(
            f"`calendar` must be {ALWAYS_OPEN!r} (crypto), {FX_CALENDAR!r} (foreign exchange) or a code that "
            f"exchange_calendars knows, such as 'XNYS' or 'XLON', received {calendar!r}{hint}"
        ) from None
    except (ValueError, NotImplementedError) as error:
        raise _cannot_be_built(calendar) from error


def _cannot_be_built(calendar: str) -> ConfigurationError:
    # Seen with exchange_calendars 4.13 on pandas 3.1: ASEX, XBEL, XBSE, XCYS and XTAE. The library's own words can be a
    # list of a thousand days.
    return ConfigurationError(
        f"`calendar` {calendar!r} cannot be built by the installed exchange_calendars; take a calendar "
        "with the same hours and name the days on which it differs, as `[calendar.CODE]` with `extra` and `closed` in "
        "the watchlist"
    )


def _usual_sessions(calendar: str, known: pl.DataFrame, days: list[date]) -> pl.DataFrame:
    """Return sessions on `days` with the local hours of the last `known` session before each, or of the first one."""
    zone = str(zone_of(calendar))
    hours = ["open", "break_start", "break_end", "close", "regular_open", "regular_close"]
    midnight = pl.col("session").cast(pl.Datetime("us"))
    local = [
        (pl.col(name).dt.convert_time_zone(zone).dt.replace_time_zone(None) - midnight).alias(name) for name in hours
    ]
    usual = known.sort("session").select("session", *local)
    wanted = pl.DataFrame({"session": days}, schema={"session": pl.Date}).sort("session")
    return (
        wanted.join_asof(usual, on="session", strategy="backward")
        .with_columns(pl.col(name).fill_null(usual[name].first()) for name in ("open", "close"))
        .with_columns(
            pl.col(f"regular_{name}").fill_null(usual[f"regular_{name}"].first()) for name in ("open", "close")
        )
        .with_columns(
            (midnight + pl.col(name))
            .dt.replace_time_zone(zone, ambiguous="earliest")
            .dt.convert_time_zone("UTC")
            .alias(name)
            for name in hours
        )
        .with_columns(calendar=pl.lit(calendar))
        .select(list(SESSION_SCHEMA))
        .match_to_schema(SESSION_SCHEMA)
    )


def _with_special_days(
    sessions: pl.DataFrame, calendar: str, start: date, end: date, special: SpecialDays
) -> pl.DataFrame:
    """Return `sessions` with `special` days added and removed."""
    listed = set(sessions["session"].to_list())
    extra = {day: hours for day, hours in special.extra.items() if start <= day <= end}
    added = [day for day in extra if day not in listed]
    if added:
        usual = sessions
        if usual.is_empty():
            usual = exchange_sessions(calendar, min(added) - timedelta(days=30), max(added) + timedelta(days=30))
        sessions = pl.concat([sessions, _usual_sessions(calendar, usual, added)])
    zone = zone_of(calendar) if any(extra.values()) else None
    for day, hours in extra.items():
        if hours is not None:
            opened, closed = (datetime.combine(day, moment, zone).astimezone(UTC) for moment in hours)
            is_day = pl.col("session") == day
            sessions = sessions.with_columns(
                *(pl.when(is_day).then(pl.lit(opened, UTC_TIME)).otherwise(name).alias(name) for name in _OPENS),
                *(pl.when(is_day).then(pl.lit(closed, UTC_TIME)).otherwise(name).alias(name) for name in _CLOSES),
                *(pl.when(~is_day).then(name).alias(name) for name in ("break_start", "break_end")),
            )
    sessions = sessions.filter(~pl.col("session").is_in(list(special.closed))).sort("session")
    _check_apart(sessions, calendar, special)
    return sessions


def _check_apart(sessions: pl.DataFrame, calendar: str, special: SpecialDays) -> None:
    """Check that the hours of `special` days do not reach into other `sessions` (sorted).

    Raises:
        ConfigurationError: naming both days.
    """
    given = [day for day, hours in special.extra.items() if hours is not None]
    if not given:
        return
    pairs = sessions.with_columns(_before=pl.col("session").shift(1), _ended=pl.col("close").shift(1))
    is_given = pl.col("session").is_in(given) | pl.col("_before").is_in(given)
    for row in pairs.filter(is_given & (pl.col("open") < pl.col("_ended"))).head(1).iter_rows(named=True):
        opened, ended = (row[name].astimezone(zone_of(calendar)) for name in ("open", "_ended"))
        raise ConfigurationError(
            f"`[calendar.{without_hours(calendar)}]`: the session of {row['_before']} ends at {ended:%Y-%m-%d %H:%M} "
            f"at the exchange, after that of {row['session']} begins at {opened:%Y-%m-%d %H:%M}; change `extra`"
        )


_OPENS, _CLOSES = ("open", "regular_open"), ("close", "regular_close")
