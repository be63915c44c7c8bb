"""Derives what should run now from the ledger, the calendars and the providers' delays. Asks no provider."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

import polars as pl

from ema_assets.market.calendars import LOOK_BACK, last_bar_reach, last_closed, next_close, reach
from ema_assets.model.counts import times
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.timeframes import FETCHED, Timeframe, by_key
from ema_assets.providers.declaration import REREAD_SESSIONS, Publication
from ema_assets.refresh.runs import PlannedRun, Purpose
from ema_assets.store import ledger, sessions
from ema_assets.store.database import Transaction

# When the bars of each provider can be requested; None stands for the default provider. A provider that is missing here
# publishes at once and changes nothing later.
Publications = Mapping[str | None, Publication]
AT_ONCE: Publications = MappingProxyType({})

# A bar that can be requested within this time after a schedule's tick belongs to that tick: its run waits for the rest
# of the delay. A bar with a longer delay belongs to the sweep, or to a later tick.
SCHEDULE_REACH = timedelta(seconds=30)

# The columns of a market. Bars of the same market can be requested at the same time.
MARKET = ("calendar", "provider", "delay_seconds")

# The beginnings of lines about planned runs that are not for the newest bars.
_KINDS = {
    Purpose.HISTORY: "history, ",
    Purpose.FIRST: "computed first, ",
    Purpose.REPAIR: "requested again, ",
    Purpose.ANEW: "recomputed, ",
    Purpose.TELLING: "reported to Dagster again, ",
}

_CLOSED_SCHEMA = {
    "calendar": pl.String(),
    "provider": pl.String(),
    "delay_seconds": pl.Int64(),
    "timeframe": pl.String(),
    "ts": UTC_TIME,
    "ts_end": UTC_TIME,
    "published_at": UTC_TIME,
    "recheck_at": UTC_TIME,
    "reread_at": UTC_TIME,
    "reread_from": UTC_TIME,
}


def closed_bars(
    transaction: Transaction,
    now: datetime,
    publications: Publications = AT_ONCE,
    *,
    ahead: timedelta = timedelta(0),
    timeframes: Iterable[Timeframe] | None = None,
) -> pl.DataFrame:
    """Return the last bar that can be requested, per market in use and timeframe.

    It has closed at `now`, and its provider has published it, or will have within `ahead`. A market is a calendar, a
    provider and the delay that this provider last reported. Without `timeframes`, all timeframes that are on.

    Columns: calendar, provider (null for the default one), delay_seconds, timeframe, ts, ts_end, published_at (when it
    can be requested). For fetched timeframes also, null if not applicable: recheck_at, the latest time before `now` at
    which series were to be requested again; reread_at, the latest such time for whole sessions, which are requested
    from reread_from on.
    """
    markets = sessions.markets(transaction)
    on = {by_key(key) for key in markets["timeframe"].unique()}
    wanted = sorted(on if timeframes is None else on.intersection(timeframes))
    back, ahead_of = max(map(last_bar_reach, wanted), default=LOOK_BACK), max(map(reach, wanted), default=timedelta(0))
    recent = sessions.in_use(transaction, now - back, now + ahead_of)
    parts = [pl.DataFrame(schema=_CLOSED_SCHEMA)]
    groups = markets.group_by("delay_seconds", "provider", maintain_order=True)
    for (delay_seconds, provider), market in groups:
        publication = publications.get(provider, Publication())
        delay = max(publication.delay, timedelta(seconds=delay_seconds))
        trading = recent.filter(pl.col("calendar").is_in(market["calendar"].implode()))
        reread = None
        if publication.reread_after is not None and any(each.is_fetched for each in wanted):
            reread = _last_sessions(trading, now, publication.reread_after + delay)
        for timeframe in wanted:
            closed = last_closed(trading, timeframe, now - max(delay - ahead, timedelta(0)))
            mine = market.filter(pl.col("timeframe") == timeframe.key)
            closed = mine.join(closed, on="calendar").with_columns(published_at=pl.col("ts_end") + delay)
            if timeframe.is_fetched:
                after = [each + delay for each in publication.settling.get(timeframe.key, ())]
                closed = _with_rechecks(closed, trading, timeframe, now, reread, after)
            parts.append(closed)
    return pl.concat(parts, how="diagonal")


def _with_rechecks(
    closed: pl.DataFrame,
    trading: pl.DataFrame,
    timeframe: Timeframe,
    now: datetime,
    reread: pl.DataFrame | None,
    settling: Sequence[timedelta],
) -> pl.DataFrame:
    """Return `closed` with recheck_at, and with reread_at and reread_from if sessions are to be read again."""
    moments = []
    if reread is not None:
        closed = closed.join(reread, on="calendar", how="left", maintain_order="left")
        moments.append("reread_at")
    for after in settling:
        moment = f"_{after}"
        settled = last_closed(trading, timeframe, now - after)
        settled = settled.select("calendar", (pl.col("ts_end") + after).alias(moment))
        closed = closed.join(settled, on="calendar", how="left", maintain_order="left")
        moments.append(moment)
    if moments:
        closed = closed.with_columns(recheck_at=pl.max_horizontal(moments))
    return closed.select(name for name in _CLOSED_SCHEMA if name in closed.columns)


def _last_sessions(trading: pl.DataFrame, now: datetime, after: timedelta) -> pl.DataFrame:
    """Return the span of the last REREAD_SESSIONS that closed by `now - after`: calendar, reread_at, reread_from."""
    return (
        trading.filter(pl.col("close") + after <= now)
        .sort("close")
        .group_by("calendar")
        .tail(REREAD_SESSIONS)
        .group_by("calendar")
        .agg(reread_at=pl.col("close").max() + after, reread_from=pl.col("open").min())
    )


def late_limits(closed: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of fetched timeframes in `closed` (as `closed_bars` returns it) with late_before.

    A series that was last requested before then is more than two bars late. A bar counts with its nominal length, so
    that a series is not late overnight.
    """
    two_bars = [2 * by_key(text).duration for text in closed["timeframe"]]
    limits = closed.with_columns(late_before=pl.col("ts_end") - pl.Series(two_bars, dtype=pl.Duration("us")))
    return limits.filter(pl.col("timeframe").is_in([timeframe.key for timeframe in FETCHED]))


def stale_on_close(
    transaction: Transaction, timeframe: Timeframe, now: datetime, publications: Publications = AT_ONCE
) -> pl.DataFrame:
    """Return series of `timeframe` for the schedule that fires at its closes: stale ones, and those about to be.

    About to be stale are bars whose publication delay ends within SCHEDULE_REACH, and rolled-up bars whose last source
    bars are still to come. Columns: symbol, timeframe, reason, since.
    """
    closed = closed_bars(transaction, now, publications, ahead=SCHEDULE_REACH, timeframes=[timeframe])
    columns = ("symbol", "timeframe", "reason", "since")
    stale = ledger.stale(transaction, closed, now).filter(pl.col("timeframe") == timeframe.key).select(columns)
    if timeframe.is_fetched:
        return stale
    expected = ledger.expected_rollups(transaction, closed, now)
    return pl.concat([stale, expected.with_columns(pl.lit("bar closed").alias("reason")).select(columns)])


def stale_for_sweep(
    transaction: Transaction, now: datetime, grace: timedelta, publications: Publications = AT_ONCE
) -> pl.DataFrame:
    """Return everything stale that the schedules do not take: asset, symbol, timeframe, reason, since, failures.

    A bar that closed less than `grace` ago belongs to its schedule, unless the series has failed or has never been
    requested. With a `grace` of SCHEDULE_REACH or less, no bar is left to a schedule that did not take it.
    """
    stale = ledger.stale(transaction, closed_bars(transaction, now, publications), now)
    fresh_close = (pl.col("reason") == "bar closed") & (pl.col("failures") == 0) & (pl.col("since") > now - grace)
    return stale.filter(~fresh_close)


def next_closes(transaction: Transaction, timeframe: Timeframe, now: datetime) -> pl.DataFrame:
    """Return when the bar in progress or the next one closes: calendar, ts, ts_end; sorted by ts_end.

    Only calendars of symbols that have a provider and bars of `timeframe`.
    """
    coming = sessions.in_use(transaction, now - reach(timeframe), now + LOOK_BACK + reach(timeframe), timeframe)
    return next_close(coming, timeframe, now).sort("ts_end")


def sentences(stale: pl.DataFrame, planned: Sequence[PlannedRun]) -> list[str]:
    """Describe what would run: one line per run and, below it, per reason how many of its series are stale for it."""
    lines = []
    for run in planned:
        where = run.rectangle
        kind = _KINDS.get(run.purpose, "")
        whole = f"from {where.first} to {where.last} for {run.series} series"
        lines.append(f"{where.timeframe.key}: {kind}one run {whole if run.series > 1 else f'for {where.first}'}")
        mine = stale.filter(pl.col("timeframe") == where.timeframe.key, pl.col("symbol").is_in(list(run.symbols)))
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
    return ", from the first bar on" if moment <= ledger.BEGINNING else f", since {moment:%Y-%m-%d %H:%M}"


def series_sentences(transaction: Transaction, stale: pl.DataFrame) -> list[str]:
    """Describe why each series of `stale`, or of the result of `left_alone.series`, is stale, one line each.

    For example, `AAPL|5m ohlc: bar closed, since 2026-11-25 15:35; requested up to 2026-11-25 15:30; failed once: …`.
    """
    if stale.is_empty():
        return []
    state = ledger.attempts(transaction, stale["symbol"].unique().to_list())
    rows = stale.join(state, on=["asset", "symbol", "timeframe"], how="left").sort("timeframe", "symbol", "asset")
    lines = []
    for row in rows.iter_rows(named=True):
        parts = [f"{row['symbol']}|{row['timeframe']} {row['asset']}: {row['reason']}{_since(row['since'])}"]
        if row["reason"] == "bar closed":
            parts.append(f"requested up to {row['checked_through']:%Y-%m-%d %H:%M}")
        if row["failures"]:
            parts.append(f"failed {times(row['failures'])}: {row['last_error']}")
        if row.get("next_attempt_at") is not None:
            parts.append(f"the next attempt is at {row['next_attempt_at']:%Y-%m-%d %H:%M:%S} UTC")
        lines.append("; ".join(parts))
    return lines
