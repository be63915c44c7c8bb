"""The condition of each series by calendar and ledger: fresh, due, late, failing, and since when. Writes nothing."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import polars as pl

from ema_assets.refresh.plan import AT_ONCE, Publications, closed_bars
from ema_assets.reports import health
from ema_assets.store import series_overview
from ema_assets.store.database import Transaction

FRESH, DUE, LATE, FAILING, COMPUTING = "fresh", "due", "late", "failing", "computing"
INCOMPLETE = "incomplete"
LOADING, SILENT, WITHOUT_BARS, FROM_FILES = "loading", "silent", "without bars", "from files"

# The meaning of each word, for legends; the most urgent first.
CONDITIONS: Mapping[str, str] = {
    FAILING: "the last attempt failed; it is tried again",
    LATE: "a bar has closed and is not stored yet",
    INCOMPLETE: "the provider was asked and did not send the newest bars; they are requested again",
    WITHOUT_BARS: "the provider was asked and has no bar",
    COMPUTING: "an input has changed, and the results wait to be computed",
    LOADING: "the series is new, and its history is still to be loaded",
    SILENT: "the symbol has no bars any more",
    DUE: "a bar has closed a moment ago and is being fetched",
    FRESH: "every bar that has closed is stored, and everything is computed from it",
    FROM_FILES: "bars come from files alone",
}
# Conditions that need nobody's attention.
FINE = (FRESH, DUE, FROM_FILES)

# A bar that became available less than this ago is being fetched: its run must start and request it.
GRACE = timedelta(minutes=2)


def conditions(transaction: Transaction, now: datetime, publications: Publications = AT_ONCE) -> pl.DataFrame:
    """Return the condition of every series of an active symbol at `now`, one of CONDITIONS; unsorted.

    Columns: symbol, timeframe, condition, since (closing time of the newest missing bar, or null), those of
    `series_overview.computed_series`, waiting_since, ts_end (closing time of the last bar that can be requested),
    missing_bars, missing_from, asked_again, asked_again_at (of its open gaps after the newest bar), and
    has_fresh_averages (whether the condition would be one of FINE if nothing but bars, EMAs and trends counted).
    """
    series = series_overview.computed_series(transaction)
    waiting = series_overview.to_compute(transaction)
    market = ["calendar", "provider", "delay_seconds", "timeframe"]
    expected = closed_bars(transaction, now, publications).select(*market, "ts", "ts_end")
    # Bars whose grace is over. The newest bar alone is not enough: on 1m, another bar closes before the grace ends.
    overdue = closed_bars(transaction, now - GRACE, publications).select(*market, overdue_end="ts_end")
    rows = (
        series.join(expected, on=market, how="left", nulls_equal=True)
        .join(overdue, on=market, how="left", nulls_equal=True)
        .join(waiting, on=["symbol", "timeframe"], how="left", suffix="_computed")
        .with_columns(_base=pl.coalesce("source", "timeframe"))
        .join(
            _gaps_at_the_end(transaction, series),
            left_on=["symbol", "_base"],
            right_on=["symbol", "timeframe"],
            how="left",
        )
    )
    averages_failures = pl.max_horizontal("failures", pl.col("averages_failures").fill_null(0))
    rows = rows.with_columns(
        has_fresh_averages=_condition(averages_failures, pl.col("averages_waiting_since")).is_in(FINE),
        failures=pl.max_horizontal("failures", pl.col("failures_computed").fill_null(0)),
        last_error=pl.coalesce("last_error", "last_error_computed"),
        next_attempt_at=pl.coalesce("next_attempt_at", "next_attempt_at_computed"),
    )
    return (
        rows.with_columns(condition=_condition(pl.col("failures"), pl.col("waiting_since")))
        .with_columns(since=pl.when(pl.col("condition").is_in([LATE, DUE, INCOMPLETE])).then("ts_end"))
        .select(
            *("symbol", "timeframe", "condition", "since", *series.columns[2:], "waiting_since", "ts_end"),
            *("missing_bars", "missing_from", "asked_again", "asked_again_at", "has_fresh_averages"),
        )
    )


def next_attempt(at: datetime, now: datetime) -> str:
    """Say when a series that has failed is tried again; `at` is `next_attempt_at` of `conditions`."""
    if at <= now:
        return "Its pause is over: the next run takes it up."
    return f"The next attempt is at {at:%Y-%m-%d %H:%M:%S} UTC."


def _condition(failures: pl.Expr, waiting_since: pl.Expr) -> pl.Expr:
    """Return the expression for a row's condition: the first one that it meets, in the order below."""
    is_behind = pl.col("checked_through") < pl.col("ts_end")
    # Bars that did not trade are not missing.
    lacks_newest = (pl.col("last_ts") < pl.col("ts")) & pl.col("missing_bars").is_not_null()
    return (
        # Files need not have bars of every timeframe.
        pl.when(~pl.col("is_fetched") & pl.col("last_ts").is_null())
        .then(pl.lit(FROM_FILES))
        .when(failures > 0)
        .then(pl.lit(FAILING))
        .when(~pl.col("is_fetched") & waiting_since.is_null())
        .then(pl.lit(FROM_FILES))
        .when(pl.col("silent_since").is_not_null())
        .then(pl.lit(SILENT))
        .when(pl.col("is_fetched") & pl.col("checked_through").is_null())
        .then(pl.lit(LOADING))
        # Of a source without bars, there is nothing to load.
        .when(pl.col("source").is_not_null() & pl.col("last_ts").is_null() & pl.col("base_last_ts").is_not_null())
        .then(pl.lit(LOADING))
        .when(pl.col("checked_through") < pl.col("overdue_end"))
        .then(pl.lit(LATE))
        .when(lacks_newest)
        .then(pl.lit(INCOMPLETE))
        .when(waiting_since.is_not_null())
        .then(pl.lit(COMPUTING))
        .when(pl.col("last_ts").is_null())
        .then(pl.lit(WITHOUT_BARS))
        .when(is_behind)
        .then(pl.lit(DUE))
        .otherwise(pl.lit(FRESH))
    )


def _gaps_at_the_end(transaction: Transaction, series: pl.DataFrame) -> pl.DataFrame:
    """Return what open gaps after the newest bar of fetched series lack, one row per series that has such gaps.

    Columns: symbol, timeframe, missing_bars, missing_from, asked_again, asked_again_at.
    """
    newest = series.select("symbol", pl.coalesce("source", "timeframe").alias("timeframe"), "base_last_ts").unique()
    return (
        health.open_gaps(transaction)
        .join(newest, on=["symbol", "timeframe"])
        .filter(pl.col("first_ts") > pl.col("base_last_ts"))
        .group_by("symbol", "timeframe")
        .agg(
            missing_bars=pl.col("bars").sum(),
            missing_from=pl.col("first_ts").min(),
            asked_again=pl.col("asked").max(),
            asked_again_at=pl.col("next_attempt_at").min(),
        )
    )
