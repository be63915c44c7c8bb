"""Two worker hosts on RabbitMQ or Redis: throughput, a host cut off, live beside slow work, budgets, faults.

    python -m benchmarks.cluster [--broker redis] [--symbols 1000]
        [--trials throughput cut lanes faults restart reload budget]

Two network namespaces, each with one link to a bridge, are the hosts; `ema-assets worker` runs in them. Everything else
runs beside them: an embedded PostgreSQL that listens on the bridge, the RabbitMQ of this machine (127.0.0.1:5672) or a
Redis, the sandbox exchange, code server, daemon and webserver, with deploy/celery/dagster.yaml as it is. The market's
time is virtual: a 5m bar closes every minute.

In the end the same symbols are loaded without Dagster into an empty database, and every table must be equal. The exit
code is 1 when a row differs, a series stays stale, or the exchange had to refuse a call.
"""

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import cluster_budget, cluster_trials
from benchmarks.chaos.comparison import load
from benchmarks.cluster_hosts import hosts
from benchmarks.cluster_market import Market, compare
from benchmarks.cluster_stack import (
    RABBITMQ,
    REDIS,
    Cluster,
    broker,
    centre,
    check_extra,
    empty_queues,
    environment,
    exchange_for,
    own_postgres,
    url_from_hosts,
)
from benchmarks.tick import _new_database, _watchlist
from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.model import clock
from ema_assets.model.asset_names import CHAIN
from ema_assets.sandbox.server import running_sandbox
from ema_assets.store.database import Database

# A Tuesday on which New York has been open for a while.
_START = datetime(2026, 11, 17, 15, 1, tzinfo=UTC)
_SPEED, _DAYS = 5.0, 3
# How long a host is cut off, and how long the broker is gone.
_AWAY_SECONDS, _BROKER_AWAY_SECONDS = 90.0, 45.0
_TRIALS = ("throughput", "cut", "lanes", "faults", "restart", "reload", "budget")


def run(kind: str, symbols: int, chosen: Sequence[str], given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All chosen trials on one cluster, and the comparison after them."""
    home = folder / "home"
    home.mkdir()
    (home / "watchlist.toml").write_text(_watchlist(symbols, _DAYS))
    watched = watchlist.load(home / "watchlist.toml")
    found: dict[str, Any] = {"broker": kind, "symbols": symbols, "cores": os.cpu_count()}
    with ExitStack() as undo:
        two = undo.enter_context(hosts(2))
        server = undo.enter_context(own_postgres(folder / "server"))
        url = url_from_hosts(server, _new_database(server, "cluster"))
        messages = undo.enter_context(broker(kind, folder))
        empty_queues(messages.url, and_delete=True)
        undo.callback(lambda: empty_queues(messages.url, and_delete=True))
        os.environ[clock.VARIABLE] = str(clock.Clock(_START, 1.0, None, datetime.now(UTC)))
        sandbox = undo.enter_context(running_sandbox(watched.instruments, given.seed, clock=clock.now))
        exchange_for(two, sandbox.base_url, undo)
        env = environment(home, url, messages.url, EMA_PROVIDER="sandbox", EMA_SANDBOX_URL=sandbox.base_url)
        env["EMA_SERIES_PER_RUN"] = str(given.series_per_run)
        settings = Settings.from_env(env)
        soak = Market(server, url, sandbox, "", watched.symbols, CHAIN, loading_at=_START)
        began = time.monotonic()
        with Database(url) as database:
            load(database, settings, watched, _START)
            with database.transaction() as transaction:
                # As told to Dagster: to tell it of every series would take runs before the first tick.
                transaction.execute("UPDATE market.series_state SET recorded_at = computed_at")
        soak.say(f"{symbols} symbols loaded without Dagster in {time.monotonic() - began:.0f} s")
        env[clock.VARIABLE] = os.environ[clock.VARIABLE] = str(
            clock.Clock(_START + timedelta(minutes=3), _SPEED, None, datetime.now(UTC))
        )
        with centre(folder, env) as soak.ui:
            cluster = Cluster(soak, two, folder, env, messages)
            undo.callback(cluster.stop_workers)
            soak.say("code server, webserver and daemon are up")
            try_all(cluster, chosen, given, found)
        if set(chosen) - {"budget"}:
            soak.say("comparing with all of it loaded at once …")
            found["comparison"] = compare(soak, settings)
        if "budget" in chosen:
            found["budget"] = cluster_budget.measure(cluster, given.budget_symbols, given.calls_per_minute)
        found["events"] = soak.events
    return found


def try_all(cluster: Cluster, chosen: Sequence[str], given: argparse.Namespace, found: dict[str, Any]) -> None:
    """The trials that are followed by the comparison; their figures go into `found`."""
    if "throughput" in chosen:
        found["throughput"] = [
            row for number in given.workers for row in cluster_trials.throughput(cluster, number, given.ticks)
        ]
    if "faults" in chosen:
        found["faults"] = cluster_trials.faults(cluster)
    if "lanes" in chosen:
        found["lanes"] = cluster_trials.lanes(cluster, given.ticks)
    if "cut" in chosen:
        found["cut"] = cluster_trials.cut_off(cluster, _AWAY_SECONDS)
        cluster.stop_workers()
    if "restart" in chosen:
        found["restart"] = cluster_trials.restart(cluster, _BROKER_AWAY_SECONDS)
    if "reload" in chosen:
        found["reload"] = cluster_trials.reload(cluster)
    if set(chosen) - {"budget"}:
        cluster.start_worker(cluster.hosts[0], 2)
        cluster_trials.settle(cluster)
        cluster.stop_workers()


def report(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    print(f"{found['broker']}, {found['symbols']} symbols, two hosts, {found['cores']} cores")
    for name in ("throughput", "lanes"):
        for row in found.get(name, ()):
            print(f"  {name}: " + ", ".join(f"{key} {_shown(value)}" for key, value in row.items()))
    for name in ("cut", "faults", "restart", "reload", "budget"):
        for key, value in found.get(name, {}).items():
            print(f"  {name}: {key} {_shown(value)}")
    if "comparison" in found:
        ended = found["comparison"]
        print(
            f"  {ended['rows_compared']} rows compared, {len(ended['different'])} series differ, {ended['stale']} stale"
        )
        for line in ended["different"][:20]:
            print(f"    {line}")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, list):
        return ", ".join(_shown(each) for each in value) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{key} {_shown(each)}" for key, each in value.items())
    return str(value)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--broker", choices=(RABBITMQ, REDIS), default=RABBITMQ)
    parser.add_argument("--symbols", type=int, default=1000)
    parser.add_argument("--series-per-run", type=int, default=100)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="processes, spread over both hosts")
    parser.add_argument("--ticks", type=int, default=2, help="ticks that count, of each kind")
    parser.add_argument("--trials", nargs="+", choices=_TRIALS, default=list(_TRIALS))
    parser.add_argument("--budget-symbols", type=int, default=60)
    parser.add_argument("--calls-per-minute", type=int, default=60)
    parser.add_argument("--seed", type=int, default=930)
    parser.add_argument("--folder", type=Path, help="a new folder that is kept, with all logs")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    check_extra()
    # End as with Ctrl-C, so that everything that was started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ema-cluster-") as name:
        folder = given.folder or Path(name)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        found = run(given.broker, given.symbols, given.trials, given, folder)
    if given.json:
        print(json.dumps(found, indent=2, default=str))
    else:
        report(found)
    ended, budgeted = found.get("comparison", {}), found.get("budget", {})
    if ended.get("different") or ended.get("stale") or ended.get("failed_again") or budgeted.get("refused"):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
