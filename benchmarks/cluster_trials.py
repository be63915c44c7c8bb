"""What is tried on a cluster: ticks with more workers, a host cut off, live beside slow work, faults of workers."""

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.cluster_stack import Cluster, Worker, empty_queues
from ema_assets.model import clock
from ema_assets.model.errors import EmaAssetsError
from ema_assets.reports import status
from ema_assets.store.database import Database
from ema_assets_tests.timeframes import M5

_TICK_SECONDS, _HEAL_SECONDS = 600.0, 900.0
_SERIES = re.compile(r", (\d+) series")
OVER = ("SUCCESS", "FAILURE", "CANCELED")


def machine_now() -> datetime:
    return datetime.now(UTC)


def next_close() -> datetime:
    """The market's time at which the next 5m bar closes."""
    now = clock.now()
    return now + M5.duration - timedelta(seconds=now.timestamp() % M5.duration.total_seconds())


def _await_close(close: datetime) -> None:
    time.sleep(max(0.0, clock.instant_of(close).timestamp() - time.time()))


def wait_until(is_true: Callable[[], object], seconds: float, what: str) -> float:
    """Wait, and return how many seconds it took; a database or a UI that is away counts as not yet.

    Raises:
        SystemExit: when it takes more than `seconds`.
    """
    began = time.monotonic()
    while True:
        with suppress(EmaAssetsError, OSError):
            if is_true():
                return time.monotonic() - began
        if time.monotonic() - began > seconds:
            raise SystemExit(f"not within {seconds:g} s: {what}")
        time.sleep(0.25)


def runs(cluster: Cluster, since: float = 0.0) -> pl.DataFrame:
    """Runs made since a moment: run_id, status, lane, timeframe, purpose, created, started, ended; seconds."""
    return cluster.soak.sql(
        """
        SELECT r.run_id, r.status, r.backfill_id IS NOT NULL AS is_backfill,
               extract(epoch FROM r.create_timestamp)::float8 AS created, r.start_time AS started, r.end_time AS ended,
               max(t.value) FILTER (WHERE t.key = 'ema_assets/lane') AS lane,
               max(t.value) FILTER (WHERE t.key = 'ema_assets/timeframe') AS timeframe,
               max(t.value) FILTER (WHERE t.key = 'for') AS purpose
        FROM dagster.runs r LEFT JOIN dagster.run_tags t USING (run_id)
        WHERE extract(epoch FROM r.create_timestamp) >= $1::float8
        GROUP BY r.id ORDER BY r.id
        """,
        since,
    )


def pid_of(cluster: Cluster, run_id: str) -> int | None:
    """The process that executes a run, by its event."""
    said = cluster.soak.sql(
        "SELECT event FROM dagster.event_logs WHERE run_id = $1 AND event LIKE '%(pid: %' ORDER BY id DESC LIMIT 1",
        run_id,
    )["event"]
    found = re.search(r"\(pid: (\d+)\)", said.item()) if said.len() else None
    return int(found[1]) if found else None


def working_on(cluster: Cluster, worker: Worker, lane: str | None = None) -> dict[str, int]:
    """The runs that have begun on a worker, of `lane` or any, and their processes."""
    begun = cluster.soak.sql(
        r"""
        SELECT r.run_id, substring(e.event FROM '\(pid: (\d+)\)')::int AS pid, t.value AS lane
        FROM dagster.runs r JOIN dagster.event_logs e USING (run_id)
        LEFT JOIN dagster.run_tags t ON t.run_id = r.run_id AND t.key = 'ema_assets/lane'
        WHERE r.status = 'STARTED' AND e.event LIKE '%Started process for run (pid: %'
        """
    )
    mine = worker.pids()
    return {run_id: pid for run_id, pid, of in begun.iter_rows() if pid in mine and lane in (None, of)}


def status_of(cluster: Cluster, run_id: str) -> str:
    return str(cluster.soak.sql("SELECT status FROM dagster.runs WHERE run_id = $1", run_id)["status"].item())


def stale_at(cluster: Cluster, moment: datetime) -> int:
    """How many series did not get as far as `moment`, over all assets."""
    with Database(cluster.soak.url) as database, database.transaction() as transaction:
        return sum(row.stale + row.failing for row in status.by_asset(transaction, moment))


def idle(cluster: Cluster) -> bool:
    """Nothing stale, nothing that runs."""
    return not cluster.soak.stale(clock.now()) and not cluster.soak.unfinished()


def settle(cluster: Cluster, seconds: float = _HEAL_SECONDS) -> float:
    return wait_until(lambda: idle(cluster), seconds, "nothing stale, nothing running")


def tick(cluster: Cluster) -> dict[str, Any]:
    """One close, from its moment until all of it is fresh: seconds, runs, series and CPU seconds of the workers."""
    close = next_close()
    _await_close(close)
    before, began = sum(worker.cpu_seconds() for worker in cluster.workers), time.time()
    wait_until(lambda: not stale_at(cluster, close) and not cluster.soak.unfinished(), _TICK_SECONDS, "a tick")
    fresh = time.time() - began
    spent = sum(worker.cpu_seconds() for worker in cluster.workers) - before
    done = runs(cluster, began).filter(pl.col("status") == "SUCCESS")
    series = sum(int(found[1]) for said in done["purpose"].drop_nulls() if (found := _SERIES.search(said)))
    starts, ends = done["started"].min(), done["ended"].max()
    working = float(ends) - float(starts) if done.height else 0.0  # type: ignore[arg-type]
    cluster.soak.say(f"close of {close:%H:%M}: all fresh after {fresh:.1f} s, {done.height} runs, {series} series")
    return {
        "close": f"{close:%H:%M}",
        "runs": done.height,
        "series": series,
        "seconds": fresh,
        "working_s": working,
        "series_per_s": series / working if working else 0.0,
        "cpu_s": spent,
        "load": os.getloadavg()[0],
    }


def throughput(cluster: Cluster, processes: int, ticks: int) -> list[dict[str, Any]]:
    """Ticks with so many processes, spread over the hosts; the first, in which they load everything, does not count."""
    shares = [processes // 2 + processes % 2, processes // 2]
    for host, share in zip(cluster.hosts, shares, strict=True):
        if share:
            cluster.start_worker(host, share)
    settle(cluster)
    found = [{"processes": processes, **tick(cluster)} for _ in range(ticks + 1)]
    cluster.stop_workers()
    return found[1:]


def cut_off(cluster: Cluster, away_seconds: float) -> dict[str, Any]:
    """Cut the second host off in the middle of a tick: when its runs are failed, and when all is fresh without it."""
    for host in cluster.hosts:
        cluster.start_worker(host, 2)
    settle(cluster)
    tick(cluster)
    second = cluster.workers[1]
    lost: dict[str, int] = {}
    while not lost:
        # A run may end while the link goes down: then once more.
        second.host.join()
        close = next_close()
        wait_until(lambda: working_on(cluster, second, "live"), _TICK_SECONDS, "a live run on the second host")
        second.host.cut_off()
        cut = time.monotonic()
        time.sleep(1)
        lost = working_on(cluster, second)
    held = {r for r, s in runs(cluster).select("run_id", "status").iter_rows() if s == "STARTING"}
    cluster.soak.say(f"{second.host.name} cut off with {len(lost)} runs; {len(held)} more given to workers")
    ends: dict[str, float] = {}
    fresh = None

    def look() -> bool:
        nonlocal fresh
        for run_id in lost:
            if run_id not in ends and status_of(cluster, run_id) in OVER:
                ends[run_id] = time.monotonic() - cut
        if fresh is None and len(ends) == len(lost) and not stale_at(cluster, close):
            fresh = time.monotonic() - cut
        return fresh is not None

    wait_until(look, _HEAL_SECONDS, "all fresh without the host")
    outcomes = {run_id: status_of(cluster, run_id) for run_id in lost}
    cluster.soak.say(f"its runs were over after {sorted(ends.values())}, all fresh after {fresh:.1f} s")
    time.sleep(max(0.0, away_seconds - (time.monotonic() - cut)))
    second.host.join()
    joined = time.time()
    cluster.soak.say("the host is back")
    back = wait_until(
        lambda: any(
            pid_of(cluster, run_id) in second.pids()
            for run_id in runs(cluster).filter(pl.col("started") >= joined)["run_id"]
        ),
        _HEAL_SECONDS,
        "a new run on the host that was away",
    )
    settle(cluster)
    return {
        "runs": len(lost),
        "given_not_begun": len(held),
        "over_after_s": sorted(ends.values()),
        "outcomes": sorted(set(outcomes.values())),
        "fresh_after_s": fresh,
        "works_again_s": back,
        "load": os.getloadavg()[0],
    }


def lanes(cluster: Cluster, ticks: int) -> list[dict[str, Any]]:
    """Ticks before and during a backfill of everything, with two processes for live work and two for all else."""
    for host in cluster.hosts:
        cluster.start_worker(host, 1, "live")
        cluster.start_worker(host, 1, "slow")
    settle(cluster)
    for _ in range(2):
        tick(cluster)
    found = []
    for during in (False, True):
        if during:
            cluster.soak.launch_backfill()
            wait_until(
                lambda: cluster.soak.runs().filter(pl.col("status") == "STARTED")["kind"].is_in(["backfill"]).any(),
                _TICK_SECONDS,
                "the backfill begins",
            )
        for _ in range(ticks):
            close = next_close()
            _await_close(close)
            began = time.time()
            wait_until(lambda: live_over(cluster, began, close), _TICK_SECONDS, "the live runs of a tick")  # noqa: B023
            every = runs(cluster, began - 600)
            live = every.filter(
                (pl.col("lane") == "live") & (pl.col("created") >= began) & (pl.col("status") == "SUCCESS")
            )
            slow = every.filter((pl.col("lane") != "live") & (pl.col("started") < time.time()))
            busy = slow.filter(pl.col("ended").is_null() | (pl.col("ended") > began)).height
            waits = live["started"] - live["created"]
            found.append(
                {
                    "backfill": during and not cluster.soak.backfill_status().startswith("COMPLETED"),
                    "live_runs": live.height,
                    "wait_p50_s": waits.median(),
                    "wait_max_s": waits.max(),
                    "fresh_s": time.time() - began,
                    "slow_at_work": busy,
                    "load": os.getloadavg()[0],
                }
            )
            cluster.soak.say(f"live beside slow work: {found[-1]}")
    wait_until(
        lambda: cluster.soak.backfill_status() not in ("REQUESTED", "CANCELING", "FAILING"), 1800, "the backfill"
    )
    cluster.soak.say(f"backfill: {cluster.soak.backfill_status()}")
    settle(cluster)
    cluster.stop_workers()
    return found


def live_over(cluster: Cluster, began: float, close: datetime) -> bool:
    """Whether every live run since `began` is over, and the 5m bars of `close` are there."""
    live = runs(cluster, began).filter(pl.col("lane") == "live")
    if live.is_empty() or not live["status"].is_in(OVER).all():
        return False
    with Database(cluster.soak.url) as database, database.transaction() as transaction:
        return not sum(row.stale for row in status.by_asset(transaction, close) if row.timeframe == M5.key)


def faults(cluster: Cluster) -> dict[str, Any]:
    """A process killed, a run stopped in the UI, a message lost, processes recycled."""
    found: dict[str, Any] = {}
    worker = cluster.start_worker(cluster.hosts[0], 2)
    settle(cluster)
    tick(cluster)
    for name in ("killed", "terminated"):
        cluster.soak.say(f"waiting for a run to be {name}")
        taken: dict[str, int] = {}
        wait_until(lambda: taken.update(working_on(cluster, worker)) or taken, _TICK_SECONDS, "a run")  # noqa: B023
        run_id, pid = next(iter(taken.items()))
        began = time.monotonic()
        if name == "killed":
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        else:
            answer = cluster.soak.graphql(
                """mutation($id: String!) { terminateRun(runId: $id) { __typename
                   ... on TerminateRunFailure { message } ... on PythonError { message } } }""",
                id=run_id,
            )
            found["terminate_answer"] = answer["terminateRun"]["__typename"]
        wait_until(lambda: status_of(cluster, run_id) in OVER, _HEAL_SECONDS, f"a run that was {name}")  # noqa: B023
        found[name] = {"status": status_of(cluster, run_id), "over_after_s": time.monotonic() - began}
        found[name]["settled_after_s"] = found[name]["over_after_s"] + settle(cluster)
        cluster.soak.say(f"{name}: {found[name]}")
    cluster.stop_workers()
    wait_until(lambda: runs(cluster)["status"].is_in(["STARTING"]).any(), _TICK_SECONDS, "a run in the broker")
    (run_id, *_) = runs(cluster).filter(pl.col("status") == "STARTING")["run_id"]
    time.sleep(1)
    empty_queues(cluster.broker.url)
    began = time.monotonic()
    worker = cluster.start_worker(cluster.hosts[1], 2, "live,slow", "--runs-per-process", "3")
    wait_until(lambda: status_of(cluster, run_id) in OVER, _HEAL_SECONDS, "a run whose message was lost")
    found["lost message"] = {"status": status_of(cluster, run_id), "over_after_s": time.monotonic() - began}
    found["lost message"]["settled_after_s"] = found["lost message"]["over_after_s"] + settle(cluster)
    cluster.soak.say(f"lost message: {found['lost message']}")
    began_at, before = time.time(), worker.pids()
    for _ in range(2):
        tick(cluster)
    done = runs(cluster, began_at)
    found["recycled"] = {
        "runs": done.height,
        "successful": done.filter(pl.col("status") == "SUCCESS").height,
        "processes": len({pid_of(cluster, run_id) for run_id in done["run_id"]}),
        "replaced": len(before - worker.pids()),
    }
    cluster.soak.say(f"recycled: {found['recycled']}")
    cluster.stop_workers()
    return found


def restart(cluster: Cluster, away_seconds: float) -> dict[str, Any]:
    """The broker goes away while runs are at work and while bars close, and comes back; nobody else is started anew."""
    for host in cluster.hosts:
        cluster.start_worker(host, 1)
    settle(cluster)
    tick(cluster)
    close = next_close()
    wait_until(lambda: any(working_on(cluster, worker) for worker in cluster.workers), _TICK_SECONDS, "a run")
    cluster.broker.stop()
    gone = time.time()
    cluster.soak.say("the broker is gone")
    # A close in which nothing can be handed over.
    _await_close(close + M5.duration)
    time.sleep(max(0.0, away_seconds - (time.time() - gone)))
    cluster.broker.start()
    back = time.time()
    cluster.soak.say(f"the broker is back after {back - gone:.0f} s")
    settled = settle(cluster)
    done = runs(cluster, gone - 60)
    found = {
        "away_s": back - gone,
        "settled_after_s": settled,
        "outcomes": dict(done.group_by("status").len().sort("status").iter_rows()),
        "first_start_after_s": min(done.filter(pl.col("started") >= back)["started"], default=back) - back,
        "load": os.getloadavg()[0],
    }
    cluster.soak.say(f"restart: {found}")
    cluster.stop_workers()
    return found


def reload(cluster: Cluster) -> dict[str, Any]:
    """A signal switched on in the watchlist: the code location is reloaded, the worker is not started anew."""
    worker = cluster.start_worker(cluster.hosts[0], 2)
    settle(cluster)
    tick(cluster)
    path, before = Path(cluster.env["EMA_WATCHLIST"]), worker.pids()
    path.write_text(path.read_text().replace('"rsi", ', "").replace(', "rsi"', ""))
    cluster.soak.assets += ("rsi",)
    changed, began = time.monotonic(), time.time()
    answer = cluster.soak.graphql(
        """mutation { reloadRepositoryLocation(repositoryLocationName: "ema_assets.definitions") {
           __typename ... on WorkspaceLocationEntry { locationOrLoadError { __typename } } } }"""
    )["reloadRepositoryLocation"]
    settle(cluster)
    done = runs(cluster, began)
    found = {
        "answer": answer["__typename"],
        "settled_after_s": time.monotonic() - changed,
        "runs": done.height,
        "outcomes": sorted(set(done["status"])),
        "in_new_processes": len({pid_of(cluster, run_id) for run_id in done["run_id"]} - before),
    }
    cluster.soak.say(f"reload: {found}")
    cluster.stop_workers()
    return found
