"""Stored results, as they are now or as they were at an earlier moment. Writes nothing."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from ema_assets.market.calendars import place
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.compute import sessions_of
from ema_assets.refresh.graph import Graph, Node
from ema_assets.reports.in_memory import InMemory
from ema_assets.store import results, sessions, tables
from ema_assets.store.database import Transaction


def rows_of(
    transaction: Transaction,
    node: Node,
    timeframe: Timeframe,
    symbols: Sequence[str] | None,
    start: datetime | None,
    end: datetime | None,
) -> pl.DataFrame:
    """Return the stored rows of `node` from `start` to before `end` (None: open), sorted by symbol and time.

    Columns: symbol, the time column of the table's key, its values.
    """
    return tables.read_range(transaction, node.table, timeframe, symbols, start, end)


def with_preliminary(
    transaction: Transaction, rows: pl.DataFrame, timeframe: Timeframe, symbols: Sequence[str] | None, ts: str
) -> pl.DataFrame:
    """Return `rows` with `is_preliminary`: the bar at the time in the column `ts` may still change, and the row too."""
    since = results.preliminary_since(transaction, timeframe, symbols)
    return (
        rows.join(since, on="symbol", how="left", maintain_order="left")
        .with_columns(is_preliminary=(pl.col(ts) >= pl.col("since")).fill_null(False))
        .drop("since")
    )


def rows_as_of(
    transaction: Transaction,
    graph: Graph,
    asset: str,
    timeframe: Timeframe,
    symbols: Sequence[str] | None,
    moment: datetime,
) -> pl.DataFrame:
    """Return all rows of `asset` as they were at `moment`, sorted by symbol and time; columns as in `rows_of`.

    Bars are those stored at that moment, with later corrections undone. Everything else is computed from them by
    today's code: the rows that the tables had once the bars known at `moment` were computed, which takes seconds.
    """

    def bars(of: Timeframe) -> pl.DataFrame:
        return tables.bars_as_of(transaction, of, symbols, moment)

    def placed(rows: pl.DataFrame, of: Timeframe) -> pl.DataFrame:
        return _placed(transaction, rows, of)

    return InMemory(graph, bars, placed).rows(asset, timeframe)


def with_ends(transaction: Transaction, rows: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """Return `rows` with `ts_end` (UTC): when the bar of each row closes, at the latest with its session."""
    ends = _placed(transaction, rows.select("symbol", "ts"), timeframe)["ts_end"]
    return rows.with_columns(ends)


def _placed(transaction: Transaction, rows: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """Return `rows` with calendar, session, is_session_last and ts_end."""
    calendars = sessions.calendars_of(transaction, rows["symbol"].unique().to_list())
    trading = sessions_of(transaction, calendars, rows, timeframe)
    return place(rows.join(calendars, on="symbol", how="left", maintain_order="left"), timeframe, trading)
