"""A provider's budget over two hosts: the exchange counts the calls that arrive. Nothing else is tried here."""

import os
import time
from contextlib import ExitStack
from typing import Any

from benchmarks import cluster_trials
from benchmarks.cluster_market import Market
from benchmarks.cluster_stack import Cluster, centre, empty_queues, exchange_for, url_from_hosts
from benchmarks.tick import _new_database, _watchlist
from ema_assets.config import watchlist
from ema_assets.model import clock
from ema_assets.model.asset_names import CHAIN
from ema_assets.sandbox.app import create_app
from ema_assets.sandbox.server import RunningSandbox, serving

_OF_THE_SANDBOX = ("EMA_SANDBOX_URL", clock.VARIABLE)
_MINUTE = 60.0
_LOAD_SECONDS = 1500.0


class _Counted:
    """An app, and when each call for bars arrived."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.arrivals: list[float] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not scope["path"].startswith("/sandbox"):
            self.arrivals.append(time.monotonic())
        await self.app(scope, receive, send)


def measure(cluster: Cluster, symbols: int, per_minute: int) -> dict[str, Any]:
    """Load `symbols` from nothing in Yahoo's format, one symbol per call, by two workers of two processes each."""
    home = cluster.folder / "budget"
    home.mkdir()
    (home / "watchlist.toml").write_text(_watchlist(symbols, 2))
    watched = watchlist.load(home / "watchlist.toml")
    with ExitStack() as undo:
        # A vendor's client goes by the machine's time.
        os.environ.pop(clock.VARIABLE, None)
        app = create_app(watched.instruments, 930, clock=cluster_trials.machine_now, requests_per_minute=per_minute)
        counted = _Counted(app)
        base_url = undo.enter_context(serving(counted))
        exchange_for(cluster.hosts, base_url, undo)
        url = url_from_hosts(cluster.soak.server, _new_database(cluster.soak.server, "budget"))
        env = {name: value for name, value in cluster.env.items() if name not in _OF_THE_SANDBOX} | {
            "EMA_HOME": str(home),
            "DAGSTER_HOME": str(home / "dagster"),
            "EMA_WATCHLIST": str(home / "watchlist.toml"),
            "EMA_DATABASE_URL": url,
            "EMA_PROVIDER": "yahoo",
            "EMA_YAHOO_BASE_URL": base_url,
            "EMA_YAHOO_REQUESTS_PER_MINUTE": str(per_minute),
            "EMA_SERIES_PER_RUN": "15",
        }
        empty_queues(cluster.broker.url)
        soak = Market(cluster.soak.server, url, RunningSandbox(base_url, app.state.sandbox), "", watched.symbols, CHAIN)
        with centre(home, env) as soak.ui:
            mine = Cluster(soak, cluster.hosts, home, env, cluster.broker)
            undo.callback(mine.stop_workers)
            for host in mine.hosts:
                mine.start_worker(host, 2)
            seconds = cluster_trials.wait_until(
                lambda: cluster_trials.idle(mine), _LOAD_SECONDS, "loaded within the budget"
            )
            asked = {cluster_trials.pid_of(mine, run_id) for run_id in cluster_trials.runs(mine)["run_id"]}
            by_host = [len(asked & worker.pids()) for worker in mine.workers]
    arrivals, statuses = counted.arrivals, app.state.sandbox.stats.by_status
    return {
        "symbols": symbols,
        "allowed": per_minute,
        "calls": len(arrivals),
        "most_in_a_minute": max(sum(at <= other < at + _MINUTE for other in arrivals) for at in arrivals),
        "refused": sum(count for state, count in statuses.items() if str(state) == "429"),
        "processes_by_host": by_host,
        "seconds": seconds,
    }
