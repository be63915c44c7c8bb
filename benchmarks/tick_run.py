"""The process that `benchmarks.tick` measures: plans one tick and executes it as a Dagster run. Not run by hand."""

from benchmarks.measure import Cost

cost = Cost()

import json  # noqa: E402 - the cost counts from before the imports
import sys  # noqa: E402
import time  # noqa: E402
from datetime import datetime, timedelta  # noqa: E402

from dagster import DagsterEventType, DagsterInstance  # noqa: E402

from ema_assets import watchlist  # noqa: E402
from ema_assets.definitions import defs  # noqa: E402
from ema_assets.defs.partitions import SYMBOLS  # noqa: E402
from ema_assets.defs.requests import run_request  # noqa: E402
from ema_assets.defs.resources import MarketResource, StoreResource  # noqa: E402
from ema_assets.domain.planning import plan_runs  # noqa: E402
from ema_assets.pipeline.planning import stale_on_close  # noqa: E402
from ema_assets.pipeline.providers import open_provider  # noqa: E402
from ema_assets.pipeline.refresh import refresh_all  # noqa: E402
from ema_assets.settings import Settings  # noqa: E402
from ema_assets.store.database import Database  # noqa: E402
from ema_assets.store.locate import database_url  # noqa: E402
from ema_assets.timeframes import Timeframe  # noqa: E402


class MarketAt(MarketResource):
    """The market at a moment of the past."""

    at: str

    def now(self) -> datetime:
        return datetime.fromisoformat(self.at)


def load(now: datetime) -> None:
    """Everything up to `now`, without Dagster, and the partitions that Dagster needs to know."""
    settings = Settings.from_env()
    watched = watchlist.load(settings.watchlist_path)
    with Database(database_url(settings)) as database:
        for _, _, outcome in refresh_all(
            database,
            watched,
            lambda name: open_provider(settings, name),
            timedelta(0),
            watched.symbols,
            [Timeframe.M5],
            clock=lambda: now,
        ):
            if outcome.errors:
                raise SystemExit(f"loading failed: {outcome.errors}")
        with database.transaction() as transaction:
            transaction.execute("UPDATE market.series_state SET recorded_at = computed_at")
    with DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(str(SYMBOLS.name), list(watched.symbols))
    print(json.dumps({}))


def tick(now: datetime) -> None:
    """Plan and run; print what it cost."""
    symbols = watchlist.load(Settings.from_env().watchlist_path).symbols
    with Database(database_url(Settings.from_env())) as database, database.transaction() as transaction:
        transaction.query("SELECT 1 AS one")
        began = time.perf_counter()
        stale = stale_on_close(transaction, Timeframe.M5, now)
        runs = plan_runs(stale, symbols, [], Settings.from_env().series_per_run)
        plan_ms = (time.perf_counter() - began) * 1000
    resources = {"store": StoreResource(), "market": MarketAt(at=now.isoformat())}
    job = defs.resolve_job_def("refresh")
    began = time.perf_counter()
    seconds: dict[str, float] = {}
    sql = calls = 0
    with DagsterInstance.get() as instance:
        for run in runs:
            tags = run_request(run, now).tags
            done = job.execute_in_process(instance=instance, tags=tags, resources=resources)
            assert done.success
            for event in done.all_events:
                if event.event_type == DagsterEventType.STEP_SUCCESS and event.step_key:
                    took = event.step_success_data.duration_ms / 1000
                    seconds[event.step_key] = round(seconds.get(event.step_key, 0) + took, 3)
                if event.event_type == DagsterEventType.STEP_OUTPUT:
                    metadata = event.step_output_data.metadata
                    sql += int(metadata["sql_statements"].value) if "sql_statements" in metadata else 0
                    calls += int(metadata["provider_calls"].value) if "provider_calls" in metadata else 0
        in_run = time.perf_counter() - began
    with Database(database_url(Settings.from_env())) as database, database.transaction() as transaction:
        found = transaction.query(
            "SELECT count(*) AS n FROM dagster.event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
        )
        events = int(found["n"][0])
    expected = 4 * len(symbols)
    if events != expected:
        raise SystemExit(f"{events} materializations were recorded, not {expected}")
    print(
        json.dumps(
            {
                "plan_ms": round(plan_ms, 1),
                "in_run_s": round(in_run, 2),
                "by_asset_s": seconds,
                "events": events,
                "events_per_s": round(events / in_run),
                "sql_statements": sql,
                "api_calls": calls,
                **{name: round(value, 2) for name, value in cost.report().items()},
            }
        )
    )


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    moment = datetime.fromisoformat(given["now"])
    (load if given["load"] else tick)(moment)
