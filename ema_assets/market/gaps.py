"""Which bars should exist and do not: from the grid, the bars there are, and what was known before. No I/O, no clock.

A gap is a run of bars missing one after the other. It is asked for again with growing pauses; when the provider keeps
answering without these bars, nothing was traded and the gap is settled. Where that is not to be believed, because every
symbol misses the same bars or a whole day is missing, it is asked for again over the next days and weeks.
"""

from datetime import datetime, timedelta

import polars as pl

from ema_assets.market.calendars import bar_grid
from ema_assets.model.schemas import GAP_SCHEMA, UTC_TIME
from ema_assets.model.timeframes import Timeframe

OPEN, DID_NOT_TRADE, NOT_IN_FILE = "open", "did not trade", "not in file"

# A bar that is missing right after its close may just be late. One that was missing a day later is not asked for again.
MOST_ATTEMPTS = 4
OLD_AFTER = timedelta(days=1)
PAUSE_FACTOR = 4
# A vendor mends its own outages within days or weeks: attempts after the first four are days apart.
MOST_PATIENT_ATTEMPTS = 8
PATIENT_FOR = timedelta(days=21)
_PATIENT_PAUSE = timedelta(days=1)
# Gaps of rolled-up timeframes, which only files leave, wait for nobody.
_ROLLED_UP_PAUSE = timedelta(hours=1)
# Attempts fall due at the same few moments for all series, 2:30 after each ten minutes: one run takes them all, and
# it is not in the way of a bar's close.
_DUE_EVERY, _DUE_OFFSET = timedelta(minutes=10), timedelta(seconds=150)

_SHARED = ("status", "asked", "next_attempt_at", "found_at")


def grid_with_slots(sessions: pl.DataFrame, timeframe: Timeframe, *, by_clock: bool = False) -> pl.DataFrame:
    """The bars that should exist in `sessions`, numbered: calendar, ts, ts_end, slot (neighbours differ by one).

    With `by_clock` intraday bars are cut at full multiples of the timeframe UTC, as some vendors do, the first one of
    a session beginning before its open.
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
    """Every bar that should exist in `windows` (symbol, calendar, start, end; end excluded).

    Columns: symbol, ts, ts_end, slot.
    """
    found = []
    for (calendar,), mine in windows.partition_by("calendar", as_dict=True).items():
        bars = grid.filter(
            pl.col("calendar") == calendar, pl.col("ts") >= mine["start"].min(), pl.col("ts") < mine["end"].max()
        )
        # A window's bars are one slice of the grid: found by bisection, not by comparing every bar with every window.
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
    """The gaps of all symbols after an answer: GAP_SCHEMA, sorted by symbol and first_ts.

    Args:
        missing: symbol, ts, ts_end, slot of bars that do not exist, among those looked at.
        known: GAP_SCHEMA, the gaps known before among the bars looked at; they are replaced by what is returned.
        timeframe: of the bars.
        now: UTC.
        is_asked: symbol, is_fetched: whether a provider can be asked for the bars, or they come from files only.
        outage: symbol, ts of those bars that every symbol misses.
        is_answered: a provider has just been asked for these bars, so that old ones need not be asked for again.
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
    is_due = is_known & (pl.col("status") == OPEN) & (pl.col("next_attempt_at") <= now)
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
    """`missing` with gap_end, status, asked, next_attempt_at and found_at of the last known gap before each bar.

    Gaps do not overlap each other, so that is the gap which holds the bar, where one does.
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
    """One gap (GAP_SCHEMA) for each run of neighbouring `missing` bars that agree in everything gaps keep."""
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
    """The first of the common due times that is not before `moment`."""
    shifted = moment - pl.lit(_DUE_OFFSET)
    every = f"{int(_DUE_EVERY.total_seconds())}s"
    start = shifted.dt.truncate(every)
    return pl.when(start == shifted).then(start).otherwise(start.dt.offset_by(every)) + pl.lit(_DUE_OFFSET)


def next_due_time(moment: datetime) -> datetime:
    """As `next_due`, of one time."""
    due = pl.select(next_due(pl.lit(moment, UTC_TIME))).item()
    assert isinstance(due, datetime)
    return due


def clusters(gaps: pl.DataFrame, apart: timedelta, most: int) -> pl.DataFrame:
    """Cover the `gaps` of each symbol (symbol, start, end, and what else is the same for a symbol) by `most` windows.

    Gaps less than `apart` from each other share one. Returns the columns of `gaps` and round (0, 1, …: a symbol has one
    window per round), sorted by round, start and symbol.
    """
    ordered = gaps.sort("symbol", "start")
    distance = pl.col("start") - pl.col("end").shift(1).over("symbol")
    # The widest distances are where a symbol's windows are cut.
    rank = distance.rank("ordinal", descending=True).over("symbol")
    is_cut = (distance >= apart) & (rank < most)
    return (
        ordered.with_columns(round=is_cut.fill_null(False).cast(pl.Int64).cum_sum().over("symbol"))
        .group_by(pl.exclude("start", "end"), maintain_order=True)
        .agg(pl.col("start").min(), pl.col("end").max())
        .select(*gaps.columns, "round")
        .sort("round", "start", "symbol")
    )
