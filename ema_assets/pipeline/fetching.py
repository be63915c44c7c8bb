"""Fetched bars: ask the provider for what has closed, sift it, store it, say what became dirty."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ema_assets.domain.bars import BAR_SCHEMA, sift
from ema_assets.domain.calendars import LOOK_BACK, UTC_TIME, last_closed
from ema_assets.domain.rollup import dirty_buckets
from ema_assets.errors import ProviderError
from ema_assets.keys import Instrument
from ema_assets.lineage import OHLC
from ema_assets.pipeline.outcome import Outcome, batches
from ema_assets.pipeline.watch import CODE_VERSIONS
from ema_assets.providers.base import BarRequest, Provider
from ema_assets.providers.http import Unreachable
from ema_assets.store import ledger, sessions, tables
from ema_assets.store.database import Database, Transaction
from ema_assets.timeframes import BASE, ROLLED_UP, Timeframe

# Vendors revise bars shortly after they closed, so each request looks at the last few stored ones again.
OVERLAP = {Timeframe.M5: timedelta(minutes=15), Timeframe.D1: timedelta(days=4)}

# Bars asked for and held at a time: bounds memory whatever the number of series.
BARS_A_BATCH = 400_000
BARS_A_TRANSACTION = 100_000


@dataclass(frozen=True, slots=True)
class FetchRules:
    """How far back a new series reaches, per fetched timeframe in days, and how long the provider needs to publish."""

    history_days: dict[Timeframe, int]
    publication_delay: timedelta = timedelta(0)


def plan_requests(
    state: pl.DataFrame,
    timeframe: Timeframe,
    closed: pl.DataFrame,
    rules: FetchRules,
    now: datetime,
    *,
    everything: bool,
) -> pl.DataFrame:
    """Which bars to ask for: symbol, calendar, start, end (UTC, end excluded), rows (how many at most); sorted.

    Args:
        state: symbol, calendar, checked_through, next_attempt_at of the series considered.
        timeframe: a fetched one.
        closed: calendar, ts_end of the last bar that closed.
        rules: the depth of a new series.
        now: UTC.
        everything: ask for the whole depth again, also of series that are fresh or are pausing after a failure.
    """
    depth = timedelta(days=rules.history_days[timeframe])
    beginning = (now - depth).replace(hour=0, minute=0, second=0, microsecond=0)
    is_stale = (pl.col("checked_through").is_null() | (pl.col("checked_through") < pl.col("ts_end"))) & (
        pl.col("next_attempt_at").is_null() | (pl.col("next_attempt_at") <= now)
    )
    known = pl.col("checked_through").is_not_null() & pl.lit(not everything)
    start = pl.when(known).then(pl.col("checked_through") - OVERLAP[timeframe]).otherwise(pl.lit(beginning, UTC_TIME))
    return (
        state.join(closed.select("calendar", "ts_end"), on="calendar", how="inner", maintain_order="left")
        .filter(pl.lit(everything) | is_stale)
        .select("symbol", "calendar", start=start, end="ts_end")
        .filter(pl.col("start") < pl.col("end"))
        .with_columns(rows=(pl.col("end") - pl.col("start")).dt.total_minutes() // timeframe.minutes + 1)
        .sort("start", "symbol")
    )


def refresh_fetched(
    database: Database,
    open_provider: Callable[[], Provider],
    timeframe: Timeframe,
    symbols: Sequence[str],
    rules: FetchRules,
    now: datetime,
    *,
    everything: bool = False,
) -> Outcome:
    """Ask for every bar of `timeframe` that has closed and was not asked for yet; store what came.

    One symbol's failure costs only that symbol: it is in `errors` and in the ledger, with the time of its next attempt.
    """
    closed_by = now - rules.publication_delay
    with database.transaction() as transaction:
        state = ledger.fetch_state(transaction, timeframe, symbols)
        recent = sessions.in_use(transaction, now - LOOK_BACK, now)
        closed = last_closed(recent, timeframe, closed_by)
        plan = plan_requests(state, timeframe, closed, rules, now, everything=everything)
        if plan.is_empty():
            return Outcome()
        calendars = sessions.between(transaction, plan["calendar"].unique().to_list(), _earliest(plan), now)
    outcome = Outcome()
    asyncio.run(_fetch_all(database, open_provider, timeframe, plan, calendars, now, outcome))
    return outcome


def _earliest(plan: pl.DataFrame) -> datetime:
    earliest = plan["start"].min()
    assert isinstance(earliest, datetime)
    return earliest


async def _fetch_all(
    database: Database,
    open_provider: Callable[[], Provider],
    timeframe: Timeframe,
    plan: pl.DataFrame,
    calendars: pl.DataFrame,
    now: datetime,
    outcome: Outcome,
) -> None:
    provider = open_provider()
    dead: Unreachable | None = None
    try:
        for batch in batches(plan, BARS_A_BATCH):
            if dead is not None:
                # Each batch would try in vain for half a minute.
                _fail(database, timeframe, dict.fromkeys(batch, str(dead)), now, outcome)
                continue
            part = plan.filter(pl.col("symbol").is_in(batch))
            requests = [
                BarRequest(Instrument(row["symbol"], row["calendar"]), timeframe, row["start"], row["end"])
                for row in part.iter_rows(named=True)
            ]
            dead = await _fetch_batch(database, provider, timeframe, requests, calendars, now, outcome)
    finally:
        outcome.calls += provider.calls
        await provider.aclose()


async def _fetch_batch(
    database: Database,
    provider: Provider,
    timeframe: Timeframe,
    requests: Sequence[BarRequest],
    calendars: pl.DataFrame,
    now: datetime,
    outcome: Outcome,
) -> Unreachable | None:
    """Fetch and store one batch; return the error when the provider could not be reached for any of it."""
    waiting: list[pl.DataFrame] = []
    ready: list[BarRequest] = []
    errors: dict[str, ProviderError] = {}

    def store() -> None:
        # Bars of a series whose last page has not come yet stay behind: progress is committed a series at a time.
        held = pl.concat(waiting) if waiting else pl.DataFrame(schema=BAR_SCHEMA)
        complete = pl.col("symbol").is_in([request.instrument.symbol for request in ready])
        store_fetched(database, timeframe, held.filter(complete), ready, calendars, provider.name, outcome)
        waiting[:] = [held.filter(~complete)]
        ready.clear()

    async for part in provider.fetch(requests):
        waiting.append(part.bars)
        ready.extend(part.completed)
        errors.update({failure.request.instrument.symbol: failure.error for failure in part.failures})
        if ready and sum(frame.height for frame in waiting) >= BARS_A_TRANSACTION:
            store()
    if ready:
        store()
    if errors:
        _fail(database, timeframe, {symbol: str(error) for symbol, error in errors.items()}, now, outcome)
    unreachable = [error for error in errors.values() if isinstance(error, Unreachable)]
    return unreachable[0] if len(unreachable) == len(requests) else None


def _fail(database: Database, timeframe: Timeframe, errors: Mapping[str, str], now: datetime, outcome: Outcome) -> None:
    with database.transaction() as transaction:
        ledger.fail(transaction, OHLC, timeframe, errors, now)
    outcome.errors.update(errors)


def store_fetched(
    database: Database,
    timeframe: Timeframe,
    bars: pl.DataFrame,
    answered: Sequence[BarRequest],
    calendars: pl.DataFrame,
    source: str,
    outcome: Outcome,
) -> None:
    """Sift and store `bars`, the whole answer to the requests `answered`, in one transaction."""
    asked = pl.DataFrame(
        {
            "symbol": [request.instrument.symbol for request in answered],
            "calendar": [request.instrument.calendar for request in answered],
            "checked_through": [request.end for request in answered],
        },
        schema={"symbol": pl.String(), "calendar": pl.String(), "checked_through": UTC_TIME},
    )
    closed_by = max(request.end for request in answered)
    sifted = sift(bars, timeframe, asked.select("symbol", "calendar"), calendars, closed_by)
    with database.transaction() as transaction:
        tables.reject(transaction, sifted.rejected, source)
        changes = save_bars(transaction, timeframe, sifted.accepted, asked, calendars)
    outcome.done += asked["symbol"].to_list()
    outcome.add_written(changes)
    outcome.corrected += int(changes["corrected"].sum())
    outcome.rejected += sifted.rejected.height
    outcome.put_aside += sifted.put_aside.height


def save_bars(
    transaction: Transaction,
    timeframe: Timeframe,
    bars: pl.DataFrame,
    asked: pl.DataFrame,
    calendars: pl.DataFrame,
) -> pl.DataFrame:
    """Write sound `bars` and their ledger rows, and mark what is computed from them; return the changes.

    `asked` has symbol, calendar and checked_through.
    """
    held = ledger.lock(transaction, OHLC, timeframe, sorted(asked["symbol"]))
    changes = tables.write_bars(transaction, timeframe, bars)
    spans = bars.group_by("symbol").agg(first_ts=pl.col("ts").min(), last_ts=pl.col("ts").max())
    results = (
        asked.join(changes.select("symbol", "changed_from"), on="symbol", how="left")
        .join(spans, on="symbol", how="left")
        # Rolled-up bars that were ingested leave what waits to be rolled up as it is.
        .join(held, on="symbol", how="left")
        .sort("symbol")
    )
    ledger.complete(transaction, OHLC, timeframe, results, CODE_VERSIONS[OHLC])
    changed = results.filter(pl.col("changed_from").is_not_null())
    if timeframe is BASE and not changed.is_empty():
        for rolled_up in ROLLED_UP:
            starts = dirty_buckets(changed.select("symbol", "calendar", "changed_from"), rolled_up, calendars)
            ledger.mark_dirty(transaction, OHLC, rolled_up, starts)
    return changes
