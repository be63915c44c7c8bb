"""Crossovers to trades of the 9-30 EMA strategy. No I/O."""

import polars as pl

from ema_assets.keys import BULLISH

OPEN, CLOSED = "open", "closed"

CODE_VERSION = "1"


def trades_9_30(bars: pl.DataFrame, carried: pl.DataFrame) -> pl.DataFrame:
    """Long at the close of a bullish crossover, out at the close of the next bearish one; for all symbols at once.

    Args:
        bars: symbol, ts, close, crossover, bar_number; sorted by symbol and ts.
        carried: symbol, entry_ts, entry_price, entry_bar_number of the trade that was open just before the symbol's
            first bar here; absent symbols had none.

    Returns:
        One row a trade, sorted by symbol and entry_ts: symbol, entry_ts, entry_price, exit_ts, exit_price,
        last_ts, last_price, return_pct, bars_held, status. The open trade has no exit and is marked to the last
        close; for a closed one last_ts and last_price are the exit. return_pct is (last_price / entry_price - 1) · 100,
        before costs. bars_held counts the bars from entry to last_ts.
    """
    events = pl.concat(
        [
            carried.select(
                "symbol",
                ts="entry_ts",
                close="entry_price",
                bar_number="entry_bar_number",
                crossover=pl.lit(BULLISH, pl.String),
            ),
            bars.filter(pl.col("crossover").is_not_null()).select("symbol", "ts", "close", "bar_number", "crossover"),
        ]
    ).sort("symbol", "ts")
    marks = bars.group_by("symbol", maintain_order=True).agg(
        pl.col("ts").last().alias("mark_ts"),
        pl.col("close").last().alias("mark_price"),
        pl.col("bar_number").last().alias("mark_bar_number"),
    )
    is_closed = pl.col("exit_ts").is_not_null()
    return (
        events.with_columns(
            pl.col("ts").shift(-1).over("symbol").alias("exit_ts"),
            pl.col("close").shift(-1).over("symbol").alias("exit_price"),
            pl.col("bar_number").shift(-1).over("symbol").alias("exit_bar_number"),
        )
        .filter(pl.col("crossover") == BULLISH)
        .join(marks, on="symbol", how="left", maintain_order="left")
        .with_columns(
            # Without any bar since entry the trade is marked to the entry itself.
            pl.coalesce("exit_ts", "mark_ts", "ts").alias("last_ts"),
            pl.coalesce("exit_price", "mark_price", "close").alias("last_price"),
            pl.coalesce("exit_bar_number", "mark_bar_number", "bar_number").alias("last_bar_number"),
        )
        .select(
            "symbol",
            entry_ts="ts",
            entry_price="close",
            exit_ts="exit_ts",
            exit_price="exit_price",
            last_ts="last_ts",
            last_price="last_price",
            return_pct=(pl.col("last_price") / pl.col("close") - 1) * 100,
            bars_held=pl.col("last_bar_number") - pl.col("bar_number"),
            status=pl.when(is_closed).then(pl.lit(CLOSED)).otherwise(pl.lit(OPEN)),
        )
    )
