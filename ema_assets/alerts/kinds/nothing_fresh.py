"""Kind `nothing_fresh`: not one series is as fresh as it should be."""

import polars as pl

from ema_assets.alerts.declaration import Conditions, Row, TroubleKind
from ema_assets.model.declarations import Params


def _find(conditions: Conditions, _: Params) -> pl.DataFrame:
    found = conditions.freshness()
    return found.filter((pl.col("late") > 0) & (pl.col("fresh") == 0)).with_columns(subject=pl.lit("all series"))


def _say(row: Row) -> str:
    through = "" if row["asked_through"] is None else f"; the newest has bars up to {row['asked_through']:%H:%M} UTC"
    return f"all {row['late']} series are more than two bars late{through}"


KIND = TroubleKind(
    name="nothing_fresh",
    titles=("nothing is fresh", "nothing is fresh"),
    description=(
        "Every fetched series is more than two bars late, such as when Dagster or the network is down; its end is "
        "reported as well."
    ),
    find=_find,
    say=_say,
)
