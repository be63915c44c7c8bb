"""Fixtures: a Dagster instance on a real Postgres, and a sandbox on a real socket, at a fixed time of a trading day."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dagster import DagsterInstance, Definitions, ExecuteInProcessResult, instance_for_test
from dagster_postgres import DagsterPostgresStorage

from ema_assets.config import watchlist
from ema_assets.config.settings import DAGSTER_EVENT_VARIABLES, Settings
from ema_assets.definitions import assembled
from ema_assets.defs.just_requested import JustRequested
from ema_assets.defs.partitions import SYMBOLS
from ema_assets.defs.requests import run_request
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.defs.run_tags import DEFER_TAG, RANGE_END_TAG, RANGE_START_TAG
from ema_assets.model.urls import dagster_url
from ema_assets.operations.refresh_all import refresh_all
from ema_assets.operations.sync_watchlist import sync
from ema_assets.refresh.clients import open_provider
from ema_assets.refresh.graph import build
from ema_assets.refresh.plan import stale_for_sweep
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.refresh.runs import plan_runs
from ema_assets.sandbox.server import RunningSandbox, running_sandbox
from ema_assets.store.database import Database
from ema_assets_tests.conftest import Databases
from ema_assets_tests.core import CORE_TEXT
from ema_assets_tests.timeframes import D1, H1, M5, M15

# Friday 2026-11-20, 10:32 in New York: the 5m bar of 10:25 and the 15m bar of 10:15 have closed.
NOW = datetime(2026, 11, 20, 15, 32, tzinfo=UTC)

# Two fetched timeframes and two rolled-up ones. Not more, because each timeframe costs a test one or two runs.
FRAMES = (M5, M15, H1, D1)

WATCHLIST = (
    f"""
timeframes = {json.dumps([frame.key for frame in FRAMES])}

[history]
"5m" = 5
"1d" = 60

[[group]]
calendar = "XNYS"
symbols = ["AAPL", "MSFT", "JPM", "XOM"]

[[group]]
calendar = "24/7"
symbols = ["BTC-USD"]
"""
    + CORE_TEXT
)

GRAPH = build(watchlist.parse(WATCHLIST))
defs = assembled(GRAPH)
sweep, sync_watchlist = (defs.resolve_sensor_def(name) for name in ("sweep", "sync_watchlist"))


class MarketAt(MarketResource):
    """The market at a given time."""

    at: str

    def now(self) -> datetime:
        return datetime.fromisoformat(self.at)

    def machine_now(self) -> datetime:
        return self.now()


class World:
    """Everything a test of the Dagster side needs."""

    def __init__(self, database: Database, instance: DagsterInstance, sandbox: RunningSandbox, path: Path) -> None:
        self.database = database
        self.instance = instance
        self.sandbox = sandbox
        self.watchlist_path = path
        self.now = NOW
        self.sync()

    @property
    def symbols(self) -> list[str]:
        return list(watchlist.load(self.watchlist_path).symbols)

    @property
    def resources(self) -> dict[str, object]:
        return {"store": StoreResource(), "market": MarketAt(at=self.now.isoformat())}

    def sync(self) -> None:
        watched = watchlist.load(self.watchlist_path)
        sync(self.database, watched, self.now)
        self.instance.add_dynamic_partitions(str(SYMBOLS.name), list(watched.symbols))

    def sweep(self, *, raise_on_error: bool = True, loaded: Definitions | None = None) -> list[ExecuteInProcessResult]:
        """Execute, in this process, the runs that the sweep would launch now."""
        with self.database.transaction() as transaction:
            stale = stale_for_sweep(transaction, self.now, timedelta(0))
        runs = plan_runs(stale, self.symbols, [], 1000)
        requests = [run_request(run, self.now) for run in runs]
        return [self.run(each.tags, raise_on_error=raise_on_error, loaded=loaded) for each in requests]

    def settle(self) -> None:
        """Bring everything up to date without Dagster, and mark it as reported: a run would take a second or more.

        A test that would begin with this call has the marker `settled` instead.
        """
        settle(self.database, watchlist.load(self.watchlist_path), self.now)

    def let_grace_pass(self) -> None:
        """Let so much time pass that a run which has not reported to Dagster must have died."""
        with self.database.transaction() as transaction:
            transaction.execute(
                """UPDATE market.series_state
                   SET computed_at = computed_at - interval '5 minutes', recorded_at = recorded_at - interval '5 minutes'"""
            )

    def tell(self, loaded: Definitions | None = None) -> None:
        """Execute one run that reports to Dagster everything that was brought up to date without it."""
        with self.database.transaction() as transaction:
            transaction.execute("UPDATE market.series_state SET recorded_at = NULL")
        first, last = f"{self.symbols[0]}|{FRAMES[0].key}", f"{self.symbols[-1]}|{FRAMES[-1].key}"
        self.run({RANGE_START_TAG: first, RANGE_END_TAG: last, DEFER_TAG: "true"}, loaded=loaded)

    def sweep_until_fresh(self, loaded: Definitions | None = None) -> list[ExecuteInProcessResult]:
        """Sweep until nothing is stale."""
        done: list[ExecuteInProcessResult] = []
        for _ in range(5):
            found = self.sweep(loaded=loaded)
            if not found:
                return done
            done += found
        raise AssertionError("something is stale for ever")

    def run(
        self, tags: Mapping[str, str], *, raise_on_error: bool = True, loaded: Definitions | None = None
    ) -> ExecuteInProcessResult:
        """Execute the refresh job of this code location, or of another one that is `loaded`."""
        job = (loaded or defs).resolve_job_def("refresh")
        return job.execute_in_process(
            instance=self.instance, tags=dict(tags), resources=self.resources, raise_on_error=raise_on_error
        )

    def materialized(self, run_id: str) -> list[tuple[str, str]]:
        with self.database.transaction() as transaction:
            rows = transaction.query(
                """SELECT asset_key::json ->> 0 AS asset, partition FROM dagster.event_logs
                   WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND run_id = $1 ORDER BY 1, 2""",
                run_id,
            )
        return list(rows.iter_rows())


def settle(database: Database, watched: watchlist.Watchlist, now: datetime) -> None:
    """Bring everything up to date at `now` without Dagster, and mark it as reported."""
    settings = Settings.from_env()
    for _, _, outcome in refresh_all(
        database,
        watched,
        lambda name: open_provider(settings, name),
        FetchRules.of(settings, watched),
        list(watched.symbols),
        list(FRAMES),
        clock=lambda: now,
    ):
        assert not outcome.errors
    with database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET recorded_at = computed_at")


def own_settings(patched: pytest.MonkeyPatch, home: Path) -> None:
    """Set EMA_HOME to `home`, and remove the keys and the provider of the person who runs the tests."""
    for name in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY", "EMA_PROVIDER"):
        patched.delenv(name, raising=False)
    patched.setenv("EMA_HOME", str(home))


@pytest.fixture(scope="session")
def synced_database(databases: Databases) -> str:
    """The URL of a database with Dagster's tables and the watchlist, to copy: making it takes most of a second."""
    url = databases.make()
    DagsterPostgresStorage(postgres_url=dagster_url(url), should_autocreate_tables=True)
    with Database(url) as database:
        sync(database, watchlist.parse(WATCHLIST), NOW)
    return url


@pytest.fixture(scope="session")
def settled_database(databases: Databases, synced_database: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of the same database with everything up to date, to copy: this takes most of a second, too."""
    url, watched = databases.make(like=synced_database), watchlist.parse(WATCHLIST)
    with (
        pytest.MonkeyPatch.context() as patched,
        running_sandbox(watched.instruments) as sandbox,
        Database(url) as database,
    ):
        own_settings(patched, tmp_path_factory.mktemp("settled"))
        patched.setenv("EMA_SANDBOX_URL", sandbox.base_url)
        settle(database, watched, NOW)
    return url


@pytest.fixture
def database_url(request: pytest.FixtureRequest, databases: Databases) -> Iterator[str]:
    """The URL of a database for one test. It has no bars, or is up to date when the test is marked as `settled`."""
    is_settled = request.node.get_closest_marker("settled") is not None
    url = databases.make(like=request.getfixturevalue("settled_database" if is_settled else "synced_database"))
    yield url
    databases.drop(url)


@pytest.fixture
def world(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_pauses: None) -> Iterator[World]:
    path = tmp_path / "watchlist.toml"
    path.write_text(WATCHLIST)
    own_settings(monkeypatch, tmp_path / "home")
    monkeypatch.setenv("EMA_DATABASE_URL", database_url)
    monkeypatch.setenv("EMA_WATCHLIST", str(path))
    for name, value in DAGSTER_EVENT_VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("ema_assets.defs.requests._just_requested", defaultdict(JustRequested))
    storage = {"custom": {"module": "ema_assets.defs.storage", "class": "MarketPostgresStorage", "config": {}}}
    with (
        running_sandbox(watchlist.load(path).instruments) as sandbox,
        instance_for_test(overrides={"storage": storage, "telemetry": {"enabled": False}}) as instance,
        Database(database_url) as database,
    ):
        monkeypatch.setenv("EMA_SANDBOX_URL", sandbox.base_url)
        yield World(database, instance, sandbox, path)


@pytest.fixture
def at() -> Callable[..., datetime]:
    return lambda **later: NOW + timedelta(**later)
