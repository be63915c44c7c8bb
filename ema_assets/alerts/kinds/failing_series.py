"""Kind `series_failing`: a series could not be brought up to date several times in a row."""

import polars as pl

from ema_assets.alerts.declaration import Conditions, Row, TroubleKind
from ema_assets.alerts.failures import AFTER
from ema_assets.model.counts import times_in_a_row
from ema_assets.model.declarations import Params


def _find(conditions: Conditions, params: Params) -> pl.DataFrame:
    return (
        conditions.failing_series()
        .filter(pl.col("failures") >= params["after_failures"])
        .with_columns(subject=pl.format("{}|{} {}", "symbol", "timeframe", "asset"))
    )


def _say(row: Row) -> str:
    return f"{row['asset']} has failed {times_in_a_row(row['failures'])}: {row['last_error']}"


KIND = TroubleKind(
    name="series_failing",
    titles=("series failing", "series failing"),
    description="A series has failed `after_failures` times in a row; its end is reported as well.",
    find=_find,
    say=_say,
    params=AFTER,
    is_of_series=True,
)
