"""How each series stands by the calendar and the ledger: fresh, due, late, failing, and since when. Writes nothing."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import polars as pl

from ema_assets.refresh.plan import AT_ONCE, Publications, closed_bars
from ema_assets.store import series_overview
from ema_assets.store.database import Transaction

FRESH, DUE, LATE, FAILING, COMPUTING = "fresh", "due", "late", "failing", "computing"
LOADING, SILENT, WITHOUT_BARS, FROM_FILES = "loading", "silent", "without bars", "from files"

# What each word means, for legends; the order is that of urgency.
CONDITIONS: Mapping[str, str] = {
    FAILING: "the last attempt failed; it is tried again",
    LATE: "a bar has closed and is not stored yet",
    WITHOUT_BARS: "the provider was asked and has no bar",
    COMPUTING: "an input has changed, and the results wait to be computed",
    LOADING: "the series is new, and its history is still to be loaded",
    SILENT: "the symbol has no bars any more",
    DUE: "a bar has closed a moment ago and is being fetched",
    FRESH: "every bar that has closed is stored, and everything is computed from it",
    FROM_FILES: "bars come from files alone",
}
# Those that a person need not look at.
FINE = (FRESH, DUE, FROM_FILES)

# A bar that can be asked for since less than this is being fetched: its run has to start and to ask.
GRACE = timedelta(minutes=2)


def conditions(transaction: Transaction, now: datetime, publications: Publications = AT_ONCE) -> pl.DataFrame:
    """The condition of every series of an active symbol at `now`, one of CONDITIONS.

    Columns: symbol, timeframe, condition, since (closing time of the bar that is missing, for due and late ones), and
    those of `series_overview.computed_series`.
    """
    series = series_overview.computed_series(transaction)
    waiting = series_overview.to_compute(transaction)
    closed = closed_bars(transaction, now, publications)
    expected = closed.select(
        "calendar", pl.col("provider").fill_null(""), "delay_seconds", "timeframe", "ts_end", "published_at"
    )
    rows = (
        series.with_columns(_provider=pl.col("provider").fill_null(""))
        .join(
            expected,
            left_on=["calendar", "_provider", "delay_seconds", "timeframe"],
            right_on=["calendar", "provider", "delay_seconds", "timeframe"],
            how="left",
        )
        .join(waiting, on=["symbol", "timeframe"], how="left", suffix="_computed")
    )
    rows = rows.with_columns(
        failures=pl.max_horizontal("failures", pl.col("failures_computed").fill_null(0)),
        last_error=pl.coalesce("last_error", "last_error_computed"),
        next_attempt_at=pl.coalesce("next_attempt_at", "next_attempt_at_computed"),
    )
    is_behind = pl.col("checked_through") < pl.col("ts_end")
    condition = (
        pl.when(~pl.col("is_fetched") & pl.col("last_ts").is_null())
        .then(pl.lit(WITHOUT_BARS))
        .when(pl.col("failures") > 0)
        .then(pl.lit(FAILING))
        .when(~pl.col("is_fetched") & pl.col("waiting_since").is_null())
        .then(pl.lit(FROM_FILES))
        .when(pl.col("silent_since").is_not_null())
        .then(pl.lit(SILENT))
        .when(pl.col("is_fetched") & pl.col("checked_through").is_null())
        .then(pl.lit(LOADING))
        .when(pl.col("source").is_not_null() & pl.col("last_ts").is_null())
        .then(pl.lit(LOADING))
        .when(is_behind & (pl.col("published_at") + GRACE < now))
        .then(pl.lit(LATE))
        .when(pl.col("waiting_since").is_not_null())
        .then(pl.lit(COMPUTING))
        .when(pl.col("last_ts").is_null())
        .then(pl.lit(WITHOUT_BARS))
        .when(is_behind)
        .then(pl.lit(DUE))
        .otherwise(pl.lit(FRESH))
    )
    return (
        rows.with_columns(condition=condition)
        .with_columns(since=pl.when(pl.col("condition").is_in([LATE, DUE])).then("ts_end"))
        .select("symbol", "timeframe", "condition", "since", *series.columns[2:], "waiting_since", "ts_end")
    )
