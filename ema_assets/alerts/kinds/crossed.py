"""Kind `crossover`: one EMA has crossed the other, such as EMA 9 and EMA 30."""

import polars as pl

from ema_assets.alerts.declaration import TRENDS, Batch, Row, SeriesKind, averages, price
from ema_assets.model.declarations import Params
from ema_assets.model.prices import percent_text
from ema_assets.model.symbols import BULLISH


def _find(batch: Batch, _: Params) -> pl.DataFrame:
    is_new = pl.col("ts") > pl.col("known_through")
    return batch.rows.filter(is_new & pl.col("crossover").is_not_null()).select(
        "symbol", "ts", "crossover", "spread_pct"
    )


def _say(row: Row) -> str:
    where = "above" if row["crossover"] == BULLISH else "below"
    spread = "" if row["spread_pct"] is None else f", spread {percent_text(row['spread_pct'])}"
    fast, slow = averages(row)
    return f"{row['crossover']} crossover, {fast} is {where} {slow}; close {price(row['close'])}{spread}"


KIND = SeriesKind(
    name="crossover",
    titles=("crossover", "crossovers"),
    description=(
        "EMA 9 has crossed EMA 30 in the bar that has just closed, or one average of a strategy with other spans the "
        "other."
    ),
    asset=TRENDS,
    find=_find,
    say=_say,
)
