"""Kind `provider_shut_out`: a provider does not answer, and is not queried for a while."""

import polars as pl

from ema_assets.alerts.declaration import Conditions, Row, TroubleKind
from ema_assets.alerts.failures import AFTER
from ema_assets.model.counts import times_in_a_row
from ema_assets.model.declarations import Params


def _find(conditions: Conditions, params: Params) -> pl.DataFrame:
    return (
        conditions.silent_providers()
        .filter(pl.col("failures") >= params["after_failures"])
        .with_columns(subject="provider")
    )


def _say(row: Row) -> str:
    # With its date: a pause may last days, and messages may be read late.
    again = "" if row["open_until"] is None else f", tried again at {row['open_until']:%Y-%m-%d %H:%M:%S} UTC"
    return f"{row['provider']} has not answered {times_in_a_row(row['failures'])}{again}: {row['last_error']}"


KIND = TroubleKind(
    name="provider_shut_out",
    titles=("provider shut out", "providers shut out"),
    description=(
        "A provider has not answered, or has refused everything, `after_failures` times in a row; its end is "
        "reported as well."
    ),
    find=_find,
    say=_say,
    params=AFTER,
)
