"""Finds stored bars that an answer contains again, and that its validation refuses now that the sessions are others."""

from datetime import timedelta

import polars as pl

from ema_assets.market.validation import NOT_CLOSED, validate
from ema_assets.refresh.answers import Storing
from ema_assets.store import tables


def outside_sessions(storing: Storing, skipped: pl.DataFrame) -> pl.DataFrame:
    """Return the stored bars in place of `skipped` ones of the answer that would be skipped as well: symbol, ts.

    They were stored before their day was closed or its hours were changed. A bar that its source does not send any more
    stays, as does one that was stored with another volume and is accepted because of it.
    """
    # A day is labelled at most 24 hours before its session ends, and stored at the open of that session.
    longest = timedelta(days=1) if storing.timeframe.is_session else timedelta(0)
    spans = (
        skipped.filter(pl.col("reason") != NOT_CLOSED)
        .join(storing.locked.select("symbol", "first_ts", "last_ts"), on="symbol")
        .filter(pl.col("ts") <= pl.col("last_ts"), pl.col("ts") + longest >= pl.col("first_ts"))
        .select("symbol", first="ts", last=pl.col("ts") + longest)
    )
    if spans.is_empty():
        return skipped.select("symbol", "ts").clear()
    stored = tables.bars_between(storing.transaction, storing.timeframe, spans).unique(["symbol", "ts"])
    stored = stored.with_columns(timeframe=pl.lit(storing.timeframe.key))
    answer = storing.answer
    now = validate(stored, storing.timeframe, storing.instruments, storing.trading, answer.closed_by)
    return now.skipped.filter(pl.col("reason") != NOT_CLOSED).select("symbol", "ts").sort("symbol", "ts")
