"""From the ledger and the calendars to what should run now."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

from ema_assets.market.calendars import LOOK_BACK, last_closed, next_close
from ema_assets.model.timeframes import ORDER, Timeframe
from ema_assets.refresh.runs import PlannedRun
from ema_assets.store import sessions
from ema_assets.store.database import Transaction
from ema_assets.store.ledger import BEGINNING, staleness, summary


def closed_bars(transaction: Transaction, now: datetime) -> pl.DataFrame:
    """The last closed bar of every calendar in use and every timeframe: calendar, timeframe, ts, ts_end."""
    recent = sessions.in_use(transaction, now - LOOK_BACK, now)
    return pl.concat(
        last_closed(recent, timeframe, now).select(
            "calendar", pl.lit(timeframe.value).alias("timeframe"), "ts", "ts_end"
        )
        for timeframe in ORDER
    )


def stale_on_close(transaction: Transaction, timeframe: Timeframe, now: datetime) -> pl.DataFrame:
    """Series of `timeframe` for the schedule that fires at its closes: what is stale, and rolled-up bars about to be.

    Columns: symbol, timeframe, reason, since.
    """
    closed = closed_bars(transaction, now).filter(pl.col("timeframe") == timeframe.value)
    columns = ("symbol", "timeframe", "reason", "since")
    stale = staleness.stale(transaction, closed, now).filter(pl.col("timeframe") == timeframe.value).select(columns)
    if timeframe.is_fetched:
        return stale
    expected = staleness.expected_rollups(transaction, closed, now)
    return pl.concat([stale, expected.with_columns(pl.lit("bar closed").alias("reason")).select(columns)])


def stale_for_sweep(transaction: Transaction, now: datetime, grace: timedelta) -> pl.DataFrame:
    """Everything stale that the schedules will not see to: asset, symbol, timeframe, reason, since, failures.

    A bar that closed less than `grace` ago belongs to its schedule, unless the series has never been asked for.
    """
    stale = staleness.stale(transaction, closed_bars(transaction, now), now)
    fresh_close = (pl.col("reason") == "bar closed") & (pl.col("failures") == 0) & (pl.col("since") > now - grace)
    return stale.filter(~fresh_close)


def next_closes(transaction: Transaction, timeframe: Timeframe, now: datetime) -> pl.DataFrame:
    """When the bar in progress or the next one closes: calendar, ts, ts_end; sorted by ts_end."""
    coming = sessions.in_use(transaction, now, now + LOOK_BACK)
    return next_close(coming, timeframe, now).sort("ts_end")


def sentences(stale: pl.DataFrame, planned: Sequence[PlannedRun]) -> list[str]:
    """What would run, one line a run and, below it, for which reasons how many series of it are stale."""
    lines = []
    for run in planned:
        where = run.rectangle
        kind = "history, " if run.is_history else "missing bars, " if run.is_repair else ""
        lines.append(
            f"{where.timeframe.value}: {kind}one run from {where.first} to {where.last} for {run.series} series"
        )
        mine = stale.filter(pl.col("timeframe") == where.timeframe.value)
        reasons = (
            mine.group_by("reason")
            .agg(series=pl.col("symbol").n_unique(), since=pl.col("since").min())
            .sort("series", "reason", descending=[True, False])
        )
        lines += [f"  {row['series']} {row['reason']}{_since(row['since'])}" for row in reasons.iter_rows(named=True)]
    return lines


def _since(moment: datetime | None) -> str:
    if moment is None:
        return ""
    return ", from the first bar on" if moment <= BEGINNING else f", since {moment:%Y-%m-%d %H:%M}"


def series_sentences(transaction: Transaction, stale: pl.DataFrame) -> list[str]:
    """Why each series of `stale` is so, a line each.

    Such as `AAPL|5m ohlc: bar closed, since 2026-11-25 15:35; asked up to 2026-11-25 15:30; failed 2 times: …`.
    """
    if stale.is_empty():
        return []
    state = summary.attempts(transaction, stale["symbol"].unique().to_list())
    rows = stale.join(state, on=["asset", "symbol", "timeframe"], how="left").sort("timeframe", "symbol", "asset")
    lines = []
    for row in rows.iter_rows(named=True):
        parts = [f"{row['symbol']}|{row['timeframe']} {row['asset']}: {row['reason']}{_since(row['since'])}"]
        if row["reason"] == "bar closed":
            parts.append(f"asked up to {row['checked_through']:%Y-%m-%d %H:%M}")
        if row["failures"]:
            parts.append(f"failed {row['failures']} times: {row['last_error']}")
        lines.append("; ".join(parts))
    return lines
