"""The grid of bars that should exist in sessions, and the place of a bar in its session. No I/O and no clock.

A frame of sessions has SESSION_SCHEMA, one row per trading day: `open` and `close` are UTC, `break_start` and
`break_end` are null if the exchange has no lunch break. `regular_open` and `regular_close` are the exchange's own
hours, which a 1d bar spans; they differ from `open` and `close` only with extended hours. `exchanges` makes sessions.
"""

from datetime import datetime, timedelta

import polars as pl

from ema_assets.model.schemas import SESSION_SCHEMA
from ema_assets.model.symbols import BEGIN_ON_SUNDAY
from ema_assets.model.timeframes import Period, Timeframe

# Long enough to include the last session before the longest closure of any exchange, the 11 days of Chinese New Year.
LOOK_BACK = timedelta(days=14)


def segments(sessions: pl.DataFrame) -> pl.DataFrame:
    """Return continuous stretches of trading: one row per session, or two with a lunch break.

    Columns: calendar, session, segment_open, segment_close; sorted by calendar and segment_open.
    """
    if sessions["break_start"].null_count() == sessions.height:
        return sessions.select("calendar", "session", segment_open="open", segment_close="close").sort(
            "calendar", "segment_open"
        )
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
    """Return every bar that should exist in `sessions`.

    Columns: calendar, session, ts (opening time), ts_end (closing time, cut at the end of the segment); sorted by
    calendar and ts. Intraday bars are anchored to the open of their segment. A `1d` bar spans the exchange's own hours.
    A longer bar spans from the open of its first session to the close of its last one, and `session` is the first.
    `sessions` must have all sessions of such a period, or its bar is cut short: see `reach`.
    """
    if timeframe.period is not None:
        return (
            sessions.sort("calendar", "session")
            .group_by("calendar", _period=period_of(timeframe.period), maintain_order=True)
            .agg(pl.col("session").first(), ts=pl.col("regular_open").first(), ts_end=pl.col("regular_close").last())
            .select("calendar", "session", "ts", "ts_end")
        )
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


_TRUNCATED_TO: dict[Period, str] = {"week": "1w", "month": "1mo", "quarter": "1q", "year": "1y"}


def period_of(period: Period) -> pl.Expr:
    """Return the first day of the week (ISO 8601: a Monday), month, quarter or year of each row's `session`.

    Where trading weeks begin on a Sunday, the Sunday belongs to the week of the next Monday.
    """
    day = pl.col("session")
    if period == "week":
        day = pl.when(pl.col("calendar").is_in(BEGIN_ON_SUNDAY)).then(day.dt.offset_by("1d")).otherwise(day)
    return day.dt.truncate(_TRUNCATED_TO[period])


def reach(timeframe: Timeframe) -> timedelta:
    """Return how far before and after a time sessions must be known to determine the whole bar at that time."""
    return timedelta(0) if timeframe.period is None else timeframe.duration


def last_bar_reach(timeframe: Timeframe) -> timedelta:
    """Return how far before a time sessions must be known to determine the last bar that has closed by then."""
    return LOOK_BACK + 2 * reach(timeframe)


def latest_of(times: pl.DataFrame, known: pl.DataFrame, since: str) -> pl.DataFrame:
    """Add to `times` (calendar, ts, …) the last row of `known` (calendar, `since`, …) that begins at each ts or before.

    `known` is sorted by `since`. Order and all other columns of `times` are kept.
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


def unlisted_sessions(sessions: pl.DataFrame) -> pl.DataFrame:
    """Return the sessions that the days missing in `sessions` would have: SESSION_SCHEMA.

    One row per missing day between the first and the last session. Exchanges sometimes trade on a day that is not in
    their calendar. Such a day is given the hours of the session before it.
    """
    days = (
        sessions.group_by("calendar")
        .agg(pl.date_ranges(pl.col("session").min(), pl.col("session").max()).first().alias("session"))
        .explode("session")
        .join(sessions, on=["calendar", "session"], how="anti")
        .sort("session")
    )
    before = sessions.sort("session").rename({"session": "_before"})
    shifted = pl.col("session") - pl.col("_before")
    return (
        days.join_asof(
            before, left_on="session", right_on="_before", by="calendar", strategy="backward", check_sortedness=False
        )
        .with_columns(pl.col("open", "break_start", "break_end", "close", "regular_open", "regular_close") + shifted)
        .select(list(SESSION_SCHEMA))
        .match_to_schema(SESSION_SCHEMA)
    )


def stretch_of(bars: pl.DataFrame, timeframe: Timeframe, sessions: pl.DataFrame) -> pl.DataFrame:
    """Add to intraday `bars` (calendar, ts, …) the stretch of trading to which each belongs, in the same order.

    Columns added: session_open, session_close, and ts_end, after which the bar can have no trade. They are null for a
    bar that overlaps no stretch. A bar on the grid ends with its stretch at the latest. The bars of some vendors begin
    by the clock, so a bar may begin before its session or span a lunch break. It belongs to the last stretch that it
    overlaps.
    """
    bounds = sessions.select("calendar", "session", session_open="open", session_close="close")
    stretches = (
        segments(sessions)
        .join(bounds, on=["calendar", "session"], how="left", maintain_order="left")
        .drop("session")
        .sort("segment_open")
    )
    numbered = bars.with_row_index("_order").with_columns(_full_end=pl.col("ts") + pl.lit(timeframe.duration))
    around = latest_of(numbered, stretches, "segment_open")
    is_on_grid = (pl.col("ts") < pl.col("segment_close")) & (
        (pl.col("ts") - pl.col("segment_open")).dt.total_microseconds() % _microseconds(timeframe) == 0
    )
    placed = around.filter(is_on_grid)
    if placed.height < bars.height:
        others = numbered.join(placed, on="_order", how="anti").sort("_full_end")
        last = others.join_asof(
            stretches,
            left_on="_full_end",
            right_on="segment_open",
            by="calendar",
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
            coalesce=False,
        )
        placed = pl.concat([placed, last.select(placed.columns)]).sort("_order")
    overlaps = (pl.col("segment_close") > pl.col("ts")).fill_null(False)
    return placed.select(
        *bars.columns,
        pl.when(overlaps).then(pl.col("session_open", "session_close")),
        ts_end=pl.when(overlaps).then(pl.min_horizontal("_full_end", "segment_close")),
    )


def _microseconds(timeframe: Timeframe) -> int:
    return timeframe.duration // timedelta(microseconds=1)


def place(bars: pl.DataFrame, timeframe: Timeframe, sessions: pl.DataFrame) -> pl.DataFrame:
    """Add to `bars` (calendar, ts, …) their place in the session, in the same order.

    Columns added: session (the session's opening time), ts_end (when the bar closes: with its stretch of trading at
    the latest) and is_session_last (no bar of `timeframe` opens after it in the session). A bar belongs to the session
    that it overlaps. A day that is missing in the calendar but has stored bars counts as a session.
    """
    days = pl.concat([sessions, unlisted_sessions(sessions)])
    full_end = pl.col("ts") + pl.lit(timeframe.duration)
    if timeframe.period is not None:
        known = bar_grid(sessions, timeframe).select("calendar", session="ts", _open="ts", _shut="ts_end").sort("_open")
        placed = latest_of(bars, known, "_open").with_columns(ts_end=pl.col("_shut"), is_session_last=pl.lit(True))
    elif timeframe.is_session:
        known = days.select("calendar", session="open", _open="regular_open", _shut="regular_close").sort("_open")
        placed = latest_of(bars, known, "_open").with_columns(ts_end=pl.col("_shut"), is_session_last=pl.lit(True))
    else:
        placed = stretch_of(bars, timeframe, days).rename({"session_open": "session", "session_close": "_shut"})
        # The end decides: a bar as long as the session is cut at the lunch break, and other bars follow.
        placed = placed.with_columns(is_session_last=(pl.col("ts_end") >= pl.col("_shut")).fill_null(False))
    if placed["session"].null_count():
        # Bars from extended hours that were switched off later are outside all sessions. They belong to the one before.
        before = latest_of(bars, days.select("calendar", _before="open").sort("_before"), "_before")["_before"]
        placed = placed.with_columns(pl.coalesce("session", before))
    return placed.with_columns(pl.coalesce("ts_end", full_end)).select(
        *bars.columns, "session", "ts_end", "is_session_last"
    )


def with_trend_of(bars: pl.DataFrame, trend: pl.DataFrame) -> pl.DataFrame:
    """Add `higher_trend` to `bars` (symbol, ts, ts_end, …; sorted by symbol and ts), as known at the close of each.

    `trend` has symbol, ts_end and trend of a longer timeframe. Its bars count from the moment at which they close, so
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
    """Return the newest bar of each calendar that has closed at `now`: calendar, ts, ts_end; sorted by calendar.

    `sessions` reach from `last_bar_reach` before `now` to `reach` after it.
    """
    recent = sessions
    if timeframe.period is None:
        recent = sessions.filter(pl.col("open") <= now).sort("calendar", "open").group_by("calendar").tail(2)
    return (
        bar_grid(recent, timeframe)
        .filter(pl.col("ts_end") <= now)
        .group_by("calendar")
        .agg(pl.col("ts").max(), pl.col("ts_end").max())
        .sort("calendar")
    )


def next_close(sessions: pl.DataFrame, timeframe: Timeframe, now: datetime) -> pl.DataFrame:
    """Return the first bar of each calendar that has not closed at `now`: calendar, ts, ts_end; sorted by calendar.

    `sessions` reach from `reach` before `now` to LOOK_BACK plus `reach` after it.
    """
    coming = sessions
    if timeframe.period is None:
        coming = sessions.filter(pl.col("close") > now).sort("calendar", "open").group_by("calendar").head(2)
    return (
        bar_grid(coming, timeframe)
        .filter(pl.col("ts_end") > now)
        .group_by("calendar")
        .agg(pl.col("ts").min(), pl.col("ts_end").min())
        .sort("calendar")
    )
