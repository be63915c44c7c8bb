"""Finds missing bars and tracks gaps, from the grid, the existing bars and the known gaps. No I/O, no clock.

A gap is a run of consecutive missing bars. It is requested again with growing pauses. If the provider keeps answering
without these bars, nothing was traded and the gap is settled. If that is doubtful, because every symbol misses the same
bars or a whole day is missing, the gap is requested again over the next days and weeks.
"""

from datetime import datetime, timedelta

import polars as pl

from ema_assets.market.calendars import bar_grid
from ema_assets.model.schemas import GAP_SCHEMA, UTC_TIME
from ema_assets.model.timeframes import Timeframe

OPEN, DID_NOT_TRADE, NOT_IN_FILE = "open", "did not trade", "not in file"

# A bar that is missing right after its close may be late. One found to be missing a day later or more is not requested
# again.
MOST_ATTEMPTS = 4
OLD_AFTER = timedelta(days=1)
PAUSE_FACTOR = 4
# Vendors fill the gaps of their own outages within days or weeks. Attempts after the first four are days apart.
MOST_PATIENT_ATTEMPTS = 8
PATIENT_FOR = timedelta(days=21)
_PATIENT_PAUSE = timedelta(days=1)
# Only files leave gaps in rolled-up timeframes, so no provider is waited for.
_ROLLED_UP_PAUSE = timedelta(hours=1)
# Attempts are due at the same few moments for all series, 2:30 min after each multiple of ten minutes, so that one run
# takes them all and does not delay the bars that close on these minutes.
_DUE_EVERY, _DUE_OFFSET = timedelta(minutes=10), timedelta(seconds=150)

_SHARED = ("status", "asked", "next_attempt_at", "found_at")


def grid_with_slots(sessions: pl.DataFrame, timeframe: Timeframe, *, by_clock: bool = False) -> pl.DataFrame:
    """Return the bars that should exist in `sessions`, numbered: calendar, ts, ts_end, slot.

    The slots of consecutive bars of a calendar differ by one. With `by_clock`, intraday bars begin at whole multiples
    of the timeframe in UTC, as with some vendors, so the first one of a session may begin before its open.
    """
    grid = bar_grid(sessions, timeframe)
    if by_clock and not timeframe.is_session:
        step = f"{timeframe.minutes}m"
        grid = (
            sessions.sort("calendar", "open")
            .with_columns(
                pl.datetime_ranges(pl.col("open").dt.truncate(step), "close", step, closed="left").alias("ts")
            )
            .explode("ts")
            .select("calendar", "session", "ts", ts_end=pl.min_horizontal(pl.col("ts").dt.offset_by(step), "close"))
        )
    return grid.select("calendar", "ts", "ts_end", slot=pl.int_range(pl.len()).over("calendar"))


def expected(windows: pl.DataFrame, grid: pl.DataFrame) -> pl.DataFrame:
    """Return every bar that should exist in `windows` (symbol, calendar, start, end; end excluded).

    Columns: symbol, ts, ts_end, slot.
    """
    found = []
    for (calendar,), mine in windows.partition_by("calendar", as_dict=True).items():
        bars = grid.filter(
            pl.col("calendar") == calendar, pl.col("ts") >= mine["start"].min(), pl.col("ts") < mine["end"].max()
        )
        # The bars of a window are a slice of the grid, which bisection finds without comparing every bar and window.
        low, high = bars["ts"].search_sorted(mine["start"]), bars["ts"].search_sorted(mine["end"])
        places = mine.select("symbol").with_columns(low=low, high=high).filter(pl.col("low") < pl.col("high"))
        rows = places.select("symbol", row=pl.int_ranges("low", "high")).explode("row")
        found.append(rows.select("symbol").with_columns(bars.select("ts", "ts_end", "slot")[rows["row"]]))
    schema = {"symbol": pl.String(), "ts": UTC_TIME, "ts_end": UTC_TIME, "slot": pl.Int64()}
    return pl.concat([pl.DataFrame(schema=schema), *(frame.match_to_schema(schema) for frame in found)])


def reconcile(
    missing: pl.DataFrame,
    known: pl.DataFrame,
    timeframe: Timeframe,
    now: datetime,
    *,
    is_asked: pl.DataFrame,
    outage: pl.DataFrame,
    is_answered: bool,
) -> pl.DataFrame:
    """Return the gaps of all symbols after an answer: GAP_SCHEMA, sorted by symbol and first_ts.

    Args:
        missing: symbol, ts, ts_end, slot of the bars that do not exist, among those examined.
        known: GAP_SCHEMA, the known gaps among the bars examined; the result replaces them.
        timeframe: the timeframe of the bars.
        now: UTC.
        is_asked: symbol, is_fetched: whether the bars can be requested from a provider, or come from files only.
        outage: symbol, ts of the bars that every symbol misses.
        is_answered: whether these bars have just been requested from a provider, so that old ones need not be again.
    """
    everyone = outage.select("symbol", "ts", is_outage=pl.lit(True))
    matched = (
        _match_known_gaps(missing, known)
        .join(is_asked, on="symbol", how="left")
        .join(everyone, on=["symbol", "ts"], how="left")
    )
    is_known = (pl.col("ts") <= pl.col("gap_end")).fill_null(False) & (
        pl.col("is_fetched") != (pl.col("status") == NOT_IN_FILE)
    )
    # A file is no answer to a request for these bars.
    is_due = is_known & (pl.col("status") == OPEN) & (pl.col("next_attempt_at") <= now) & pl.lit(is_answered)
    asked = pl.when(is_known).then(pl.col("asked") + is_due.cast(pl.Int64)).otherwise(0)
    found_at = pl.when(is_known).then("found_at").otherwise(pl.lit(now, UTC_TIME))
    was_settled = is_known & (pl.col("status") != OPEN)
    is_old = found_at - pl.col("ts_end") > OLD_AFTER
    doubted = pl.lit(True) if timeframe.is_session else pl.col("is_outage").fill_null(False)
    is_patient = doubted & (pl.lit(now, UTC_TIME) - pl.col("ts_end") < PATIENT_FOR)
    most_old = 0 if is_answered else 1
    most = pl.when(is_patient).then(MOST_PATIENT_ATTEMPTS).when(is_old).then(most_old).otherwise(MOST_ATTEMPTS)
    exhausted = asked >= most
    status = (
        pl.when(~pl.col("is_fetched"))
        .then(pl.lit(NOT_IN_FILE))
        .when(was_settled | exhausted)
        .then(pl.lit(DID_NOT_TRADE))
        .otherwise(pl.lit(OPEN))
    )
    updated = matched.select(
        "symbol",
        "ts",
        "slot",
        "next_attempt_at",
        asked=asked,
        found_at=found_at,
        status=status,
        is_slow=is_patient & is_old,
        renew=is_due | ~is_known,
    ).with_columns(
        next_attempt_at=pl.when(pl.col("status") == OPEN).then(
            pl.when("renew")
            .then(_due_after(pl.col("asked"), pl.col("is_slow"), timeframe, now))
            .otherwise("next_attempt_at")
        )
    )
    return _runs_of_bars(updated)


def _match_known_gaps(missing: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Return `missing` with gap_end, status, asked, next_attempt_at and found_at of the last gap that begins before.

    Gaps do not overlap, so this is the gap that contains the bar, if any does.
    """
    gaps = known.select("symbol", gap_start="first_ts", gap_end="last_ts", **{name: name for name in _SHARED})
    return missing.sort("ts").join_asof(
        gaps.sort("gap_start"),
        left_on="ts",
        right_on="gap_start",
        by="symbol",
        strategy="backward",
        check_sortedness=False,
    )


def _runs_of_bars(missing: pl.DataFrame) -> pl.DataFrame:
    """Return one gap (GAP_SCHEMA) per run of consecutive `missing` bars with the same status, attempts and times."""
    ordered = missing.sort("symbol", "slot")
    breaks = pl.any_horizontal(
        pl.col("slot") != pl.col("slot").shift(1) + 1,
        *(pl.col(name).ne_missing(pl.col(name).shift(1)) for name in _SHARED),
    )
    return (
        ordered.with_columns(_run=breaks.fill_null(True).cum_sum().over("symbol"))
        .group_by("symbol", "_run", maintain_order=True)
        .agg(
            first_ts=pl.col("ts").first(),
            last_ts=pl.col("ts").last(),
            bars=pl.len().cast(pl.Int64),
            **{name: pl.col(name).first() for name in _SHARED},
        )
        .drop("_run")
        .match_to_schema(GAP_SCHEMA, integer_cast="upcast")
    )


def _due_after(asked: pl.Expr, is_slow: pl.Expr, timeframe: Timeframe, now: datetime) -> pl.Expr:
    first = timeframe.fetched.gap_pause if timeframe.is_fetched else _ROLLED_UP_PAUSE
    quick = pl.lit(first) * (PAUSE_FACTOR**asked)
    slow = pl.lit(_PATIENT_PAUSE) * (2 ** (asked - MOST_ATTEMPTS).clip(lower_bound=0))
    pause = pl.when(is_slow | (asked >= MOST_ATTEMPTS)).then(slow).otherwise(quick)
    return next_due(pl.lit(now, UTC_TIME) + pause.cast(pl.Duration("us")))


def next_due(moment: pl.Expr) -> pl.Expr:
    """Return the first common due time at or after `moment`."""
    shifted = moment - pl.lit(_DUE_OFFSET)
    every = f"{int(_DUE_EVERY.total_seconds())}s"
    start = shifted.dt.truncate(every)
    return pl.when(start == shifted).then(start).otherwise(start.dt.offset_by(every)) + pl.lit(_DUE_OFFSET)


def next_due_time(moment: datetime) -> datetime:
    """Return the first common due time at or after one `moment`."""
    due = pl.select(next_due(pl.lit(moment, UTC_TIME))).item()
    assert isinstance(due, datetime)
    return due


def clusters(gaps: pl.DataFrame, apart: timedelta, most: int) -> pl.DataFrame:
    """Cover the `gaps` of each symbol (symbol, start, end, and columns equal per symbol) by at most `most` windows.

    Gaps less than `apart` from each other share one. Returns the columns of `gaps` and round (0, 1, …: a symbol has one
    window per round), sorted by round, start and symbol.
    """
    ordered = gaps.sort("symbol", "start")
    distance = pl.col("start") - pl.col("end").shift(1).over("symbol")
    # The windows of a symbol are separated at the largest distances.
    rank = distance.rank("ordinal", descending=True).over("symbol")
    is_cut = (distance >= apart) & (rank < most)
    return (
        ordered.with_columns(round=is_cut.fill_null(False).cast(pl.Int64).cum_sum().over("symbol"))
        .group_by(pl.exclude("start", "end"), maintain_order=True)
        .agg(pl.col("start").min(), pl.col("end").max())
        .select(*gaps.columns, "round")
        .sort("round", "start", "symbol")
    )
