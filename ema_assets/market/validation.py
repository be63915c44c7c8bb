"""Validates whether bars can be stored: they must be in a session, on its grid, and closed. No I/O and no clock.

Whether the columns of a bar fit each other is checked in `repair`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ema_assets.market.calendars import bar_grid, stretch_of, unlisted_sessions
from ema_assets.market.repair import DUPLICATE, NOTES, repair
from ema_assets.model.schemas import BAR_SCHEMA, FLAG_SCHEMA
from ema_assets.model.symbols import ALWAYS_OPEN
from ema_assets.model.timeframes import Timeframe

# The reasons of skipped bars.
OUTSIDE_SESSION = "outside the session"
OFF_GRID = "between two bars"
NOT_CLOSED = "not closed yet"
ANOTHER_DAY = "day that does not begin at midnight UTC"
# The value of `bar_flag.reason` in this module.
NOT_IN_CALENDAR = "day not in the calendar"


@dataclass(frozen=True, slots=True)
class Validated:
    """Bars grouped by whether they can be stored; none is lost.

    Attributes:
        accepted: BAR_SCHEMA plus `ts_end`, sorted by symbol and ts.
        flags: FLAG_SCHEMA, oddities of accepted bars.
        rejected: BAR_SCHEMA plus `reason`: values that cannot be a bar.
        skipped: BAR_SCHEMA plus `reason`: sound bars that are not bars of a session (before or after hours, live ticks
            at odd seconds) or had not closed yet.
    """

    accepted: pl.DataFrame
    flags: pl.DataFrame
    rejected: pl.DataFrame
    skipped: pl.DataFrame


def validate(
    bars: pl.DataFrame,
    timeframe: Timeframe,
    instruments: pl.DataFrame,
    sessions: pl.DataFrame,
    closed_by: datetime,
) -> Validated:
    """Group `bars` (BAR_SCHEMA, all of one `timeframe`) into accepted, rejected and skipped ones.

    `instruments` has symbol, calendar and allow_negative (prices may be zero or less); `sessions` (SESSION_SCHEMA) must
    cover the bars. A bar is accepted only if it closes at `closed_by` or earlier. A `1d` bar is given the open of its
    session as `ts`, whatever label the vendor uses: midnight UTC, midnight at the exchange, or the open. A bar with a
    positive or unknown volume on a day that the calendar lacks is accepted and flagged, because calendars do not have
    every special session.
    """
    bars = bars.join(instruments, on="symbol", how="left", maintain_order="left")
    bars = bars.with_row_index("_sent").with_columns(_label="ts")
    repaired = repair(bars)
    trading = _near(sessions, bars)
    placed, lost = _place_on(repaired.sound, timeframe, trading)
    placed = placed.with_columns(pl.lit(None, pl.String).alias(NOT_IN_CALENDAR))
    if not lost.is_empty():
        has_traded = (pl.col("volume") > 0).fill_null(True)
        unlisted, _ = _place_on(lost.filter(has_traded).drop("reason"), timeframe, unlisted_sessions(trading))
        lost = lost.join(unlisted, on="_sent", how="anti")
        told = pl.format("{} has no session on that day", "calendar")
        placed = pl.concat([placed, unlisted.with_columns(told.alias(NOT_IN_CALENDAR))])
    placed = placed.sort("_label", "_sent")
    # Two labels of one session (a vendor's midnight and its open) become the same bar. The later label wins.
    is_last = placed.select((pl.int_range(pl.len()) == pl.len() - 1).over("symbol", "ts")).to_series()
    is_closed = placed["ts_end"] <= closed_by
    accepted = placed.filter(is_last & is_closed).sort("symbol", "ts")
    return Validated(
        accepted=accepted.select(*BAR_SCHEMA, "ts_end"),
        flags=_flags(accepted),
        rejected=pl.concat(
            [
                repaired.rejected.select(*BAR_SCHEMA, "reason"),
                placed.filter(~is_last).select(*BAR_SCHEMA, reason=pl.lit(DUPLICATE)),
            ]
        ),
        skipped=pl.concat(
            [
                lost.select(*BAR_SCHEMA, "reason"),
                placed.filter(is_last & ~is_closed).select(*BAR_SCHEMA, reason=pl.lit(NOT_CLOSED)),
            ]
        ),
    )


def _near(sessions: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    if bars["ts"].null_count() == bars.height:
        return sessions.clear()
    low, high = bars.select(pl.col("ts").min().alias("low"), pl.col("ts").max().alias("high")).row(0)
    # The longest holidays, those of the Chinese New Year, close an exchange for ten or eleven days.
    margin = timedelta(days=14)
    return sessions.filter(pl.col("close") >= low - margin, pl.col("open") <= high + margin)


def _flags(accepted: pl.DataFrame) -> pl.DataFrame:
    """Return the notes of `accepted` bars as FLAG_SCHEMA."""
    notes = [
        accepted.filter(pl.col(reason).is_not_null()).select(
            "symbol", "timeframe", "ts", reason=pl.lit(reason), detail=pl.col(reason)
        )
        for reason in (*NOTES, NOT_IN_CALENDAR)
        if accepted[reason].null_count() < accepted.height
    ]
    return pl.concat([FLAG_SCHEMA.to_frame(), *notes])


def _place_on(bars: pl.DataFrame, timeframe: Timeframe, sessions: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the `bars` in `sessions`, with `ts_end` and possibly a moved `ts`, and the others with a `reason`."""
    if timeframe.is_session:
        return _on_sessions(bars, sessions)
    if timeframe.is_fetched:
        return _on_grid(bars, timeframe, sessions)
    placed, lost = _in_session(bars, timeframe, sessions)
    # The hours of vendors may begin at other times than ours, but never within a minute, which only other times do.
    is_whole = pl.col("ts") == pl.col("ts").dt.truncate("1m")
    off_grid = placed.filter(~is_whole).drop("ts_end").with_columns(reason=pl.lit(OFF_GRID))
    return (placed, lost) if off_grid.is_empty() else (placed.filter(is_whole), pl.concat([lost, off_grid]))


def _on_grid(bars: pl.DataFrame, timeframe: Timeframe, sessions: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the bars whose ts is on the grid, and the others with the reason."""
    grid = bar_grid(sessions, timeframe).select("calendar", "ts", "ts_end")
    joined = bars.join(grid, on=["calendar", "ts"], how="left", maintain_order="left")
    if not joined["ts_end"].null_count():
        return joined, joined.clear().drop("ts_end").with_columns(reason=pl.lit(OFF_GRID))
    is_placed = pl.col("ts_end").is_not_null()
    inside, outside = _in_session(joined.filter(~is_placed).drop("ts_end"), timeframe, sessions)
    off_grid = inside.drop("ts_end").with_columns(reason=pl.lit(OFF_GRID))
    return joined.filter(is_placed), pl.concat([outside, off_grid])


def _in_session(bars: pl.DataFrame, timeframe: Timeframe, sessions: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the bars that overlap a stretch of trading, and the others with the reason.

    Their anchor does not matter: the hours of some vendors begin by the clock.
    """
    joined = stretch_of(bars, timeframe, sessions).drop("session_open", "session_close")
    overlaps = pl.col("ts_end").is_not_null()
    lost = joined.filter(~overlaps).drop("ts_end")
    return joined.filter(overlaps), lost.with_columns(reason=pl.lit(OUTSIDE_SESSION))


def _on_sessions(bars: pl.DataFrame, sessions: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return daily bars moved to the open of their session, with `ts_end`, and those without a session.

    Every label in use lies inside the session or before it, at most 24 hours before the close, so the session is the
    first one that closes after the label. A label on a weekend or holiday is further away, and its bar is skipped. If
    sessions follow each other without a pause, a label inside one shows that the vendor's days begin at another time.
    """
    days = sessions.select("calendar", _open="regular_open", ts_end="regular_close").sort("ts_end")
    joined = (
        bars.sort("ts")
        .join_asof(
            days,
            left_on="ts",
            right_on="ts_end",
            by="calendar",
            strategy="forward",
            allow_exact_matches=False,
            check_sortedness=False,
            coalesce=False,
        )
        .with_columns(
            reason=pl.when((pl.col("calendar") == ALWAYS_OPEN) & (pl.col("ts") != pl.col("_open")))
            .then(pl.lit(ANOTHER_DAY))
            .when((pl.col("ts_end") - pl.col("ts") > timedelta(hours=24)).fill_null(True))
            .then(pl.lit(OUTSIDE_SESSION))
        )
    )
    is_placed = pl.col("reason").is_null()
    return (
        joined.filter(is_placed).with_columns(ts="_open").drop("_open", "reason"),
        joined.filter(~is_placed).drop("_open", "ts_end"),
    )
