"""Fetched bars: ask the providers for what has closed and is missing, and store it. How it is stored is not here."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.market import gaps
from ema_assets.model.asset_names import OHLC
from ema_assets.model.errors import ConfigurationError, ProviderError, ProviderUnavailable, RateLimited, Unauthorized
from ema_assets.model.schemas import BAR_SCHEMA, UTC_TIME
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers.fetching.base import BarRequest, ProviderClient
from ema_assets.providers.http.refusals import Unreachable
from ema_assets.refresh.answers import Answer, Extent
from ema_assets.refresh.isolate import bisect
from ema_assets.refresh.outcome import Outcome, batches
from ema_assets.refresh.plan import PublicationDelays, closed_bars
from ema_assets.refresh.store_answer import store_bars
from ema_assets.store import ledger, provider_state, quality, sessions
from ema_assets.store.database import Database

# Makes a client of the provider of that name; None stands for the default one.
OpenProvider = Callable[[str | None], ProviderClient]

# No series is asked more often than this for its gaps.
MOST_GAP_ROUNDS = 5
GAP_PAUSE_AFTER_FAILURE = timedelta(minutes=30)

# Bars asked for and kept in memory at a time: bounds memory whatever the number of series.
BARS_PER_BATCH = 400_000
BARS_PER_TRANSACTION = 100_000


@dataclass(frozen=True, slots=True)
class FetchRules:
    """How bars are asked for.

    Attributes:
        history_days: per fetched timeframe, how many days a new series reaches back.
        publication_delays: per provider, how long after its close a bar is asked for at the earliest.
        settling_times: per provider, how long after its close a bar may still change.

    None stands for the default provider. A provider that is in neither publishes at once and changes nothing later.
    """

    history_days: Mapping[Timeframe, int]
    publication_delays: PublicationDelays = field(default_factory=dict)
    settling_times: Mapping[str | None, timedelta] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, watched: Watchlist) -> "FetchRules":
        """The rules that the settings make for the providers of the watchlist."""
        used = {each.provider for each in watched.instruments if each.is_fetched}
        return cls(
            watched.history_days,
            {name: delay for name, delay in settings.publication_delays.items() if name in used},
            {name: time for name, time in settings.settling_times.items() if name in used},
        )

    def overlaps(self, timeframe: Timeframe) -> pl.DataFrame:
        """How far before the last stored bar a request begins, where it is not the timeframe's: provider, overlap."""
        longer = {name: time for name, time in self.settling_times.items() if time > timeframe.fetched.overlap}
        return pl.DataFrame(
            {"provider": list(longer), "overlap": list(longer.values())},
            schema={"provider": pl.String(), "overlap": pl.Duration("us")},
        )


def plan_requests(
    state: pl.DataFrame,
    timeframe: Timeframe,
    closed: pl.DataFrame,
    rules: FetchRules,
    now: datetime,
    *,
    everything: bool,
) -> pl.DataFrame:
    """Which bars to ask for: symbol, calendar, provider, start, end (UTC, end excluded), rows (at most); sorted.

    Args:
        state: symbol, calendar, provider, checked_through, first_ts, next_attempt_at of the series considered.
        timeframe: a fetched one.
        closed: calendar, provider, ts_end of the last bar that can be asked for.
        rules: the depth of a new series, and the overlaps.
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
        .then(pl.min_horizontal(pl.lit(beginning, UTC_TIME), pl.col("first_ts") - pl.lit(timeframe.fetched.label_lead)))
        .otherwise(pl.col("checked_through") - pl.col("overlap").fill_null(timeframe.fetched.overlap))
    )
    return (
        _until(state, closed)
        .join(rules.overlaps(timeframe), on="provider", how="left", nulls_equal=True, maintain_order="left")
        .filter(pl.lit(everything) | is_stale)
        .select("symbol", "calendar", "provider", start=start, end="ts_end")
        .filter(pl.col("start") < pl.col("end"))
        .with_columns(_rows(timeframe))
        .sort("start", "symbol")
    )


def plan_gaps(due: pl.DataFrame, plan: pl.DataFrame, timeframe: Timeframe, closed: pl.DataFrame) -> pl.DataFrame:
    """Which gaps to ask for beside `plan`: symbol, calendar, provider, start, end, round, rows.

    A symbol occurs once per round. `due` has symbol, calendar, provider, first_ts, last_ts. What `plan` asks for anyway
    is left out. A few stored bars on both sides are asked for as well, up to the last one `closed` (calendar, provider,
    ts_end): they tell whether the gap would be filled on another scale, after a split, and hold a vendor's label of a
    day, which lies before the open.
    """
    wanted = due.select(
        "symbol", "calendar", "provider", start="first_ts", end=pl.col("last_ts") + pl.lit(timeframe.duration)
    ).join(plan.select("symbol", planned="start"), on="symbol", how="left")
    apart = wanted.filter((pl.col("start") < pl.col("planned")).fill_null(True)).drop("planned")
    return (
        _until(gaps.clusters(apart, timeframe.fetched.gaps_apart, MOST_GAP_ROUNDS), closed)
        .with_columns(
            pl.col("start") - timeframe.fetched.gap_margin,
            pl.min_horizontal(pl.col("end") + timeframe.fetched.gap_margin, "ts_end").alias("end"),
        )
        .drop("ts_end")
        .with_columns(_rows(timeframe))
        .sort("round", "start", "symbol")
    )


def refresh_fetched(
    database: Database,
    open_provider: OpenProvider,
    timeframe: Timeframe,
    symbols: Sequence[str],
    rules: FetchRules,
    now: datetime,
    *,
    everything: bool = False,
) -> Outcome:
    """Ask for every bar of `timeframe` that has closed and was not asked for yet, and for gaps; store what came.

    The providers of the symbols are asked side by side. A series whose vendor re-adjusted history for a split is
    fetched again as a whole. One symbol's failure costs only that symbol: it is in `errors` and in the ledger, with the
    time of its next attempt. A provider that does not answer at all is left alone for a while, by every run.
    """
    with database.transaction() as transaction:
        state = ledger.fetch_state(transaction, timeframe, symbols)
        closed = closed_bars(transaction, now, rules.publication_delays, timeframes=[timeframe])
        plan = plan_requests(state, timeframe, closed, rules, now, everything=everything)
        gap_plan = plan_gaps(quality.due_gaps(transaction, timeframe, symbols, now), plan, timeframe, closed)
    whole = plan_requests(state, timeframe, closed, rules, now, everything=True)
    outcome = Outcome()

    async def ask_all() -> None:
        named = pl.concat([plan["provider"], gap_plan["provider"]]).unique(maintain_order=True)
        talks = [
            _Fetching(database, timeframe, now, outcome, Extent.WHOLE if everything else Extent.PART).run(
                open_provider,
                name,
                *(each.filter(pl.col("provider").eq_missing(name)) for each in (plan, gap_plan, whole)),
            )
            for name in named
        ]
        # A bug in one talk is raised once the others are at an end: what they fetched is stored.
        for result in await asyncio.gather(*talks, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    asyncio.run(ask_all())
    return outcome


class _Fetching:
    """One refresh's talk with one provider: what is planned first, then gaps, then split series as a whole."""

    def __init__(
        self, database: Database, timeframe: Timeframe, now: datetime, outcome: Outcome, extent: Extent
    ) -> None:
        self._database = database
        self._timeframe = timeframe
        self._now = now
        self._outcome = outcome
        self._extent = extent
        self._dead: str | None = None
        # A 5xx for the only series asked for may be that series' own fault.
        self._least_for_outage = 2
        self._dead_until: datetime | None = None
        self._suspects: pl.DataFrame | None = None

    async def run(
        self,
        open_provider: OpenProvider,
        name: str | None,
        plan: pl.DataFrame,
        gap_plan: pl.DataFrame,
        whole: pl.DataFrame,
    ) -> None:
        """Fetch and store `plan`, then `gap_plan`, then those of `whole` that turned out to be split."""
        try:
            provider = open_provider(name)
        except ConfigurationError as error:
            self._fail(dict.fromkeys(plan["symbol"], str(error)), self._extent)
            self._fail(dict.fromkeys(gap_plan["symbol"], str(error)), Extent.GAP)
            return
        try:
            plan = await self._probe(provider, plan)
            await self._fetch(provider, plan, self._extent)
            for each in gap_plan.partition_by("round", maintain_order=True):
                await self._fetch(provider, each.filter(self._is_sound()), Extent.GAP)
            if self._suspects is not None:
                again = whole.join(self._suspects, on="symbol", how="semi")
                self._outcome.refetched += again.height
                await self._fetch(provider, again, Extent.WHOLE)
        finally:
            self._outcome.calls += provider.calls
            await provider.aclose()

    async def _probe(self, provider: ProviderClient, plan: pl.DataFrame) -> pl.DataFrame:
        """Ask a provider that did not answer last time for one series first; return what is left of `plan`."""
        with self._database.transaction() as transaction:
            breaker = provider_state.breaker(transaction, provider.name)
        if breaker.is_open(self._now):
            assert breaker.open_until is not None
            self._dead, self._dead_until = breaker.last_error, breaker.open_until
        elif breaker.failures:
            self._least_for_outage = 1
            await self._fetch(provider, plan.head(1), self._extent)
            self._least_for_outage = 2
            if self._dead is None:
                with self._database.transaction() as transaction:
                    provider_state.reset(transaction, provider.name)
            return plan.tail(-1)
        return plan

    def _is_sound(self) -> pl.Expr:
        # A gap of a series whose scale is in doubt must not be filled on another one; and an answer about a gap would
        # count as the series' own and end the pause of one that has just failed.
        doubted = [] if self._suspects is None else self._suspects["symbol"].to_list()
        return ~pl.col("symbol").is_in([*doubted, *self._outcome.errors])

    async def _fetch(self, provider: ProviderClient, plan: pl.DataFrame, extent: Extent) -> None:
        if plan.is_empty():
            return
        with self._database.transaction() as transaction:
            calendars = plan["calendar"].unique().to_list()
            trading = sessions.between(transaction, calendars, _earliest(plan), self._now)
        for batch in batches(plan, BARS_PER_BATCH):
            if self._dead is not None:
                # Each batch would try in vain for half a minute.
                self._fail(dict.fromkeys(batch, self._dead), extent)
                continue
            part = plan.filter(pl.col("symbol").is_in(batch))
            requests = [
                BarRequest(Instrument(row["symbol"], row["calendar"]), self._timeframe, row["start"], row["end"])
                for row in part.iter_rows(named=True)
            ]
            await self._fetch_batch(provider, requests, trading, extent)

    async def _fetch_batch(
        self, provider: ProviderClient, requests: Sequence[BarRequest], trading: pl.DataFrame, extent: Extent
    ) -> None:
        """Fetch and store one batch; when the provider answers none of it, let it be left alone for a while."""
        waiting: list[pl.DataFrame] = []
        ready: list[BarRequest] = []
        errors: dict[str, ProviderError] = {}

        def store() -> None:
            # Bars of a series whose last page has not come yet stay behind: progress is committed series by series.
            received = pl.concat(waiting) if waiting else pl.DataFrame(schema=BAR_SCHEMA)
            complete = pl.col("symbol").is_in([request.instrument.symbol for request in ready])
            bars = received.filter(complete)

            def store_part(symbols: list[str]) -> None:
                answered = [request for request in ready if request.instrument.symbol in set(symbols)]
                part = bars.filter(pl.col("symbol").is_in(symbols))
                self._store(part, answered, trading, provider.name, extent)

            poison = bisect([request.instrument.symbol for request in ready], store_part)
            if poison:
                self._fail(poison, extent)
            waiting[:] = [received.filter(~complete)]
            ready.clear()

        async for part in provider.fetch(requests):
            waiting.append(part.bars)
            ready.extend(part.completed)
            errors.update({failure.request.instrument.symbol: failure.error for failure in part.failures})
            if ready and sum(frame.height for frame in waiting) >= BARS_PER_TRANSACTION:
                store()
        if ready:
            store()
        if (
            len(errors) == len(requests)
            and (outage := _outage(list(errors.values()), self._least_for_outage)) is not None
        ):
            self._dead = str(outage)
            with self._database.transaction() as transaction:
                wait = outage.retry_after_seconds if isinstance(outage, RateLimited) else None
                self._dead_until = provider_state.trip(transaction, provider.name, self._dead, self._now, wait)
        if errors:
            self._fail({symbol: str(error) for symbol, error in errors.items()}, extent)

    def _store(
        self, bars: pl.DataFrame, answered: Sequence[BarRequest], trading: pl.DataFrame, source: str, extent: Extent
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
        ).select("symbol", "calendar", pl.lit(True).alias("is_fetched"), "start", "end", advances=True)
        with self._database.transaction() as transaction:
            stored = store_bars(
                transaction,
                self._timeframe,
                Answer(
                    bars,
                    asked,
                    source,
                    closed_by=max(request.end for request in answered),
                    extent=extent,
                    suspects=self._suspects if extent is Extent.WHOLE else None,
                ),
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
        outcome.skipped += stored.skipped.height
        outcome.flagged += stored.flags.height
        outcome.errors.update(stored.refused)
        if not stored.suspected.is_empty():
            known = [self._suspects] if self._suspects is not None else []
            self._suspects = pl.concat([*known, stored.suspected])

    def _fail(self, errors: Mapping[str, str], extent: Extent) -> None:
        with self._database.transaction() as transaction:
            if extent is Extent.GAP:
                # The series itself is up to date: only its gap stays open.
                until = gaps.next_due_time(self._now + GAP_PAUSE_AFTER_FAILURE)
                quality.postpone_gaps(transaction, self._timeframe, list(errors), until)
            else:
                ledger.fail(transaction, OHLC, self._timeframe, errors, self._now, self._dead_until)
        self._outcome.errors.update(errors)


def _outage(errors: Sequence[ProviderError], least_down: int) -> ProviderError | None:
    """The error by which a provider that answered no request is out of order as a whole, if it is.

    `least_down` of them must be 5xx or time-outs when all are.
    """
    for error in errors:
        if isinstance(error, Unreachable | RateLimited | Unauthorized):
            return error
    down = [error for error in errors if isinstance(error, ProviderUnavailable)]
    return down[0] if len(errors) == len(down) >= least_down else None


def _until(series: pl.DataFrame, closed: pl.DataFrame) -> pl.DataFrame:
    """`series` (calendar, provider, …) with `ts_end`, up to where each can be asked for; without those that cannot."""
    last = closed.select("calendar", "provider", "ts_end")
    return series.join(last, on=["calendar", "provider"], how="inner", nulls_equal=True, maintain_order="left")


def _earliest(plan: pl.DataFrame) -> datetime:
    earliest = plan["start"].min()
    assert isinstance(earliest, datetime)
    return earliest


def _rows(timeframe: Timeframe) -> pl.Expr:
    """At most how many bars a request brings: it takes every market for one that never closes."""
    span = pl.col("end") - pl.col("start")
    return (span.dt.total_minutes() // timeframe.minutes + 1).alias("rows")
