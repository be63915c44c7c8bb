"""Kind `exit`: a strategy has closed a trade."""

import polars as pl

from ema_assets.alerts.declaration import STRATEGIES, Batch, Row, SeriesKind, price
from ema_assets.model.counts import counted
from ema_assets.model.declarations import Params
from ema_assets.model.prices import percent_text


def _find(batch: Batch, _: Params) -> pl.DataFrame:
    columns = ("symbol", "side", "entry_price", "exit_price", "exit_reason", "return_pct", "bars_held")
    # A trade has one exit, even if a correction moves it to another bar.
    return batch.rows.filter(pl.col("exit_ts") > pl.col("known_through")).select(
        *columns, ts="exit_ts", occurrence=pl.col("entry_ts").dt.to_string("iso")
    )


def _say(row: Row) -> str:
    made = "" if row["return_pct"] is None else f", {percent_text(row['return_pct'])}"
    return (
        f"{row['side']} exit at {price(row['exit_price'])} ({row['exit_reason']}){made} in "
        f"{counted(row['bars_held'], 'bar')}, entered at {price(row['entry_price'])}"
    )


KIND = SeriesKind(
    name="exit",
    titles=("exit", "exits"),
    description="A strategy has closed a trade in the bar that has just closed.",
    asset=STRATEGIES,
    find=_find,
    say=_say,
)
