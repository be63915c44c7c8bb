"""The session of each daily bar of a file, whatever its label: a date, the open or the close. No store."""

from collections.abc import Collection
from datetime import date, timedelta

import polars as pl

from ema_assets.files.options import EXCHANGE, ReadOptions
from ema_assets.files.times import in_zone
from ema_assets.market.calendars import unlisted_sessions
from ema_assets.model.errors import AmbiguousBarFile, BarFileError, FileReading
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.symbols import ALWAYS_OPEN
from ema_assets.operations.file_sessions import (
    AT_CLOSE,
    AT_OPEN,
    SATURDAY,
    SUNDAY,
    better_calendars,
    is_around_the_clock,
    zone_of,
)
from ema_assets.operations.file_times import PlacedTimes, by_calendar

_NEARLY_ALL = 95
_LAST_SECOND = 86_399
# Up to this many days outside the sessions may be holidays on which somebody traded.
_FEW_DAYS = 3
# So many days show by their weekdays that they are not the dates of their sessions.
_ENOUGH_DAYS = 3
_UTC = "UTC"
# By the end of a bar for which its date stands: the days from that date to its session, and how they are told.
_STEPS = {AT_OPEN: (1, "the day before its session"), AT_CLOSE: (-1, "the day after its session")}


def place_days(bars: pl.DataFrame, sessions: pl.DataFrame, options: ReadOptions) -> PlacedTimes:
    """Return the opens of the sessions of daily `bars` (calendar, `wall`, `ts`, `line`), in their order.

    `sessions` (SESSION_SCHEMA) cover them. A date without a session gets the usual open between the first and the last
    session, and midnight UTC elsewhere.

    Raises:
        AmbiguousBarFile: when labels may stand for the open or the close of a session, or when too many days have no
            session.
        BarFileError: when days begin at another time than those of the calendar, or when they have a time of day
            without a zone that would be needed.
    """

    def place(part: pl.DataFrame, calendar: str) -> PlacedTimes:
        return _place(part, sessions.filter(pl.col("calendar") == calendar), calendar, options)

    return by_calendar(bars, place)


def _place(part: pl.DataFrame, sessions: pl.DataFrame, calendar: str, options: ReadOptions) -> PlacedTimes:
    zone = zone_of(calendar) if options.tz == EXCHANGE else options.tz
    at = pl.coalesce("ts", in_zone(pl.col("wall"), zone)) if zone else pl.col("ts")
    part = part.with_columns(at.alias("at"))
    is_date = pl.col("wall").dt.truncate("1d") == pl.col("wall")
    zoned = part["at"].null_count() < part.height
    if calendar == ALWAYS_OPEN:
        return _around_the_clock(part)
    local = pl.col("at").dt.convert_time_zone(zone_of(calendar)).dt.replace_time_zone(None)
    part = part.with_columns(local.alias("local"))
    by_wall = part.with_columns(session=pl.col("wall").dt.date())
    by_local = part.with_columns(session=pl.col("local").dt.date())
    if _nearly_all(part, is_date):
        return _by_date(by_wall, sessions, calendar, "the date", options)
    if _nearly_all(part, pl.col("local").dt.truncate("1d") == pl.col("local")):
        return _by_date(by_local, sessions, calendar, "midnight at the exchange", options)
    if not zoned and not is_around_the_clock(calendar):
        if not options.partial:
            _check_time_of_day(by_wall, sessions, calendar)
        return _by_date(by_wall, sessions, calendar, "the date; the time of day is not read", options)
    if not zoned:
        raise BarFileError(
            f"its days are labelled {part['wall'][0]:%H:%M} without a zone, which does not say when they begin; "
            "give `--tz`"
        )
    return _by_time(part, sessions, calendar, options)


def _nearly_all(part: pl.DataFrame, condition: pl.Expr) -> bool:
    return int(part.select(condition.sum()).item()) * 100 >= part.height * _NEARLY_ALL


def _around_the_clock(part: pl.DataFrame) -> PlacedTimes:
    """Return the opens of days from midnight to midnight UTC. Labels in the last second stand for the close."""
    at = part.select(pl.coalesce("at", pl.col("wall").dt.replace_time_zone("UTC"))).to_series()
    day = at.dt.truncate("1d")
    into = at - day
    seconds = into.dt.total_seconds().fill_null(0)
    if bool((seconds == 0).all()):
        return PlacedTimes(at, "UTC", "the date")
    if bool((seconds >= _LAST_SECOND).all()):
        return PlacedTimes(day, "UTC", "the last second of the day")
    shown = at.filter(seconds != 0)[0]
    raise BarFileError(
        f"its days begin at {shown:%H:%M} UTC, such as {shown:%Y-%m-%d %H:%M}, and those of {ALWAYS_OPEN} at 00:00: "
        "bars of both cannot be in one series; get days from 00:00 UTC, or ingest bars of a shorter timeframe"
    )


def _check_time_of_day(part: pl.DataFrame, sessions: pl.DataFrame, calendar: str) -> None:
    """Ask about times without a zone that are midnight at the exchange or its opens, if of other days than the dates.

    Midnight in London is 23:00 UTC of the day before in summer, and midnight in Tokyo is 15:00 all year.
    """
    zone = zone_of(calendar)
    opens = sessions["regular_open"].implode()
    own = _of_sessions(part["session"], sessions)
    for each in (_UTC, zone):
        at = in_zone(pl.col("wall"), each)
        local = at.dt.convert_time_zone(zone).dt.replace_time_zone(None)
        is_midnight = _nearly_all(part, local.dt.truncate("1d") == local)
        if not is_midnight and not _nearly_all(part, at.is_in(opens)):
            continue
        by_open = sessions.select("session", _at="regular_open")
        read = part.select(_at=at, _local=local.dt.date()).join(by_open, on="_at", how="left", maintain_order="left")
        days = read["_local"] if is_midnight else read["session"]
        count = _of_sessions(days, sessions)
        if days.equals(part["session"]) or count < own:
            continue
        what = "midnight at the exchange" if is_midnight else "the opens of sessions"
        asked = [FileReading(f"as {each} they are {what}, and {count} of {part.height} are sessions", (("tz", each),))]
        if each != zone:
            asked.append(FileReading(f"as {zone} {own} of {part.height} dates are sessions", (("tz", zone),)))
        raise AmbiguousBarFile(
            f"its days are labelled with times without a zone, such as {part['wall'].drop_nulls()[0]:%Y-%m-%d %H:%M}",
            asked,
        )


def _of_sessions(days: pl.Series, sessions: pl.DataFrame) -> int:
    return int(days.is_in(sessions["session"].implode()).sum())


def _by_date(
    part: pl.DataFrame, sessions: pl.DataFrame, calendar: str, label: str, options: ReadOptions
) -> PlacedTimes:
    """Return the opens of bars by their date in the column `session`."""
    days = part["session"].drop_nulls().unique()
    opened = pl.col("regular_open").dt.convert_time_zone(zone_of(calendar)).dt.date()
    opens_before = bool(sessions.select((opened < pl.col("session")).all()).item())
    fitting_label = _label_of_dates(days, sessions, opens_before=opens_before)
    if fitting_label is not None and fitting_label == options.label:
        step, told = _STEPS[fitting_label]
        part = part.with_columns(pl.col("session") + timedelta(days=step))
        label = f"{told} (--label)"
    elif not options.partial:
        _check_days(days, sessions, calendar, fitting_label, opens_before=opens_before)
    joined = part.join(sessions.select("session", "regular_open"), on="session", how="left", maintain_order="left")
    # A day that the calendar lacks is stored, if at all, at the usual open; there is none before the first session.
    unlisted = unlisted_sessions(sessions).select("session", _usual_open="regular_open")
    joined = joined.join(unlisted, on="session", how="left", maintain_order="left")
    midnight = pl.col("session").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").cast(UTC_TIME)
    ts = joined.select(pl.coalesce("regular_open", "_usual_open", midnight).alias("ts")).to_series()
    return PlacedTimes(ts, f"the sessions of {calendar}", label)


def _label_of_dates(days: pl.Series, sessions: pl.DataFrame, *, opens_before: bool) -> str | None:
    """Return which end of their sessions dates stand for, if their weekdays show that it is another day; else None.

    Days from Sunday to Thursday are those before the sessions: the evenings on which they open. Days from Tuesday to
    Saturday are those after them: the midnights at which they end. A single Saturday may be a special session, unless
    sessions open on the evening before (`opens_before`).
    """
    had = sessions["session"].implode()
    lost = int((~days.is_in(had)).sum())
    if days.len() < _ENOUGH_DAYS or lost * 100 <= days.len() * (100 - _NEARLY_ALL):
        return None
    between = sessions["session"].is_between(days.min(), days.max())
    absent = int((between & ~sessions["session"].is_in(days.implode())).sum())
    if not opens_before and (lost < 2 or absent == 0):
        return None
    for label, (step, _) in _STEPS.items():
        if _of_sessions(days + timedelta(days=step), sessions) * 100 >= days.len() * _NEARLY_ALL:
            return label
    return None


def _check_days(
    days: pl.Series, sessions: pl.DataFrame, calendar: str, label: str | None, *, opens_before: bool
) -> None:
    """Refuse days of which too many have no session, and say what would fit: `label`, or another calendar."""
    lost = days.filter(~days.is_in(sessions["session"].implode())).to_list()
    stubs = sum(day.weekday() == SUNDAY for day in lost) if opens_before else 0
    if label is None and not stubs and len(lost) <= max(_FEW_DAYS, len(days) // 50):
        return
    weekend = sum(day.weekday() >= SATURDAY for day in lost)
    cause = f", {weekend} of them on a weekend" if weekend else ""
    message = f"{len(lost)} of {len(days)} days are no sessions of {calendar}{cause}, such as {min(lost)}"
    if label is not None:
        message += f"; each day seems to be {_STEPS[label][1]}"
    elif stubs:
        message += (
            "; days with a Sunday are cut at another hour than those of this calendar, and bars of both cannot be in "
            "one series: ingest bars of a shorter timeframe"
        )
    raise AmbiguousBarFile(message, _readings_of_days(days.to_list(), calendar, label))


def _readings_of_days(days: Collection[date], calendar: str, label: str | None) -> list[FileReading]:
    readings = [] if label is None else [FileReading(f"as {_STEPS[label][1]} they fit", (("label", label),))]
    readings += [
        FileReading(f"{each.calendar} has {each.count} of {each.of}", (("calendar", each.calendar),))
        for each in better_calendars(days, {calendar})
    ]
    partly = FileReading(
        "with `--partial` days without a session are skipped, or flagged if traded", (("partial", ""),)
    )
    return [*readings, partly]


def _by_time(part: pl.DataFrame, sessions: pl.DataFrame, calendar: str, options: ReadOptions) -> PlacedTimes:
    """Return the opens of bars whose labels are instants: the open of a session, its close, or what `--label` says."""
    days = sessions.select("regular_open", "regular_close", "session")
    by_open = part.join(days, left_on="at", right_on="regular_open", how="left", maintain_order="left", coalesce=False)
    by_close = part.join(days, left_on="at", right_on="regular_close", how="left", maintain_order="left")
    if options.label != AT_CLOSE and _nearly_all(by_open, pl.col("session").is_not_null()):
        return PlacedTimes(part["at"], "the file says so", "the open of the session")
    if options.label != AT_OPEN and _nearly_all(by_close, pl.col("session").is_not_null()):
        ts = by_close.select(pl.coalesce("regular_open", "at").alias("ts")).to_series()
        return PlacedTimes(ts, "the file says so", "the close of the session")
    if options.label is None and not is_around_the_clock(calendar):
        _check_before_close(part, sessions)
    if options.label == AT_CLOSE:
        opens = days.select(at="regular_open", ts="regular_open").sort("at")
        began = part.select("row", "at").sort("at").join_asof(opens, on="at", check_sortedness=False)
        return PlacedTimes(began.sort("row")["ts"], "the file says so", "the close of the session (--label)")
    return PlacedTimes(part["at"], "the file says so", "within the session or before it")


def _check_before_close(part: pl.DataFrame, sessions: pl.DataFrame) -> None:
    """Ask about labels after the close of their own day, which would be taken for the next day."""
    late = part.with_columns(session=pl.col("local").dt.date()).join(
        sessions.select("session", "regular_close"), on="session"
    )
    count = int(late.select((pl.col("at") >= pl.col("regular_close")).sum()).item())
    if count * 2 > part.height:
        raise AmbiguousBarFile(
            f"{count} of {part.height} days are labelled behind the close of their session, such as "
            f"{part['at'][0]:%Y-%m-%d %H:%M} UTC",
            [
                FileReading("as labels of the session that has just ended", (("label", AT_CLOSE),)),
                FileReading("as labels of the next session", (("label", AT_OPEN),)),
            ],
        )
