"""What assets, schedules and sensors need from outside: the database and the providers."""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from dagster import ConfigurableResource, InitResourceContext
from pydantic import Field, PrivateAttr

from ema_assets.config import watchlist
from ema_assets.defs.lost_runs import session_name
from ema_assets.defs.namespace import known
from ema_assets.model import clock
from ema_assets.model.errors import StoreUnavailable
from ema_assets.providers import registry
from ema_assets.refresh.clients import open_provider
from ema_assets.refresh.fetch import OpenProvider
from ema_assets.refresh.plan import Publications
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.runtime.locate import leased_database
from ema_assets.store import worker_sessions
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate_once

# The connection that is idle at present: opening one takes 80 ms, which every asset of a run and every tick of a
# schedule would pay. At most one, because nearly all processes use one at a time.
_idle: list[Database] = []


class StoreResource(ConfigurableResource[Any]):
    """The market database. Each process opens its own connection when it first needs one, and keeps it.

    In the process of a run, its sessions carry the run's name, which shows others that the process lives.
    """

    namespace: str = Field(
        default="", description="Whose database: filled in when the assets are loaded, leave it as it is."
    )
    _session_name: str = PrivateAttr(default="ema-assets")

    def setup_for_execution(self, context: InitResourceContext) -> None:
        """Take the run's name. Called by Dagster before the first step of a run, and before each tick."""
        if context.run is not None:
            self._session_name = session_name(context.run.run_id)

    @contextmanager
    def open(self) -> Iterator[Database]:
        """Yield a connection for the block, used by nobody else. Its `statements` counts from 0."""
        database = _take(leased_database(known(self.namespace).settings()), self._session_name)
        try:
            yield database
        except BaseException:
            database.close()
            self._keep_session(database.url)
            raise
        if _idle:
            database.close()
        else:
            _idle.append(database)

    def _keep_session(self, url: str) -> None:
        """Open another connection: a run that continues with its next attempt, or to its end, must not look dead."""
        if not _idle:
            database = Database(url, self._session_name)
            with suppress(StoreUnavailable), database.transaction() as transaction:
                worker_sessions.living(transaction, [])
            _idle.append(database)


def _take(url: str, session: str) -> Database:
    # Has no effect when Dagster keeps its events in the same database: the migration was done then.
    migrate_once(url)
    if not _idle:
        return Database(url, session)
    database = _idle.pop()
    if database.url != url:
        database.close()
        return Database(url, session)
    # A connection that was lost meanwhile, for example by a restart of Postgres, is reopened by its next transaction.
    with suppress(StoreUnavailable):
        worker_sessions.rename(database, session)
    database.statements = 0
    return database


def stand_by() -> None:
    """Keep a connection open for the next run of this process; its session carries no run's name."""
    with suppress(StoreUnavailable), StoreResource().open() as database, database.transaction() as transaction:
        worker_sessions.living(transaction, [])


def forget_run() -> None:
    """Remove the name of a finished run from the idle session, in a process that continues."""
    if _idle:
        stand_by()


@atexit.register
def _close_idle() -> None:
    while _idle:
        _idle.pop().close()


class MarketResource(ConfigurableResource[Any]):
    """The providers of bars and the rules for querying them, from the environment and the watchlist."""

    namespace: str = Field(
        default="", description="Whose settings: filled in when the assets are loaded, leave it as it is."
    )

    def opener(self, database: Database, share: float) -> OpenProvider:
        """Return a function that opens a provider's client, which the caller closes.

        It uses up to `share` of the rate limit.
        """
        settings = known(self.namespace).settings()
        return lambda name: open_provider(settings, name, database=database, share=share)

    def rules(self) -> FetchRules:
        """Return how far back new series reach, and when each provider's bars can be requested."""
        settings = known(self.namespace).settings()
        return FetchRules.of(settings, watchlist.of(settings))

    def publications(self) -> Publications:
        """Return how long after its close a bar of each provider can be requested."""
        return known(self.namespace).settings().publications

    def origin(self, provider: str | None) -> dict[str, str]:
        """Return what a materialization of bars says about their source; None stands for the default provider."""
        source = registry.declared(provider or known(self.namespace).settings().provider)
        prices = f"synthetic, from the {source.title}" if source.is_synthetic else "market data"
        return {"provider": source.name, "prices": prices}

    def now(self) -> datetime:
        """Return the market's time, UTC: which bars have closed, which pauses are over."""
        return clock.now()

    def machine_now(self) -> datetime:
        """Return the machine's time, UTC: how long ago a row was written or a run has ended.

        It differs only with EMA_CLOCK.
        """
        return datetime.now(UTC)
