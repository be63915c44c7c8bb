"""Kind `crossover`: EMA 9 has crossed EMA 30."""

import polars as pl

from ema_assets.alerts.declaration import Batch, Row, SeriesKind, percent, price
from ema_assets.model.asset_names import EMA_TREND
from ema_assets.model.declarations import Params
from ema_assets.model.symbols import BULLISH


def _find(batch: Batch, _: Params) -> pl.DataFrame:
    is_new = pl.col("ts") > pl.col("known_through")
    return batch.rows.filter(is_new & pl.col("crossover").is_not_null()).select(
        "symbol", "ts", "crossover", "spread_pct"
    )


def _say(row: Row) -> str:
    where = "above" if row["crossover"] == BULLISH else "below"
    spread = "" if row["spread_pct"] is None else f", spread {percent(row['spread_pct'])}"
    return f"{row['crossover']} crossover, EMA 9 is {where} EMA 30; close {price(row['close'])}{spread}"


KIND = SeriesKind(
    name="crossover",
    titles=("crossover", "crossovers"),
    description="EMA 9 has crossed EMA 30 in the bar that has just closed.",
    asset=EMA_TREND,
    find=_find,
    say=_say,
)
