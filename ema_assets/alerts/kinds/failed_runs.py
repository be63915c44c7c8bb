"""Kind `run_failed`: a run of Dagster has failed and is not tried again."""

import polars as pl

from ema_assets.alerts.declaration import Conditions, Row, TroubleKind
from ema_assets.model.declarations import Params


def _find(conditions: Conditions, _: Params) -> pl.DataFrame:
    return conditions.failed_runs().with_columns(subject="run_id")


def _say(row: Row) -> str:
    timeframe = "" if row["of_timeframe"] is None else f" ({row['of_timeframe']})"
    return f"run {row['run_id'][:8]} of {row['job']}{timeframe} failed at {row['ended_at']:%Y-%m-%d %H:%M} UTC"


KIND = TroubleKind(
    name="run_failed",
    titles=("failed run", "failed runs"),
    description="A run of Dagster has failed and is not tried again.",
    find=_find,
    say=_say,
    is_lasting=False,
)
