"""A market on a virtual clock: sweeps run at intervals, and every stale series is refreshed."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl

from ema_assets.config.watchlist import Watchlist
from ema_assets.operations.refresh_all import refresh_all
from ema_assets.operations.sync_watchlist import sync
from ema_assets.providers.fetching.base import BarRequest, FetchBatch
from ema_assets.refresh.fetch import OpenProvider
from ema_assets.refresh.plan import stale_for_sweep
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.reports import status
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import MemoryExchange


class LivingExchange(MemoryExchange):
    """Bars become visible when they have closed and `lag` has passed.

    With `says_how_far`, each answer states how far it is complete.
    """

    def __init__(self, *frames: pl.DataFrame, lag: timedelta = timedelta(0), says_how_far: bool = True) -> None:
        super().__init__(*frames)
        self.lag = lag
        self.says_how_far = says_how_far
        self.now = datetime.max
        # Temporary values: until the time, bars with the same keys have the values of the frame.
        self.until: list[tuple[datetime, pl.DataFrame]] = []

    def _of(self, request: BarRequest) -> pl.DataFrame:
        visible = super()._of(request)
        if not request.timeframe.is_session:
            visible = visible.filter(pl.col("ts") + request.timeframe.duration <= self.now - self.lag)
        for end, values in self.until:
            if self.now < end:
                visible = visible.update(values, on=["symbol", "timeframe", "ts"])
        return visible

    async def fetch(self, requests: Sequence[BarRequest]) -> AsyncIterator[FetchBatch]:
        """Answer as a `MemoryExchange`, and state how far the answer is complete."""
        async for batch in super().fetch(requests):
            said = dict.fromkeys(batch.completed, self.now - self.lag) if self.says_how_far else {}
            yield replace(batch, complete_through=said)


def bring_up_to_date(
    database: Database, watched: Watchlist, open_provider: OpenProvider, rules: FetchRules, now: datetime
) -> bool:
    """Refresh what a sweep at `now` finds stale, and return whether anything was stale.

    A series that is only missing from Dagster's records does not count.
    """
    with database.transaction() as transaction:
        stale = stale_for_sweep(transaction, now, timedelta(0), rules.publications)
    if stale.filter(pl.col("reason") != "not recorded").is_empty():
        return False
    for asset, timeframe, outcome in refresh_all(
        database, watched, open_provider, rules, watched.symbols, watched.with_bars, clock=lambda: now
    ):
        assert not outcome.errors, (now, asset, timeframe, outcome.errors)
    return True


class Life:
    """A database that sweeps keep up to date."""

    def __init__(
        self, database: Database, watched: Watchlist, exchange: LivingExchange, rules: FetchRules, now: datetime
    ) -> None:
        self.database, self.watched, self.exchange, self.rules = database, watched, exchange, rules
        # The time of each sweep that found something stale, and the number of requests it made.
        self.runs: list[tuple[datetime, int]] = []
        sync(database, watched, now)
        self.sweep(now)

    def sweep(self, now: datetime) -> bool:
        """Refresh what is stale at `now`, and return whether anything was stale."""
        self.exchange.now, before = now, len(self.exchange.asked)
        was_stale = bring_up_to_date(self.database, self.watched, self.exchange, self.rules, now)
        if was_stale:
            self.runs.append((now, len(self.exchange.asked) - before))
        return was_stale

    def live(self, start: datetime, end: datetime, every: timedelta) -> None:
        """Sweep from `start` to `end`, and check that nothing is stale after each refresh."""
        now = start
        while now <= end:
            if self.sweep(now):
                assert self.stale(now) == 0, now
            now += every

    def stale(self, now: datetime) -> int:
        """The number of series that the status reports as stale."""
        with self.database.transaction() as transaction:
            return sum(each.stale for each in status.by_asset(transaction, now, self.rules.publications))
