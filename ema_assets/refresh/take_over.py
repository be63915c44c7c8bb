"""Replaces stored bars by a file's bars of a rolled-up timeframe, so that each span has one owner and one grid."""

import polars as pl

from ema_assets.market.calendars import stretch_of
from ema_assets.model.schemas import BAR_CHANGE_SCHEMA, UTC_TIME
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.answers import Storing
from ema_assets.store import file_spans
from ema_assets.store.database import Transaction


def take_over(storing: Storing, bars: pl.DataFrame) -> pl.DataFrame:
    """Make the span of `bars` (BAR_SCHEMA plus ts_end) the file's own, and delete stored bars that conflict with it.

    Rolled-up bars anywhere in the span are deleted. Bars of an earlier file are deleted only if a bar that begins at
    another time overlaps them, so a file can add bars to an earlier one.

    Returns:
        What was deleted (BAR_CHANGE_SCHEMA). None of it counts as written, corrected or late.
    """
    if bars.is_empty():
        return BAR_CHANGE_SCHEMA.to_frame()
    spans = bars.group_by("symbol").agg(first_ts=pl.col("ts").min(), last_end=pl.col("ts_end").max()).sort("symbol")
    file_spans.take(storing.transaction, storing.timeframe, spans)
    # A bar that begins before the span may reach into it.
    wider = spans.with_columns(pl.col("first_ts") - pl.lit(storing.timeframe.duration))
    stored = file_spans.bars_within(storing.transaction, storing.timeframe, wider)
    others = stored.join(bars, on=["symbol", "ts"], how="anti")
    if others.is_empty():
        return BAR_CHANGE_SCHEMA.to_frame()
    ended = _with_end(storing, others)
    gone = pl.concat(
        [
            ended.filter("is_rolled_up").join(spans, on="symbol").filter(pl.col("ts_end") > pl.col("first_ts")),
            ended.filter(~pl.col("is_rolled_up"))
            .join_where(
                bars.select(_symbol="symbol", _ts="ts", _end="ts_end"),
                pl.col("symbol") == pl.col("_symbol"),
                pl.col("ts") < pl.col("_end"),
                pl.col("ts_end") > pl.col("_ts"),
            )
            .unique(["symbol", "ts"]),
        ],
        how="diagonal",
    )
    return delete(storing.transaction, storing.timeframe, gone)


def delete(transaction: Transaction, timeframe: Timeframe, gone: pl.DataFrame) -> pl.DataFrame:
    """Delete the stored bars `gone` (symbol, ts, …); return the changes (BAR_CHANGE_SCHEMA), with counts of zero."""
    if gone.is_empty():
        return BAR_CHANGE_SCHEMA.to_frame()
    file_spans.delete_bars(transaction, timeframe, gone)
    nothing = pl.lit(0, pl.Int64)
    return (
        gone.group_by("symbol")
        .agg(changed_from=pl.col("ts").min())
        .select("symbol", "changed_from", written=nothing, corrected=nothing, late=nothing)
        .match_to_schema(BAR_CHANGE_SCHEMA)
    )


def _with_end(storing: Storing, bars: pl.DataFrame) -> pl.DataFrame:
    calendars = storing.answer.asked.select("symbol", "calendar")
    trading = storing.sessions_from(bars["ts"].min(), calendars["calendar"])
    placed = stretch_of(bars.join(calendars, on="symbol", how="left"), storing.timeframe, trading)
    full_end = pl.col("ts") + pl.lit(storing.timeframe.duration)
    return placed.select("symbol", "ts", "is_rolled_up", pl.coalesce("ts_end", full_end).cast(UTC_TIME).alias("ts_end"))


def together(*changes: pl.DataFrame) -> pl.DataFrame:
    """Add up `changes` (with the columns of BAR_CHANGE_SCHEMA): BAR_CHANGE_SCHEMA, one row per symbol, sorted."""
    counts = pl.col("written", "corrected", "late").sum()
    both = pl.concat(each.match_to_schema(BAR_CHANGE_SCHEMA) for each in changes)
    return both.group_by("symbol").agg(pl.col("changed_from").min(), counts).sort("symbol")
