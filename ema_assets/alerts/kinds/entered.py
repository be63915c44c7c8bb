"""Kind `entry`: a strategy has entered a trade."""

import polars as pl

from ema_assets.alerts.declaration import STRATEGIES, Batch, Row, SeriesKind, price
from ema_assets.model.declarations import Params


def _find(batch: Batch, _: Params) -> pl.DataFrame:
    return batch.rows.filter(pl.col("entry_ts") > pl.col("known_through")).select(
        "symbol", "side", "entry_price", "entry_reason", "stop_price", "target_price", ts="entry_ts"
    )


def _say(row: Row) -> str:
    levels = "".join(
        f", {name} {price(row[column])}"
        for name, column in (("stop", "stop_price"), ("target", "target_price"))
        if row[column] is not None
    )
    return f"{row['side']} entry at {price(row['entry_price'])} ({row['entry_reason']}){levels}"


KIND = SeriesKind(
    name="entry",
    titles=("entry", "entries"),
    description="A strategy has entered a trade in the bar that has just closed.",
    asset=STRATEGIES,
    find=_find,
    say=_say,
)
