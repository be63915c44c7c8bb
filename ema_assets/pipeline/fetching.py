"""Fetched bars: ask the provider for what has closed, sift it, store it, say what became dirty."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ema_assets.domain import gaps
from ema_assets.domain.bars import BAR_SCHEMA
from ema_assets.domain.calendars import LOOK_BACK, UTC_TIME, last_closed
from ema_assets.errors import ProviderError
from ema_assets.keys import Instrument
from ema_assets.lineage import OHLC
from ema_assets.pipeline.outcome import Outcome, batches
from ema_assets.pipeline.storing import GAP, PART, WHOLE, Answer, store_bars
from ema_assets.providers.base import BarRequest, Provider
from ema_assets.providers.http import Unreachable
from ema_assets.store import ledger, quality, sessions
from ema_assets.store.database import Database
from ema_assets.timeframes import Timeframe

# Vendors revise bars shortly after they closed, so each request looks at the last few stored ones again: three or
# more, for that is what tells a split from a correction.
OVERLAP = {Timeframe.M5: timedelta(minutes=15), Timeframe.D1: timedelta(days=7)}

# Gaps of a series that are closer than this are asked for together, and no series is asked more often than this.
GAPS_APART = {Timeframe.M5: timedelta(days=1), Timeframe.D1: timedelta(days=60)}
MOST_GAP_ROUNDS = 5
# A vendor's label of a day may lie this long before the session's open: midnight at the exchange, or in UTC.
LABEL_LEAD = {Timeframe.M5: timedelta(0), Timeframe.D1: timedelta(hours=18)}
GAP_PAUSE_AFTER_FAILURE = timedelta(minutes=30)

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
        state: symbol, calendar, checked_through, first_ts, next_attempt_at of the series considered.
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
    start = (
        pl.when(pl.col("checked_through").is_null())
        .then(pl.lit(beginning, UTC_TIME))
        .when(pl.lit(everything))
        .then(pl.min_horizontal(pl.lit(beginning, UTC_TIME), pl.col("first_ts") - pl.lit(LABEL_LEAD[timeframe])))
        .otherwise(pl.col("checked_through") - OVERLAP[timeframe])
    )
    return (
        state.join(closed.select("calendar", "ts_end"), on="calendar", how="inner", maintain_order="left")
        .filter(pl.lit(everything) | is_stale)
        .select("symbol", "calendar", start=start, end="ts_end")
        .filter(pl.col("start") < pl.col("end"))
        .with_columns(_rows(timeframe))
        .sort("start", "symbol")
    )


def plan_gaps(due: pl.DataFrame, plan: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """Which gaps to ask for beside `plan`: symbol, calendar, start, end, round, rows; a symbol once a round.

    `due` has symbol, calendar, first_ts, last_ts. What `plan` asks for anyway is left out.
    """
    wanted = due.select(
        "symbol",
        "calendar",
        start=pl.col("first_ts") - pl.lit(LABEL_LEAD[timeframe]),
        end=pl.col("last_ts") + pl.lit(timeframe.duration),
    ).join(plan.select("symbol", planned="start"), on="symbol", how="left")
    apart = wanted.filter((pl.col("start") < pl.col("planned")).fill_null(True)).drop("planned")
    return (
        gaps.clusters(apart, GAPS_APART[timeframe], MOST_GAP_ROUNDS)
        .with_columns(_rows(timeframe))
        .sort("round", "start", "symbol")
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
    """Ask for every bar of `timeframe` that has closed and was not asked for yet, and for gaps; store what came.

    A series whose vendor re-adjusted history for a split is fetched again as a whole. One symbol's failure costs only
    that symbol: it is in `errors` and in the ledger, with the time of its next attempt.
    """
    closed_by = now - rules.publication_delay
    with database.transaction() as transaction:
        state = ledger.fetch_state(transaction, timeframe, symbols)
        recent = sessions.in_use(transaction, now - LOOK_BACK, now)
        closed = last_closed(recent, timeframe, closed_by)
        plan = plan_requests(state, timeframe, closed, rules, now, everything=everything)
        gap_plan = plan_gaps(quality.due_gaps(transaction, timeframe, symbols, now), plan, timeframe)
        if plan.is_empty() and gap_plan.is_empty():
            return Outcome()
    whole = plan_requests(state, timeframe, closed, rules, now, everything=True)
    outcome = Outcome()
    fetching = _Fetching(database, timeframe, now, outcome)
    asyncio.run(fetching.run(open_provider, plan, gap_plan, whole, everything=everything))
    return outcome


class _Fetching:
    """One refresh's talk with the provider: what is planned first, then split series as a whole, then gaps."""

    def __init__(self, database: Database, timeframe: Timeframe, now: datetime, outcome: Outcome) -> None:
        self._database = database
        self._timeframe = timeframe
        self._now = now
        self._outcome = outcome
        self._dead: Unreachable | None = None
        self._suspects: pl.DataFrame | None = None
        self._fetched_again: list[str] = []

    async def run(
        self,
        open_provider: Callable[[], Provider],
        plan: pl.DataFrame,
        gap_plan: pl.DataFrame,
        whole: pl.DataFrame,
        *,
        everything: bool,
    ) -> None:
        """Fetch and store `plan` and `gap_plan`, and after each the series of `whole` that turned out to be split."""
        provider = open_provider()
        try:
            await self._fetch(provider, plan, WHOLE if everything else PART)
            await self._fetch_suspects(provider, whole)
            for each in gap_plan.partition_by("round", maintain_order=True):
                # An answer about a gap would count as the series' own and end the pause of one that has just failed.
                healthy = ~pl.col("symbol").is_in([*self._outcome.errors, *self._waiting_suspects()])
                await self._fetch(provider, each.filter(healthy), GAP)
            await self._fetch_suspects(provider, whole)
        finally:
            self._outcome.calls += provider.calls
            await provider.aclose()

    def _waiting_suspects(self) -> list[str]:
        suspects = self._suspects["symbol"] if self._suspects is not None else ()
        return [symbol for symbol in suspects if symbol not in self._fetched_again]

    async def _fetch_suspects(self, provider: Provider, whole: pl.DataFrame) -> None:
        again = whole.filter(pl.col("symbol").is_in(self._waiting_suspects()))
        self._fetched_again += again["symbol"].to_list()
        self._outcome.refetched += again.height
        await self._fetch(provider, again, WHOLE)

    async def _fetch(self, provider: Provider, plan: pl.DataFrame, extent: str) -> None:
        if plan.is_empty():
            return
        with self._database.transaction() as transaction:
            calendars = plan["calendar"].unique().to_list()
            trading = sessions.between(transaction, calendars, _earliest(plan), self._now)
        for batch in batches(plan, BARS_A_BATCH):
            if self._dead is not None:
                # Each batch would try in vain for half a minute.
                self._fail(dict.fromkeys(batch, str(self._dead)), extent)
                continue
            part = plan.filter(pl.col("symbol").is_in(batch))
            requests = [
                BarRequest(Instrument(row["symbol"], row["calendar"]), self._timeframe, row["start"], row["end"])
                for row in part.iter_rows(named=True)
            ]
            self._dead = await self._fetch_batch(provider, requests, trading, extent)

    async def _fetch_batch(
        self, provider: Provider, requests: Sequence[BarRequest], trading: pl.DataFrame, extent: str
    ) -> Unreachable | None:
        """Fetch and store one batch; return the error when the provider could not be reached for any of it."""
        waiting: list[pl.DataFrame] = []
        ready: list[BarRequest] = []
        errors: dict[str, ProviderError] = {}

        def store() -> None:
            # Bars of a series whose last page has not come yet stay behind: progress is committed a series at a time.
            held = pl.concat(waiting) if waiting else pl.DataFrame(schema=BAR_SCHEMA)
            complete = pl.col("symbol").is_in([request.instrument.symbol for request in ready])
            self._store(held.filter(complete), ready, trading, provider.name, extent)
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
            self._fail({symbol: str(error) for symbol, error in errors.items()}, extent)
        unreachable = [error for error in errors.values() if isinstance(error, Unreachable)]
        return unreachable[0] if len(unreachable) == len(requests) else None

    def _store(
        self, bars: pl.DataFrame, answered: Sequence[BarRequest], trading: pl.DataFrame, source: str, extent: str
    ) -> None:
        """Store `bars`, the whole answer to the requests `answered`, in one transaction."""
        asked = pl.DataFrame(
            {
                "symbol": [request.instrument.symbol for request in answered],
                "calendar": [request.instrument.calendar for request in answered],
                "start": [request.start for request in answered],
                "end": [request.end for request in answered],
            },
            schema={"symbol": pl.String(), "calendar": pl.String(), "start": UTC_TIME, "end": UTC_TIME},
        ).with_columns(is_fetched=True, checked_through="end")
        with self._database.transaction() as transaction:
            stored = store_bars(
                transaction,
                self._timeframe,
                Answer(
                    bars,
                    source,
                    closed_by=max(request.end for request in answered),
                    extent=extent,
                    suspects=self._suspects if extent == WHOLE else None,
                ),
                asked,
                trading,
                self._now,
            )
            ledger.fail(transaction, OHLC, self._timeframe, stored.refused, self._now)
        left_out = {*stored.suspected["symbol"], *stored.refused}
        outcome = self._outcome
        outcome.add_done(symbol for symbol in asked["symbol"] if symbol not in left_out)
        outcome.add_written(stored.changes)
        outcome.corrected += int(stored.changes["corrected"].sum())
        outcome.rejected += stored.rejected.height
        outcome.put_aside += stored.put_aside.height
        outcome.flagged += stored.flags.height
        outcome.errors.update(stored.refused)
        if not stored.suspected.is_empty():
            known = [self._suspects] if self._suspects is not None else []
            self._suspects = pl.concat([*known, stored.suspected])

    def _fail(self, errors: Mapping[str, str], extent: str) -> None:
        with self._database.transaction() as transaction:
            if extent == GAP:
                # The series itself is up to date: only its gap stays open.
                until = gaps.next_due_time(self._now + GAP_PAUSE_AFTER_FAILURE)
                quality.postpone_gaps(transaction, self._timeframe, list(errors), until)
            else:
                ledger.fail(transaction, OHLC, self._timeframe, errors, self._now)
        self._outcome.errors.update(errors)


def _earliest(plan: pl.DataFrame) -> datetime:
    earliest = plan["start"].min()
    assert isinstance(earliest, datetime)
    return earliest


def _rows(timeframe: Timeframe) -> pl.Expr:
    """At most how many bars a request brings: it takes every market for one that never closes."""
    span = pl.col("end") - pl.col("start")
    return (span.dt.total_minutes() // timeframe.minutes + 1).alias("rows")
