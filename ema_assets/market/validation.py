"""Which bars are fit to be stored: valid prices, on the session grid, closed. No I/O and no clock."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ema_assets.market.calendars import bar_grid, segments
from ema_assets.model.schemas import BAR_SCHEMA, PRICES
from ema_assets.model.timeframes import Timeframe

# What `bar_rejected.reason` and the counts of skipped bars may say.
MISSING_VALUE = "missing value"
NOT_FINITE = "not a finite number"
NOT_POSITIVE = "price not above zero"
HIGH_BELOW_LOW = "high below low"
OUTSIDE_RANGE = "open or close outside low to high"
NEGATIVE_VOLUME = "negative volume"
DUPLICATE = "duplicate ts"
OUTSIDE_SESSION = "outside the session"
OFF_GRID = "between two bars"
NOT_CLOSED = "not closed yet"


@dataclass(frozen=True, slots=True)
class Validated:
    """Bars sorted by whether they can be stored; none is lost.

    `accepted` follows BAR_SCHEMA plus `ts_end`, sorted by symbol and ts. `rejected` follows BAR_SCHEMA plus
    `reason`: values that cannot be a bar. `skipped` follows BAR_SCHEMA plus `reason`: sound bars that are not bars
    of a session (before and after hours, live ticks at odd seconds) or had not closed yet.
    """

    accepted: pl.DataFrame
    rejected: pl.DataFrame
    skipped: pl.DataFrame


def reject_invalid(bars: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split `bars` (BAR_SCHEMA) into valid ones and rejected ones with a `reason`.

    Valid: all values present and finite, prices above zero, low ≤ open and close ≤ high, volume not negative. Of
    bars with the same symbol and ts the last one is kept, as a vendor's later row is its newer one.
    """
    values = (*PRICES, "volume")
    present = pl.all_horizontal(pl.col("ts", *values).is_not_null())
    finite = pl.all_horizontal(pl.col(*values).is_finite())
    positive = pl.all_horizontal(pl.col(*PRICES) > 0)
    ordered = pl.col("high") >= pl.col("low")
    inside = pl.all_horizontal(pl.col("open", "close").is_between("low", "high"))
    reason = (
        pl.when(~present)
        .then(pl.lit(MISSING_VALUE))
        .when(~finite)
        .then(pl.lit(NOT_FINITE))
        .when(~positive)
        .then(pl.lit(NOT_POSITIVE))
        .when(~ordered)
        .then(pl.lit(HIGH_BELOW_LOW))
        .when(~inside)
        .then(pl.lit(OUTSIDE_RANGE))
        .when(pl.col("volume") < 0)
        .then(pl.lit(NEGATIVE_VOLUME))
    )
    checked = bars.with_columns(reason.alias("reason"))
    sound = checked.filter(pl.col("reason").is_null())
    is_last = pl.int_range(pl.len()).over("symbol", "ts") == pl.len().over("symbol", "ts") - 1
    sound = sound.with_columns(pl.when(~is_last).then(pl.lit(DUPLICATE)).alias("reason"))
    rejected = pl.concat([checked.filter(pl.col("reason").is_not_null()), sound.filter(pl.col("reason").is_not_null())])
    return sound.filter(pl.col("reason").is_null()).drop("reason"), rejected


def validate(
    bars: pl.DataFrame,
    timeframe: Timeframe,
    calendars: pl.DataFrame,
    sessions: pl.DataFrame,
    closed_by: datetime,
) -> Validated:
    """Sort `bars` (BAR_SCHEMA, all of one `timeframe`) into accepted, rejected and skipped.

    `calendars` maps symbol to calendar; `sessions` (SESSION_SCHEMA) must cover the bars. A bar is accepted once its
    closing time is not after `closed_by`. A `1d` bar is given its session's open as `ts`, whatever label the vendor
    uses: midnight UTC, midnight at the exchange, or the open.
    """
    valid, rejected = reject_invalid(bars)
    if timeframe.is_session:
        placed, lost = _on_sessions(valid, calendars, sessions)
        # Two labels of one session (a vendor's midnight and its open) become the same bar here.
        placed, twice = reject_invalid(placed)
        rejected = pl.concat([rejected, twice.select(rejected.columns)])
    elif timeframe.is_fetched:
        placed, lost = _on_grid(valid, timeframe, calendars, sessions)
    else:
        placed, lost = _in_session(valid, timeframe, calendars, sessions)
    closed = pl.col("ts_end") <= closed_by
    columns = list(BAR_SCHEMA)
    return Validated(
        accepted=placed.filter(closed).select(*columns, "ts_end").sort("symbol", "ts"),
        rejected=rejected.select(*columns, "reason"),
        skipped=pl.concat(
            [
                lost.select(*columns, "reason"),
                placed.filter(~closed).select(*columns, reason=pl.lit(NOT_CLOSED)),
            ]
        ),
    )


def _near(sessions: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    if bars.is_empty():
        return sessions.clear()
    low, high = bars.select(pl.col("ts").min().alias("low"), pl.col("ts").max().alias("high")).row(0)
    margin = timedelta(days=8)
    return sessions.filter(pl.col("close") >= low - margin, pl.col("open") <= high + margin)


def _on_grid(
    bars: pl.DataFrame, timeframe: Timeframe, calendars: pl.DataFrame, sessions: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars whose ts is exactly one of the grid's, with `ts_end`; and the rest, with a reason."""
    grid = bar_grid(_near(sessions, bars), timeframe).select("calendar", "ts", "ts_end")
    joined = bars.join(calendars, on="symbol", how="left").join(grid, on=["calendar", "ts"], how="left")
    lost = joined.filter(pl.col("ts_end").is_null()).drop("ts_end")
    _, outside = _in_session(lost.drop("calendar"), timeframe, calendars, sessions)
    inside = lost.join(outside, on=["symbol", "ts"], how="anti").with_columns(reason=pl.lit(OFF_GRID))
    return joined.filter(pl.col("ts_end").is_not_null()).drop("calendar"), pl.concat(
        [outside.select(*BAR_SCHEMA, "reason"), inside.select(*BAR_SCHEMA, "reason")]
    )


def _in_session(
    bars: pl.DataFrame, timeframe: Timeframe, calendars: pl.DataFrame, sessions: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars that overlap a stretch of trading, whatever their anchor (vendors also cut hours by the clock); the rest."""
    stretches = segments(_near(sessions, bars)).sort("segment_close")
    full_end = pl.col("ts").dt.offset_by(f"{timeframe.minutes}m")
    joined = (
        bars.join(calendars, on="symbol", how="left")
        .sort("ts")
        .join_asof(
            stretches.drop("session"),
            left_on="ts",
            right_on="segment_close",
            by="calendar",
            strategy="forward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .with_columns(pl.min_horizontal(full_end, "segment_close").alias("ts_end"))
    )
    overlaps = (pl.col("segment_open") < full_end).fill_null(False)
    return joined.filter(overlaps), joined.filter(~overlaps).with_columns(reason=pl.lit(OUTSIDE_SESSION))


def _on_sessions(
    bars: pl.DataFrame, calendars: pl.DataFrame, sessions: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Daily bars moved to their session's open, with `ts_end`; and those that no session can be found for.

    Every label in use lies inside the session or before it, at most 24 hours before the close, so the session is the
    first one that closes after the label; a label on a weekend or holiday is further away and is skipped.
    """
    days = _near(sessions, bars).select("calendar", session_open="regular_open", close="regular_close").sort("close")
    joined = (
        bars.join(calendars, on="symbol", how="left")
        .sort("ts")
        .join_asof(
            days,
            left_on="ts",
            right_on="close",
            by="calendar",
            strategy="forward",
            allow_exact_matches=False,
            check_sortedness=False,
            coalesce=False,
            suffix="_of_session",
        )
    )
    found = (pl.col("close_of_session") - pl.col("ts") <= timedelta(hours=24)).fill_null(False)
    placed = joined.filter(found).with_columns(
        pl.col("session_open").alias("ts"), pl.col("close_of_session").alias("ts_end")
    )
    return placed.select(*BAR_SCHEMA, "ts_end"), joined.filter(~found).with_columns(reason=pl.lit(OUTSIDE_SESSION))
