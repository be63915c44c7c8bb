"""Signal `ema_trend`: trend, crossovers and spread of the two EMAs. No I/O."""

import polars as pl

from ema_assets.model.symbols import BEARISH, BULLISH, DOWN, UP
from ema_assets.signals.declaration import Column, Params, Signal
from ema_assets.signals.ema_signals import FAST, SLOW
from ema_assets.signals.recurrence import is_first


def ema_trend(signals: pl.DataFrame, carried: pl.DataFrame) -> pl.DataFrame:
    """The trend at each bar, for all symbols at once.

    `trend` is `up` when ema_9 > ema_30 and `down` when it is below; when they are equal the previous trend goes on;
    null until both EMAs exist. `crossover` is `bullish` or `bearish` on the bar where the trend flips, else null: the
    first trend of a series is not a flip. `spread_pct` is (ema_9 - ema_30) / ema_30 · 100, null when ema_30 is zero or
    less. `bars_since_cross` is 0 on a crossover and counts up from it; null before the first.

    Args:
        signals: symbol, ts, ema_9, ema_30, bar_number; sorted by symbol and ts.
        carried: symbol, trend, bars_since_cross of the row just before; absent symbols start from nothing.

    Returns:
        symbol, ts, trend, crossover, spread_pct, bars_since_cross, bar_number, in the same order.
    """
    before = carried.select("symbol", _trend=pl.col("trend") == UP, _since="bars_since_cross")
    spread = pl.col(FAST) - pl.col(SLOW)
    row = pl.int_range(pl.len(), dtype=pl.Int64)
    # Rows are filled forward over the whole frame and not symbol by symbol, which takes ten times as long; what was
    # filled from another symbol is seen by its row, which lies before this symbol's first.
    first_row = pl.when(is_first()).then(row).forward_fill()
    told_row = pl.when(spread != 0).then(row).forward_fill()
    is_up = pl.when(pl.col("_told") >= pl.col("_first")).then(pl.col("_up_told")).otherwise(pl.col("_trend"))
    flip_row = pl.when("_flipped").then(row).forward_fill()
    return (
        signals.join(before, on="symbol", how="left", maintain_order="left")
        .with_columns(
            first_row.alias("_first"),
            told_row.alias("_told"),
            pl.when(spread != 0).then(spread > 0).forward_fill().alias("_up_told"),
        )
        .with_columns(is_up.alias("_up"))
        .with_columns(
            (pl.col("_up") != pl.when(row > pl.col("_first")).then(pl.col("_up").shift(1)).otherwise(pl.col("_trend")))
            .fill_null(False)
            .alias("_flipped")
        )
        .with_columns(flip_row.alias("_flip"))
        .select(
            "symbol",
            "ts",
            trend=_named("_up", UP, DOWN),
            crossover=pl.when("_flipped").then(_named("_up", BULLISH, BEARISH)),
            spread_pct=pl.when(pl.col(SLOW) > 0).then(spread / pl.col(SLOW) * 100),
            bars_since_cross=pl.when(pl.col("_flip") >= pl.col("_first"))
            .then(row - pl.col("_flip"))
            .otherwise(pl.col("_since") + row - pl.col("_first") + 1),
            bar_number="bar_number",
        )
    )


def _named(flag: str, if_true: str, if_false: str) -> pl.Expr:
    return pl.when(pl.col(flag)).then(pl.lit(if_true)).when(pl.col(flag).not_()).then(pl.lit(if_false))


def _compute(bars: pl.DataFrame, carried: pl.DataFrame, _: Params) -> pl.DataFrame:
    return ema_trend(bars, carried)


SIGNAL = Signal(
    name="ema_trend",
    description=(
        "Where the two EMAs stand, one row per bar: `up` when ema_9 is above ema_30, `down` when it is below, the "
        "previous trend when they are equal.\n\n"
        "A crossover marks the bar where the trend flips. Spread in percent, and how many bars ago the last crossover "
        "was."
    ),
    version="1",
    reads={"ema_signals": (FAST, SLOW, "bar_number")},
    columns=(
        Column("trend", "text", "up when ema_9 > ema_30, down when below, carried on when equal", choices=(UP, DOWN)),
        Column("crossover", "text", "bullish or bearish on the bar where the trend flips", choices=(BULLISH, BEARISH)),
        Column("spread_pct", "float8", "(ema_9 - ema_30) / ema_30 in percent; null when ema_30 is not above zero"),
        Column("bars_since_cross", "int8", "0 on a crossover, counting up from it"),
        Column("bar_number", "int8", "1 for the first bar of the series", is_nullable=False),
    ),
    compute=_compute,
    carries=("trend", "bars_since_cross"),
    carries_nulls=True,
    shown=("trend", "spread_pct", "bars_since_cross"),
)
