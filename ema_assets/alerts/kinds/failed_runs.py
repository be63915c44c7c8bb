"""Kind `run_failed`: a run of Dagster has failed and is not tried again.

In an outage each run for stale series fails, on every timeframe: that is reported as one trouble, with its end.
"""

import polars as pl

from ema_assets.alerts.declaration import Conditions, Row, TroubleKind
from ema_assets.model.declarations import Params

# The job of a run that was launched for assets and not for a job has a name that only Dagster knows.
_OF_CHOSEN_ASSETS = "__ASSET_JOB"


def _find(conditions: Conditions, _: Params) -> pl.DataFrame:
    is_lasting = pl.col("of_timeframe").is_not_null()
    subject = pl.when(is_lasting).then("job").otherwise(pl.coalesce("backfill", "run_id"))
    return conditions.failed_runs().with_columns(subject=subject, is_lasting=is_lasting, at="ended_at")


def _say(row: Row) -> str:
    if row["of_timeframe"] is not None:
        work = f"{row['job']} ({row['of_timeframe']})"
    elif row["backfill"] is not None:
        work = f"backfill {row['backfill']}"
    elif row["job"].startswith(_OF_CHOSEN_ASSETS):
        work = "assets that somebody chose"
    else:
        work = row["job"]
    return f"run {row['run_id'][:8]} of {work} failed at {row['ended_at']:%Y-%m-%d %H:%M} UTC"


KIND = TroubleKind(
    name="run_failed",
    titles=("failed run", "failed runs"),
    description=(
        "A run of Dagster has failed and is not tried again. Runs that follow the bars are reported once until "
        "they succeed again, which is reported as well; those of one backfill are reported once."
    ),
    find=_find,
    say=_say,
)
