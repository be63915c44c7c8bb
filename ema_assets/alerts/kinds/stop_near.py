"""Kind `stop_near`: the close is near the stop of an open trade."""

import polars as pl

from ema_assets.alerts.declaration import STRATEGIES, Batch, Row, SeriesKind, price
from ema_assets.model.declarations import Param, Params
from ema_assets.model.prices import percent_text

_WITHIN = "stop_within_pct"


def _find(batch: Batch, params: Params) -> pl.DataFrame:
    away = (pl.col("last_price") / pl.col("stop_now") - 1) * 100
    open_trades = batch.rows.filter(
        pl.col("exit_ts").is_null() & (pl.col("last_ts") > pl.col("known_through")) & (pl.col("stop_now") > 0)
    )
    # Once per trade: near a stop that trails the price, every bar would report it again.
    return (
        open_trades.with_columns(away_pct=away)
        .filter(pl.col("away_pct").abs() <= params[_WITHIN])
        .select(
            *("symbol", "side", "last_price", "stop_now", "away_pct", "return_pct"),
            ts="last_ts",
            occurrence=pl.col("entry_ts").dt.to_string("iso"),
        )
    )


def _say(row: Row) -> str:
    made = "" if row["return_pct"] is None else f"; the trade is at {percent_text(row['return_pct'])}"
    return (
        f"close {price(row['last_price'])} is {percent_text(row['away_pct'])} from the stop {price(row['stop_now'])} "
        f"of the {row['side']} trade{made}"
    )


KIND = SeriesKind(
    name="stop_near",
    titles=("stop near", "stops near"),
    description="The close is within `stop_within_pct` percent of the stop of an open trade; reported once per trade.",
    asset=STRATEGIES,
    find=_find,
    say=_say,
    params={_WITHIN: Param(0.5, "How near the close must be, in percent of the stop", least=0.01, most=50)},
)
