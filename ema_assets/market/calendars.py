"""Sessions of exchanges, and the grid of bars that should exist in them. No I/O and no clock.

A frame of sessions has SESSION_SCHEMA, one row a trading day: `open` and `close` are UTC, `break_start` and
`break_end` are null where the exchange has no lunch break. `regular_open` and `regular_close` are the exchange's own
hours, which a 1d bar spans; they differ from `open` and `close` only where extended hours are wanted. Everything else
here takes such a frame, so that only `exchange_sessions` pays for the import of exchange_calendars (about 1.5 CPU
seconds).
"""

from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from ema_assets.model.errors import ConfigurationError
from ema_assets.model.schemas import SESSION_SCHEMA, UTC_TIME
from ema_assets.model.symbols import ALWAYS_OPEN, EXTENDED_CALENDARS, EXTENDED_SUFFIX
from ema_assets.model.timeframes import Timeframe

# Long enough to hold the last session before any exchange's longest closure, Chinese New Year's 11 days.
LOOK_BACK = timedelta(days=14)

# New York: 04:00 to 20:00 around 09:30 to 16:00, and to 17:00 after an early close at 13:00 (NYSE Arca's and Nasdaq's
# published hours).
_EARLY, _LATE = timedelta(hours=5, minutes=30), timedelta(hours=4)


def known_calendars() -> list[str]:
    """Names that a watchlist may use, sorted."""
    import exchange_calendars

    return sorted(exchange_calendars.get_calendar_names(include_aliases=True))


def exchange_sessions(calendar: str, start: date, end: date) -> pl.DataFrame:
    """Sessions of `calendar` from `start` to `end`, both included, ascending.

    `24/7` has one session a UTC day, from midnight to midnight. `XNYS extended` has the sessions of `XNYS` with the
    hours before and after. Some calendars are known for a few decades or to the end of the year only (XBOM, XSHG):
    there are no sessions beyond that.

    Raises:
        ConfigurationError: when exchange_calendars does not know `calendar` or cannot build it.
    """
    if calendar == ALWAYS_OPEN:
        days = pl.date_range(start, end, "1d", eager=True).alias("session")
        opens = pl.col("session").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        return pl.DataFrame({"session": days}).select(
            pl.lit(calendar).alias("calendar"),
            "session",
            opens.alias("open"),
            pl.lit(None, UTC_TIME).alias("break_start"),
            pl.lit(None, UTC_TIME).alias("break_end"),
            opens.dt.offset_by("1d").alias("close"),
            opens.alias("regular_open"),
            opens.dt.offset_by("1d").alias("regular_close"),
        )
    if calendar.endswith(EXTENDED_SUFFIX):
        return _extended(calendar, start, end)
    found = _library_calendar(calendar, start, end)
    if found is None:
        return SESSION_SCHEMA.to_frame()

    def utc(nanos: Any) -> pl.Series:
        # NaT, which stands for "no break", is the smallest int64.
        raw = pl.Series(nanos, dtype=pl.Int64)
        return pl.select(pl.when(raw > 0).then(raw)).to_series().cast(pl.Datetime("ns", "UTC")).cast(UTC_TIME)

    return (
        pl.DataFrame(
            {
                "session": pl.Series(found.sessions_nanos, dtype=pl.Int64).cast(pl.Datetime("ns")).cast(pl.Date),
                "open": utc(found.opens_nanos),
                "break_start": utc(found.break_starts_nanos),
                "break_end": utc(found.break_ends_nanos),
                "close": utc(found.closes_nanos),
            }
        )
        .filter(pl.col("session").is_between(start, end))
        .select(pl.lit(calendar).alias("calendar"), pl.all(), regular_open="open", regular_close="close")
        .match_to_schema(SESSION_SCHEMA)
    )


def _extended(calendar: str, start: date, end: date) -> pl.DataFrame:
    exchange = calendar.removesuffix(EXTENDED_SUFFIX)
    if exchange not in EXTENDED_CALENDARS:
        raise ConfigurationError(
            f"extended hours are known for the calendars {', '.join(EXTENDED_CALENDARS)}, received {exchange!r}"
        )
    return exchange_sessions(exchange, start, end).with_columns(
        pl.lit(calendar).alias("calendar"), pl.col("open") - _EARLY, pl.col("close") + _LATE
    )


def _library_calendar(calendar: str, start: date, end: date) -> Any | None:
    """The library's calendar around `start` to `end`, as far as it reaches; None when it does not reach there."""
    import exchange_calendars
    from exchange_calendars.errors import InvalidCalendarName

    # The margin covers the rule that the first and last day asked for must not be holidays.
    first, last = start - timedelta(days=14), end + timedelta(days=14)
    try:
        try:
            return exchange_calendars.get_calendar(calendar, start=first.isoformat(), end=last.isoformat())
        except ValueError:
            # Perhaps a day beyond what is recorded; only an instance tells how far that is.
            reach = exchange_calendars.get_calendar(calendar)
        least, most = reach.bound_min(), reach.bound_max()
        first = max(first, least.date()) if least is not None else first
        last = min(last, most.date()) if most is not None else last
        if first >= last:
            return None
        return exchange_calendars.get_calendar(calendar, start=first.isoformat(), end=last.isoformat())
    except InvalidCalendarName:
        raise ConfigurationError(
            f"`calendar` must be {ALWAYS_OPEN!r} or a code that exchange_calendars knows, such as 'XNYS' or "
            f"'XLON', received {calendar!r}"
        ) from None
    except (ValueError, NotImplementedError) as error:
        # Seen with exchange_calendars 4.13 on pandas 3.1: XBSE, XTAE and a few more.
        raise ConfigurationError(
            f"`calendar` {calendar!r} cannot be built by the installed exchange_calendars: {str(error)[:120]}"
        ) from error


def segments(sessions: pl.DataFrame) -> pl.DataFrame:
    """Continuous stretches of trading: one row per session, two where there is a lunch break.

    Columns: calendar, session, segment_open, segment_close; sorted by calendar and segment_open.
    """
    has_break = pl.col("break_start").is_not_null()
    morning = sessions.select(
        "calendar",
        "session",
        pl.col("open").alias("segment_open"),
        pl.coalesce("break_start", "close").alias("segment_close"),
    )
    afternoon = sessions.filter(has_break).select(
        "calendar",
        "session",
        pl.col("break_end").alias("segment_open"),
        pl.col("close").alias("segment_close"),
    )
    return pl.concat([morning, afternoon]).sort("calendar", "segment_open")


def bar_grid(sessions: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """Every bar that should exist in `sessions`.

    Columns: calendar, session, ts (opening time), ts_end (closing time, cut at the end of the segment); sorted by
    calendar and ts. Intraday bars are anchored to the open of their segment; a `1d` bar spans the exchange's own
    hours.
    """
    if timeframe.is_session:
        return sessions.select("calendar", "session", ts="regular_open", ts_end="regular_close").sort("calendar", "ts")
    step = f"{timeframe.minutes}m"
    return (
        segments(sessions)
        .with_columns(pl.datetime_ranges("segment_open", "segment_close", step, closed="left").alias("ts"))
        .explode("ts")
        .select(
            "calendar",
            "session",
            "ts",
            pl.min_horizontal(pl.col("ts").dt.offset_by(step), "segment_close").alias("ts_end"),
        )
    )


def latest_of(times: pl.DataFrame, known: pl.DataFrame, since: str) -> pl.DataFrame:
    """Add to `times` (calendar, ts, …) the row of `known` (calendar, `since`, …) that began last before each ts.

    `known` is sorted by `since`. A row may begin at the very ts. Order and all other columns of `times` are kept.
    """
    return (
        times.with_row_index("_row")
        .sort("ts")
        .join_asof(
            known,
            left_on="ts",
            right_on=since,
            by="calendar",
            strategy="backward",
            check_sortedness=False,
            coalesce=False,
        )
        .sort("_row")
        .drop("_row")
    )


def place(bars: pl.DataFrame, timeframe: Timeframe, sessions: pl.DataFrame) -> pl.DataFrame:
    """Add to `bars` (calendar, ts, …) where in its session each lies, in the same order.

    Columns added: session (the session's opening time), ts_end (when the bar closes, the session's close at the latest)
    and is_session_last (no bar of `timeframe` opens after it in the session). A bar outside all sessions belongs to the
    one before it.
    """
    is_day = timeframe.is_session
    opened = sessions.select("calendar", session="open", shut="regular_close" if is_day else "close").sort("session")
    full = pl.col("ts") + pl.lit(timeframe.duration)
    end = pl.col("shut") if is_day else pl.min_horizontal(full, "shut")
    return (
        latest_of(bars, opened, "session")
        .with_columns(
            ts_end=pl.coalesce(end, full),
            is_session_last=(full >= pl.col("shut")).fill_null(False),
        )
        .drop("shut")
    )


def with_trend_of(bars: pl.DataFrame, trend: pl.DataFrame) -> pl.DataFrame:
    """Add `higher_trend` to `bars` (symbol, ts, ts_end, …; sorted by symbol and ts): as known at each one's close.

    `trend` has symbol, ts_end, trend of a longer timeframe. A bar of it counts from the moment at which it closes, so
    that nothing comes from the future.
    """
    return (
        bars.sort("ts_end")
        .join_asof(
            trend.rename({"trend": "higher_trend"}).sort("ts_end"),
            on="ts_end",
            by="symbol",
            strategy="backward",
            check_sortedness=False,
        )
        .sort("symbol", "ts")
    )


def last_closed(sessions: pl.DataFrame, timeframe: Timeframe, now: datetime) -> pl.DataFrame:
    """The newest bar of each calendar that has closed at `now`: columns calendar, ts, ts_end."""
    recent = sessions.filter(pl.col("open") <= now).sort("calendar", "open").group_by("calendar").tail(2)
    return (
        bar_grid(recent, timeframe)
        .filter(pl.col("ts_end") <= now)
        .group_by("calendar")
        .agg(pl.col("ts").max(), pl.col("ts_end").max())
        .sort("calendar")
    )


def next_close(sessions: pl.DataFrame, timeframe: Timeframe, now: datetime) -> pl.DataFrame:
    """The first bar of each calendar that has not closed at `now`: columns calendar, ts, ts_end."""
    coming = sessions.filter(pl.col("close") > now).sort("calendar", "open").group_by("calendar").head(2)
    return (
        bar_grid(coming, timeframe)
        .filter(pl.col("ts_end") > now)
        .group_by("calendar")
        .agg(pl.col("ts").min(), pl.col("ts_end").min())
        .sort("calendar")
    )
