"""Requests bars that have closed or are missing from the providers. How answers are stored is in store_answer."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import polars as pl

from ema_assets.market import gaps
from ema_assets.model.asset_names import OHLC
from ema_assets.model.errors import ProviderError
from ema_assets.model.schemas import ASKED_SCHEMA, BAR_SCHEMA, SUSPECT_SCHEMA
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers.fetching.base import NO_ACTIONS, BarRequest, ProviderClient
from ema_assets.refresh.answers import Answer, Extent, Stored, outdated
from ema_assets.refresh.contract import answers, close, unforeseen
from ema_assets.refresh.delays import Delays
from ema_assets.refresh.describe import describe_due
from ema_assets.refresh.isolate import bisect
from ema_assets.refresh.older import Older, wants_older, without
from ema_assets.refresh.outcome import Outcome, batches
from ema_assets.refresh.plan import closed_bars
from ema_assets.refresh.plan_requests import FetchRules, plan_gaps, plan_requests
from ema_assets.refresh.standing import ProviderStanding
from ema_assets.refresh.store_answer import store_bars
from ema_assets.refresh.why_stale import why_asked
from ema_assets.store import ledger, older_history, quality, sessions
from ema_assets.store.database import Database

# Opens a client of the provider with this name; None stands for the default one.
OpenProvider = Callable[[str | None], ProviderClient]

# Plans the requests for the whole history of the series of these symbols.
Whole = Callable[[pl.Series], pl.DataFrame]

GAP_PAUSE_AFTER_FAILURE = timedelta(minutes=30)

# The extents of answers that include the newest bars.
_NEWEST = (Extent.PART, Extent.WHOLE)

# Bars requested, and stored, at a time. They bound memory for any number of series.
BARS_PER_BATCH = 400_000
BARS_PER_TRANSACTION = 100_000


def refresh_fetched(  # noqa: PLR0913 - what a refresh of fetched bars depends on
    database: Database,
    open_provider: OpenProvider,
    timeframe: Timeframe,
    symbols: Sequence[str],
    rules: FetchRules,
    now: datetime,
    *,
    everything: bool = False,
    older: bool = True,
    clock: Callable[[], datetime] | None = None,
) -> Outcome:
    """Request and store every bar of `timeframe` that has closed and was not requested yet, and the bars of gaps.

    The providers of the symbols are asked concurrently. A series whose vendor re-adjusted history for a split is
    fetched again as a whole. Then, with `older`, bars before the first bar of a series are requested (`plan_older`),
    and once per night the states and corporate actions of the symbols (`describe`). The failure of a symbol does not
    affect others; it is in `errors` and in the ledger. A provider that does not answer is left alone for a while. The
    while begins at its failure if the market's `clock` is given, otherwise at `now`.
    """
    moment = clock or (lambda: now)
    with database.transaction() as transaction:
        ledger.take_back(transaction, timeframe, symbols, now)
        state = ledger.fetch_state(transaction, timeframe, symbols)
        closed = closed_bars(transaction, now, rules.publications, timeframes=[timeframe])
        plan = plan_requests(state, timeframe, closed, rules, now, everything=everything)
        gap_plan = plan_gaps(quality.due_gaps(transaction, timeframe, symbols, now), plan, timeframe, closed)

    def own(each: pl.DataFrame, name: str | None) -> pl.DataFrame:
        return each.filter(pl.col("provider").eq_missing(name))

    def whole(symbols: pl.Series) -> pl.DataFrame:
        mine = state.filter(pl.col("symbol").is_in(symbols.implode()))
        return plan_requests(mine, timeframe, closed, rules, now, everything=True)

    wanting = state.filter(wants_older(now, everything=everything)) if older else state.clear()
    outcome = Outcome(reasons=why_asked(state, plan, gap_plan, wanting, everything=everything))
    extent = Extent.WHOLE if everything else Extent.PART

    named = pl.concat([each["provider"] for each in (plan, gap_plan, wanting)]).unique(maintain_order=True)

    async def ask(name: str | None) -> None:
        standing = ProviderStanding(database, own(state, name), moment)
        talk = _Fetching(database, timeframe, now, outcome, extent, rules, state, standing)
        await talk.run(open_provider, name, whole, *(own(each, name) for each in (plan, gap_plan, wanting)))

    async def ask_all() -> None:
        await _side_by_side(ask(name) for name in named)
        for name in named:
            if (describer := rules.describers.get(name)) is not None:
                outcome.calls += await describe_due(database, name, describer, closed, now)

    asyncio.run(ask_all())
    return outcome


async def _side_by_side(talks: Iterable[Awaitable[None]]) -> None:
    """Wait for all `talks`. An error in one is raised after the others have ended, so that their bars are stored."""
    for result in await asyncio.gather(*talks, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


class _Fetching:
    """All requests of one refresh to one provider: planned bars, gaps, whole split series, and then older bars."""

    def __init__(
        self,
        database: Database,
        timeframe: Timeframe,
        now: datetime,
        outcome: Outcome,
        extent: Extent,
        rules: FetchRules,
        state: pl.DataFrame,
        standing: ProviderStanding,
    ) -> None:
        self._database = database
        self._timeframe = timeframe
        self._now = now
        self._outcome = outcome
        self._extent = extent
        self._rules = rules
        everything = extent is Extent.WHOLE
        self._begun_again = dict(state.select("symbol", "begun_again").iter_rows())
        self._older = Older(database, timeframe, rules, now, self._begun_again, everything=everything)
        self._new = state.filter(pl.col("checked_through").is_null() | pl.lit(everything))["symbol"].to_list()
        self._name: str | None = None
        self._delays = Delays(now)
        self._actions = NO_ACTIONS
        self._standing = standing
        self._suspects = SUSPECT_SCHEMA.to_frame()
        self._fetched_whole: set[str] = set()

    async def run(
        self,
        open_provider: OpenProvider,
        name: str | None,
        whole: Whole,
        plan: pl.DataFrame,
        gap_plan: pl.DataFrame,
        wanting: pl.DataFrame,
    ) -> None:
        """Fetch and store `plan`, then `gap_plan`, then series found to be split as a `whole`, then `wanting`."""
        self._name = name
        try:
            provider = open_provider(name)
        except Exception as error:  # noqa: BLE001 - settings, or code that is not ours: other providers are not affected
            said = unforeseen(error, name, "being opened")
            for each, extent in ((plan, self._extent), (gap_plan, Extent.GAP), (wanting, Extent.OLDER)):
                await self._fail(dict.fromkeys(each["symbol"], said), extent)
            return
        try:
            plan, gap_plan = await self._probe(provider, plan, gap_plan)
            await self._fetch(provider, plan, self._extent)
            for each in gap_plan.partition_by("round", maintain_order=True):
                await self._fetch(provider, each.filter(self._is_sound()), Extent.GAP)
            await self._fetch_suspects(provider, whole)
            if not wanting.is_empty():
                await self._reach_back(provider, whole, wanting["symbol"].to_list())
        finally:
            self._outcome.calls += await close(provider)

    async def _probe(
        self, provider: ProviderClient, plan: pl.DataFrame, gap_plan: pl.DataFrame
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Request one series first from a provider that did not answer last time; return the rest of both plans.

        When only gaps are due, a gap is requested.
        """
        await asyncio.to_thread(self._standing.look, provider.name, self._name)
        if not plan.is_empty():
            plan = await self._prove(provider, plan, self._extent)
        elif not gap_plan.is_empty():
            gap_plan = await self._prove(provider, gap_plan, Extent.GAP)
        return plan, gap_plan

    async def _prove(self, provider: ProviderClient, plan: pl.DataFrame, extent: Extent) -> pl.DataFrame:
        """Request one series of `plan` from a provider that did not answer last time; return the rest of `plan`."""
        if not self._standing.is_unproven:
            return plan
        ordered = self._standing.probe_first(plan)
        await self._fetch(provider, ordered.head(1), extent)
        return ordered.tail(-1)

    async def _fetch_suspects(self, provider: ProviderClient, whole: Whole) -> None:
        """Request the `whole` history of each series whose scale is in doubt, once per series."""
        suspects = self._suspects.filter(~pl.col("symbol").is_in(list(self._fetched_whole)))["symbol"]
        if not suspects.is_empty():
            again = whole(suspects)
            self._fetched_whole.update(suspects)
            self._outcome.refetched += again.height
            await self._fetch(provider, again, Extent.WHOLE)

    async def _reach_back(self, provider: ProviderClient, whole: Whole, symbols: Sequence[str]) -> None:
        """Request bars before the first bars of `symbols`: on their own timeframe, then long history."""
        growth = await asyncio.to_thread(self._older.growth, without(symbols, self._outcome.errors))
        await self._fetch_older(provider, growth, Extent.OLDER)
        await self._fetch_suspects(provider, whole)
        sound = without(symbols, self._outcome.errors)
        await self._fetch_older(provider, await asyncio.to_thread(self._older.long, sound, self._name), Extent.LONG)

    async def _fetch_older(self, provider: ProviderClient, plan: pl.DataFrame, extent: Extent) -> None:
        if not plan.is_empty():
            await self._fetch(provider, await self._prove(provider, plan, extent), extent)

    def _is_sound(self) -> pl.Expr:
        # A gap of a series whose scale is in doubt must not be filled on another scale. And for a series that has just
        # failed, an answer about a gap would count as an answer about the series and end its pause.
        return ~pl.col("symbol").is_in([*self._suspects["symbol"], *self._outcome.errors])

    async def _fetch(self, provider: ProviderClient, plan: pl.DataFrame, extent: Extent) -> None:
        if plan.is_empty():
            return
        trading = await asyncio.to_thread(self._sessions, plan)
        self._delays.know(plan)
        for number, batch in enumerate(batches(plan, BARS_PER_BATCH)):
            if self._standing.refusal is not None:
                # Each batch would otherwise retry in vain for half a minute.
                await self._fail(dict.fromkeys(batch, self._standing.refusal), extent)
                continue
            part = plan.filter(pl.col("symbol").is_in(batch))
            if number:
                # The batches before may have taken minutes.
                part = await asyncio.to_thread(self._still_wanted, part)
            if part.is_empty():
                continue
            timeframe = self._older.length(self._name) if extent is Extent.LONG else self._timeframe
            requests = [
                BarRequest(Instrument(row["symbol"], row["calendar"]), timeframe, row["start"], row["end"])
                for row in part.iter_rows(named=True)
            ]
            await self._fetch_batch(provider, requests, trading, extent)

    def _still_wanted(self, plan: pl.DataFrame) -> pl.DataFrame:
        """Return `plan` without symbols that a sync has taken off the list, or has begun again, in the meantime."""
        with self._database.transaction() as transaction:
            state = ledger.fetch_state(transaction, self._timeframe, plan["symbol"].to_list())
        gone = outdated(state, self._begun_again)
        return plan.filter(pl.col("symbol").is_in(state["symbol"].implode()) & ~pl.col("symbol").is_in(gone))

    def _sessions(self, plan: pl.DataFrame) -> pl.DataFrame:
        with self._database.transaction() as transaction:
            return sessions.between(transaction, plan["calendar"].unique().to_list(), min(plan["start"]), self._now)

    async def _fetch_batch(
        self, provider: ProviderClient, requests: Sequence[BarRequest], trading: pl.DataFrame, extent: Extent
    ) -> None:
        """Fetch and store one batch; when the provider answers none of it, have it left alone for a while.

        Storing happens in a thread: it may take seconds, and other providers are asked at the same time.
        """
        waiting: list[pl.DataFrame] = []
        ready: list[BarRequest] = []
        errors: dict[str, ProviderError] = {}

        async def store() -> None:
            # Bars of a series whose last page is missing are kept for later: progress is committed series by series.
            received = pl.concat(waiting) if waiting else pl.DataFrame(schema=BAR_SCHEMA)
            complete = pl.col("symbol").is_in([request.instrument.symbol for request in ready])
            bars = received.filter(complete)
            done: list[tuple[pl.DataFrame, Stored]] = []

            def store_part(symbols: list[str]) -> None:
                answered = [request for request in ready if request.instrument.symbol in set(symbols)]
                part = bars.filter(pl.col("symbol").is_in(symbols))
                done.append(self._store(part, answered, trading, provider.name, extent))

            poison = await asyncio.to_thread(bisect, [request.instrument.symbol for request in ready], store_part)
            for asked, stored in done:
                self._count(asked, stored)
            await self._fail(poison, extent)
            waiting[:] = [received.filter(~complete)]
            ready.clear()

        async for part in answers(provider, requests):
            waiting.append(part.bars)
            ready.extend(part.completed)
            self._delays.hear(part.complete_through)
            self._actions = pl.concat([self._actions, part.actions])
            errors.update({failure.request.instrument.symbol: failure.error for failure in part.failures})
            if ready and sum(frame.height for frame in waiting) >= BARS_PER_TRANSACTION:
                await store()
        if ready:
            await store()
        await asyncio.to_thread(self._standing.judge, [request.instrument.symbol for request in requests], errors)
        if extent in (Extent.OLDER, Extent.LONG):
            for symbol in await asyncio.to_thread(self._older.give_up, errors):
                del errors[symbol]
        await self._fail({symbol: str(error) for symbol, error in errors.items()}, extent)

    def _store(
        self, bars: pl.DataFrame, answered: Sequence[BarRequest], trading: pl.DataFrame, source: str, extent: Extent
    ) -> tuple[pl.DataFrame, Stored]:
        """Store `bars`, the whole answer to `answered`, in one transaction; return what was asked and stored."""
        asked = self._asked(answered, extent)
        if extent is Extent.LONG:
            return asked, self._older.store(bars, asked, trading, source, self._name)
        if extent is Extent.WHOLE:
            self._outcome.unserved.update(asked.join(bars, on="symbol", how="anti")["symbol"])
        with self._database.transaction() as transaction:
            stored = store_bars(
                transaction,
                self._timeframe,
                Answer(
                    bars,
                    asked,
                    source,
                    # All bars of gaps and older bars have closed, even one that reaches past the end of its request.
                    closed_by=max(asked["end"]) if extent in _NEWEST else self._now,
                    extent=extent,
                    suspects=self._suspects if extent is Extent.WHOLE and self._fetched_whole else None,
                    actions=self._actions.filter(pl.col("symbol").is_in(asked["symbol"].implode())),
                    begun_again=self._begun_again,
                ),
                trading,
                self._now,
            )
            ledger.fail(transaction, OHLC, self._timeframe, stored.refused, self._now)
            kept = asked.filter(~pl.col("symbol").is_in(stored.left_out))
            self._older.begin(transaction, kept, bars, self._new, extent)
            # Instruments are written after series are locked, as a sync does.
            ledger.note_delays(transaction, self._name, self._delays.learned(answered))
            if self._timeframe.is_session:
                ledger.note_silence(transaction, asked["symbol"].to_list())
            elif not bars.is_empty():
                ledger.end_silence(transaction, bars["symbol"].unique().to_list())
        return asked, stored

    def _count(self, asked: pl.DataFrame, stored: Stored) -> None:
        left_out = set(stored.left_out)
        outcome = self._outcome
        outcome.add_done(symbol for symbol in asked["symbol"] if symbol not in left_out)
        outcome.add_written(stored.changes)
        outcome.corrected += int(stored.changes["corrected"].sum())
        outcome.rejected += stored.rejected.height
        outcome.skipped += stored.skipped.height
        outcome.flagged += stored.flags.height
        outcome.errors.update(stored.refused)
        self._suspects = pl.concat([self._suspects, stored.suspected])

    def _asked(self, answered: Sequence[BarRequest], extent: Extent) -> pl.DataFrame:
        """Return the series of the requests `answered`, up to where the provider is complete: ASKED_SCHEMA."""
        ends = [min(request.end, self._delays.complete_through(request)) for request in answered]
        final = self._rules.final_through(self._timeframe, self._name, self._now)
        is_newest = extent in _NEWEST
        return pl.DataFrame(
            {
                "symbol": [request.instrument.symbol for request in answered],
                "calendar": [request.instrument.calendar for request in answered],
                "is_fetched": True,
                "start": [request.start for request in answered],
                "end": ends,
                "advances": True,
                # An answer about a gap or older bars says nothing about the newest bars.
                "asked_at": self._now if is_newest else None,
                "final_through": [min(end, final) for end in ends] if is_newest else None,
            },
            schema=ASKED_SCHEMA,
        )

    async def _fail(self, errors: Mapping[str, str], extent: Extent) -> None:
        if errors:
            await asyncio.to_thread(self._write_failures, errors, extent)
            self._outcome.errors.update(errors)

    def _write_failures(self, errors: Mapping[str, str], extent: Extent) -> None:
        moment, until = self._standing.moment(), self._standing.until
        with self._database.transaction() as transaction:
            if extent is Extent.GAP:
                # The series itself is up to date. Only its gap stays open.
                due = gaps.next_due_time(moment + GAP_PAUSE_AFTER_FAILURE)
                quality.postpone_gaps(transaction, self._timeframe, list(errors), due)
            elif extent in (Extent.OLDER, Extent.LONG):
                older_history.fail(transaction, self._timeframe, errors, moment, until)
            else:
                ledger.fail(transaction, OHLC, self._timeframe, errors, moment, until)
