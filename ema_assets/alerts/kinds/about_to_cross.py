"""Kind `about_to_cross`: a small move of the next close would make two EMAs cross."""

import polars as pl

from ema_assets.alerts.declaration import TRENDS, Batch, Row, SeriesKind, averages, price
from ema_assets.model.asset_names import OHLC
from ema_assets.model.declarations import Param, Params
from ema_assets.model.prices import percent_text
from ema_assets.model.symbols import UP

_WITHIN, _AFTER = "cross_within_pct", "cross_after_bars"


def _find(batch: Batch, params: Params) -> pl.DataFrame:
    assert batch.spans is not None
    fast, slow = (2 / (span + 1) for span in batch.spans)
    # The next close at which both averages are equal, as in the view `results.screener`.
    cross = ((1 - slow) * pl.col("slow") - (1 - fast) * pl.col("fast")) / (fast - slow)
    newest = batch.rows.filter(
        (pl.col("ts") == pl.col("newest")) & (pl.col("ts") > pl.col("known_through")) & pl.col("crossover").is_null(),
        # Just after a cross the averages are close to each other, which is not worth an alert.
        (pl.col("bars_since_cross") >= params[_AFTER]).fill_null(value=True),
    ).with_columns(cross_price=cross)
    found = newest.filter((pl.col("close") > 0) & (pl.col("cross_price") > 0)).with_columns(
        move_pct=(pl.col("cross_price") / pl.col("close") - 1) * 100
    )
    # An uptrend ends when the close falls that far. With the opposite sign, an unchanged close is enough.
    needed = pl.when(pl.col("trend") == UP).then(-pl.col("move_pct")).otherwise(pl.col("move_pct"))
    return found.filter(pl.col("trend").is_not_null() & (needed <= params[_WITHIN])).select(
        "symbol", "ts", "trend", "close", "cross_price", "move_pct"
    )


def _say(row: Row) -> str:
    is_up = row["trend"] == UP
    coming = f"{' and '.join(averages(row))} about to cross ({'bearish' if is_up else 'bullish'})"
    move = f"{price(row['cross_price'])}, {percent_text(row['move_pct'])} from {price(row['close'])}"
    # A move with the trend keeps them from crossing, one against it makes them cross.
    if row["move_pct"] > 0 if is_up else row["move_pct"] < 0:
        return f"{coming} unless the next close {'rises above' if is_up else 'falls below'} {move}"
    return f"{coming} if the next close reaches {move}"


KIND = SeriesKind(
    name="about_to_cross",
    titles=("about to cross", "about to cross"),
    description=(
        "EMA 9 and EMA 30, or those of a strategy with other spans, would cross if the next close moved by at most "
        "`cross_within_pct` percent, and have not crossed for `cross_after_bars` bars; reported once per leg of a "
        "trend."
    ),
    asset=TRENDS,
    find=_find,
    say=_say,
    reads={OHLC: ("close",)},
    reads_averages=True,
    is_per_leg=True,
    params={
        _WITHIN: Param(0.2, "How far away the next close may be, in percent", least=0.01, most=50),
        _AFTER: Param(9, "How many bars ago the last cross must be", least=0),
    },
)
