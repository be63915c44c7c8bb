"""The session of each daily bar of a file, whatever its label: a date, the open or the close. No store."""

from datetime import date

import polars as pl

from ema_assets.files.options import ReadOptions
from ema_assets.files.times import in_zone
from ema_assets.market.calendars import unlisted_sessions
from ema_assets.model.errors import AmbiguousBarFile, BarFileError, FileReading
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.symbols import ALWAYS_OPEN
from ema_assets.operations.file_sessions import (
    AT_CLOSE,
    AT_OPEN,
    better_calendars,
    is_around_the_clock,
    zone_of,
)
from ema_assets.operations.file_times import PlacedTimes

_NEARLY_ALL = 95
_LAST_SECOND = 86_399
# Up to this many days outside the sessions may be holidays on which somebody traded.
_FEW_DAYS = 3


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
    rows = bars.with_row_index("row")
    parts, zones, labels = [], [], []
    for (calendar,), part in rows.partition_by("calendar", as_dict=True, maintain_order=True).items():
        own = sessions.filter(pl.col("calendar") == calendar)
        placed = _place(part, own, str(calendar), options)
        parts.append(part.select("row").with_columns(placed.ts.alias("ts")))
        zones.append(placed.zone)
        labels.append(placed.label)
    ts = pl.concat(parts).sort("row")["ts"] if parts else bars["ts"]
    return PlacedTimes(ts, " and ".join(dict.fromkeys(zones)), " and ".join(dict.fromkeys(labels)))


def _place(part: pl.DataFrame, sessions: pl.DataFrame, calendar: str, options: ReadOptions) -> PlacedTimes:
    at = pl.coalesce("ts", in_zone(pl.col("wall"), options.tz)) if options.tz else pl.col("ts")
    part = part.with_columns(at.alias("at"))
    is_date = pl.col("wall").dt.truncate("1d") == pl.col("wall")
    zoned = part["at"].null_count() < part.height
    if calendar == ALWAYS_OPEN:
        return _around_the_clock(part)
    local = pl.col("at").dt.convert_time_zone(zone_of(calendar)).dt.replace_time_zone(None)
    part = part.with_columns(local.alias("local"))
    by_wall = part.with_columns(session=pl.col("wall").dt.date())
    by_local = part.with_columns(session=pl.col("local").dt.date())
    partial = options.partial
    if _nearly_all(part, is_date):
        return _by_date(by_wall, sessions, calendar, "the date", partial=partial)
    if _nearly_all(part, pl.col("local").dt.truncate("1d") == pl.col("local")):
        return _by_date(by_local, sessions, calendar, "midnight at the exchange", partial=partial)
    if not zoned and not is_around_the_clock(calendar):
        return _by_date(by_wall, sessions, calendar, "the date; the time of day is not read", partial=partial)
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


def _by_date(part: pl.DataFrame, sessions: pl.DataFrame, calendar: str, label: str, *, partial: bool) -> PlacedTimes:
    """Return the opens of bars by their date in the column `session`."""
    joined = part.join(sessions.select("session", "regular_open"), on="session", how="left", maintain_order="left")
    lost = joined.filter(pl.col("regular_open").is_null() & pl.col("session").is_not_null())["session"].unique()
    if not partial:
        _check_days(lost.to_list(), joined["session"].drop_nulls().unique().to_list(), calendar)
    # A day that the calendar lacks is stored, if at all, at the usual open; there is none before the first session.
    unlisted = unlisted_sessions(sessions).select("session", _usual_open="regular_open")
    joined = joined.join(unlisted, on="session", how="left", maintain_order="left")
    midnight = pl.col("session").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").cast(UTC_TIME)
    ts = joined.select(pl.coalesce("regular_open", "_usual_open", midnight).alias("ts")).to_series()
    return PlacedTimes(ts, f"the sessions of {calendar}", label)


def _check_days(lost: list[date], days: list[date], calendar: str) -> None:
    """Refuse days of which too many have no session, and say which calendars would fit."""
    if len(lost) <= max(_FEW_DAYS, len(days) // 50):
        return
    weekend = sum(day.weekday() >= 5 for day in lost)
    cause = f", {weekend} of them on a weekend" if weekend else ""
    message = f"{len(lost)} of {len(days)} days are no sessions of {calendar}{cause}, such as {min(lost)}"
    fits = better_calendars(days, {calendar})
    readings = [
        FileReading(f"{each.calendar} has {each.count} of {each.of}", (("calendar", each.calendar),)) for each in fits
    ]
    partly = FileReading(
        "with `--partial` days without a session are skipped, or flagged if traded", (("partial", ""),)
    )
    raise AmbiguousBarFile(message, [*readings, partly])


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
