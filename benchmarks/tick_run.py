"""The processes of `benchmarks.tick`: load a history, plan and run a tick, evaluate idle ticks. Not run by hand."""

import json
import resource
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import psycopg2
from dagster import (
    DagsterInstance,
    JobDefinition,
    RunRequest,
    build_schedule_context,
    build_sensor_context,
)

from benchmarks.loading import load_history
from benchmarks.tick_location import defs, set_now
from benchmarks.worker import Launched, Standby, Worked, work
from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.defs.partitions import SYMBOLS
from ema_assets.defs.requests import run_request
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.defs.run_tags import RANGE_END_TAG, RANGE_START_TAG
from ema_assets.model.symbols import Series
from ema_assets.refresh.graph import configured
from ema_assets.refresh.plan import stale_on_close
from ema_assets.refresh.runs import plan_runs
from ema_assets.runtime.locate import leased_database
from ema_assets.store.database import Database

_LOCATION = "benchmarks.tick_location"
_EVALUATIONS = 7
# max_concurrent_runs of dagster.yaml.
_SLOTS = 4


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def load(now: datetime) -> dict[str, Any]:
    """Load everything up to `now` without Dagster, and add the partitions to Dagster."""
    settings = Settings.from_env()
    watched = watchlist.load(settings.watchlist_path)
    began = time.perf_counter()
    with Database(leased_database(settings)) as database:
        load_history(database, settings, watched, watched.timeframes[:1], now)
        with database.transaction() as transaction:
            transaction.execute("UPDATE market.series_state SET recorded_at = computed_at")
            bars = transaction.query("SELECT count(*) AS n FROM market.ohlc")["n"][0]
    # Autovacuum does this within minutes of a load.
    _execute("VACUUM ANALYZE")
    with DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(str(SYMBOLS.name), list(watched.symbols))
    return {"bars": int(bars), "load_s": round(time.perf_counter() - began, 1)}


def _planned(now: datetime) -> tuple[list[RunRequest], float, float]:
    """The runs of a tick, and the milliseconds and CPU seconds that it took to plan them."""
    settings = Settings.from_env()
    watched = watchlist.load(settings.watchlist_path)
    with Database(leased_database(settings)) as database, database.transaction() as transaction:
        transaction.query("SELECT 1 AS one")
        began, cpu = time.perf_counter(), _cpu_s()
        stale = stale_on_close(transaction, watched.timeframes[0], now)
        runs = plan_runs(stale, watched.symbols, [], settings.series_per_run)
        spent = (time.perf_counter() - began) * 1000, _cpu_s() - cpu
    return [run_request(run, now) for run in runs], *spent


def _check_events(events: int) -> None:
    settings = Settings.from_env()
    expected = len(configured(settings).on) * len(watchlist.load(settings.watchlist_path).symbols)
    if events != expected:
        raise SystemExit(f"{events} materializations were recorded, expected {expected}")


def tick(now: datetime) -> dict[str, Any]:
    """Plan a tick and execute its runs one after another, each in a worker process; return what it cost."""
    job = defs.resolve_job_def("refresh")
    requests, plan_ms, plan_cpu_s = _planned(now)
    events = _materializations()
    with DagsterInstance.get() as instance:
        done = [work(instance, _LOCATION, job, each.tags or {}, each.run_config) for each in requests]
    events = _materializations() - events
    _check_events(events)
    in_run_s = sum(run.in_run_s for run in done)
    return {
        "runs": len(done),
        "plan_ms": round(plan_ms, 1),
        "in_run_s": round(in_run_s, 2),
        "by_asset_s": _by_step(done),
        # The planner is part of a daemon, so its start is not in a tick. The start of each worker is.
        "cpu_s": round(plan_cpu_s + sum(run.spent.cpu_s for run in done), 2),
        "wall_s": round(sum(run.spent.wall_s for run in done), 2),
        "events": events,
        "events_per_s": round(events / in_run_s),
        "sql_statements": sum(run.counts.get("sql_statements", 0) for run in done),
        "api_calls": sum(run.counts.get("provider_calls", 0) for run in done),
        "peak_mb": round(max(run.spent.peak_mb for run in done), 1),
    }


def standby(now: datetime, ticks: int, step_seconds: int) -> dict[str, Any]:
    """The same for the next `ticks` ticks, whose runs the launcher gives to standby processes, side by side.

    There are as many processes as runs, and at most as many as runs may be at work. The first figures are those of the
    first tick of the processes, the others medians of the ticks after that. Seconds on the clock are those from the
    first launch to the last end.
    """
    job = defs.resolve_job_def("refresh")
    spent: list[tuple[float, float]] = []
    requests, _, _ = _planned(now)
    with ExitStack() as stack:
        processes = []
        for _ in requests[:_SLOTS]:
            instance = stack.enter_context(DagsterInstance.get())
            processes.append(stack.enter_context(Standby(instance, _LOCATION)))
        threads = stack.enter_context(ThreadPoolExecutor(len(processes)))
        list(threads.map(Standby.wait_until_ready, processes))
        for number in range(ticks):
            moment = now + number * timedelta(seconds=step_seconds)
            set_now(moment)
            requests, _, plan_cpu_s = _planned(moment)
            events = _materializations()
            waiting = deque(requests)
            done = list(threads.map(partial(_work_off, waiting, job), processes))
            runs = [run for each in done for run in each]
            _check_events(_materializations() - events)
            began = min(run.launched for run in runs)
            spent.append((plan_cpu_s + sum(run.cpu_s for run in runs), max(run.ended for run in runs) - began))
        megabytes = max(process.megabytes for process in processes)
    (first_cpu_s, first_wall_s), *later = spent
    return {
        "standby_processes": len(processes),
        "standby_first_cpu_s": round(first_cpu_s, 2),
        "standby_first_wall_s": round(first_wall_s, 2),
        "standby_cpu_s": round(statistics.median(cpu for cpu, _ in later), 2),
        "standby_wall_s": round(statistics.median(wall for _, wall in later), 2),
        "standby_mb": round(megabytes, 1),
    }


def _work_off(waiting: deque[RunRequest], job: JobDefinition, process: Standby) -> list[Launched]:
    """Give `process` one run after another until none is left."""
    done = []
    while waiting:
        try:
            request = waiting.popleft()
        except IndexError:
            break
        done.append(process.work(job, request.tags or {}, request.run_config))
    return done


def full(_: datetime, symbols: int) -> dict[str, Any]:
    """One run as a person launches it: the last `symbols` series are requested and computed from the first bar on."""
    watched = watchlist.load(Settings.from_env().watchlist_path)
    names = watched.symbols[-symbols:]
    first, last = (str(Series(names[position], watched.timeframes[0])) for position in (0, -1))
    with DagsterInstance.get() as instance:
        job = defs.resolve_job_def("refresh")
        run = work(instance, _LOCATION, job, {RANGE_START_TAG: first, RANGE_END_TAG: last})
    return {
        "symbols": symbols,
        "in_run_s": round(run.in_run_s, 2),
        "cpu_s": round(run.spent.cpu_s, 2),
        "peak_mb": round(run.spent.peak_mb, 1),
    }


def idle(now: datetime) -> dict[str, Any]:
    """How long the schedule and the sweep take to find that nothing is stale, in milliseconds.

    As in the code server, each evaluation makes an instance. Median of several evaluations after a first one.
    """
    # Make the ledger look as when everything is fresh; only the shortest bars were really loaded.
    _execute(
        """
        UPDATE market.series_state SET checked_through = %s, dirty_from = NULL, dirty_end = NULL,
                                       computed_at = clock_timestamp(), recorded_at = clock_timestamp()
        """,
        now,
    )
    _execute("VACUUM ANALYZE")
    time.sleep(0.1)
    resources = {"store": StoreResource(), "market": MarketResource()}
    shortest = watchlist.load(Settings.from_env().watchlist_path).timeframes[0]
    schedule, sensor = defs.resolve_schedule_def(f"refresh_{shortest.key}"), defs.resolve_sensor_def("sweep")
    with DagsterInstance.get() as instance:
        ref = instance.get_ref()

        def evaluate_schedule() -> str | None:
            with build_schedule_context(instance_ref=ref, scheduled_execution_time=now, resources=resources) as context:
                found = schedule.evaluate_tick(context)
            return found.skip_message if not found.run_requests else None

        def evaluate_sweep() -> str | None:
            with build_sensor_context(instance_ref=ref, resources=resources, definitions=defs) as context:
                found = sensor.evaluate_tick(context)
            return found.skip_message if not found.run_requests else None

        return {
            "idle_schedule_ms": _median_ms(evaluate_schedule),
            "idle_sweep_ms": _median_ms(evaluate_sweep),
        }


def _median_ms(evaluate: Callable[[], str | None]) -> float:
    seconds = []
    for _ in range(1 + _EVALUATIONS):
        began = time.perf_counter()
        said = evaluate()
        seconds.append(time.perf_counter() - began)
        if said is None:
            raise SystemExit("something is stale, so this is not an idle tick")
    return round(statistics.median(seconds[1:]) * 1000, 1)


def _by_step(done: list[Worked]) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for run in done:
        for step, took in run.by_step_s.items():
            seconds[step] = round(seconds.get(step, 0) + took, 3)
    return seconds


def _execute(sql: str, *parameters: Any) -> None:
    connection = psycopg2.connect(leased_database(Settings.from_env()))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
    connection.close()


def _materializations() -> int:
    with Database(leased_database(Settings.from_env())) as database, database.transaction() as transaction:
        found = transaction.query(
            "SELECT count(*) AS n FROM dagster.event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
        )
    return int(found["n"][0])


_TASKS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "load": load,
    "tick": tick,
    "standby": standby,
    "idle": idle,
    "full": full,
}

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    moment = datetime.fromisoformat(given.pop("now"))
    set_now(moment)
    print(json.dumps(_TASKS[given.pop("task")](moment, **given)))
