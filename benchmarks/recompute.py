"""A full recomputation: who bounds it, our processor time or PostgreSQL's?

    python -m benchmarks.recompute [--symbols 100] [--days 1825] [--json]

A database with so many days of 5m bars (nine tenths New York's, one tenth around the clock) is computed anew in one
process, without Dagster and without asking the exchange: averages, trend and trades. First as when a formula has
changed: the tables are empty and every row is written. Then as when a person asks for it: every row is computed,
compared with the stored one, and found equal. PostgreSQL is the embedded one, as `ema-assets up` starts it; its
processor time is that of all its processes.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.loading import load_history
from benchmarks.measure import megabytes
from benchmarks.tick import _watchlist, tick_time
from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.model.asset_names import CHAIN, OHLC
from ema_assets.operations.sync_watchlist import sync
from ema_assets.refresh.compute import refresh_computed
from ema_assets.refresh.graph import build
from ema_assets.refresh.warm_up import warm_up
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.sandbox.server import running_sandbox
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate


@dataclass(frozen=True, slots=True)
class Row:
    """What one way costs. Seconds of the processor are those of this process, and those of PostgreSQL's processes."""

    what: str
    bars: int
    rows_computed: int
    rows_written: int
    wall_s: float
    own_cpu_s: float
    postgres_cpu_s: float
    rows_per_s: int
    peak_mb: float
    load: float


def _postgres_cpu_s(postmaster: int) -> float:
    """Of the server and all its processes; those that have ended are counted by the one that started them."""
    spent = 0.0
    for process in [psutil.Process(postmaster), *psutil.Process(postmaster).children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent += times.user + times.system
        if process.pid == postmaster:
            spent += times.children_user + times.children_system
    return spent


class _Spent:
    wall_s = own_cpu_s = postgres_cpu_s = 0.0


@contextmanager
def _measured(server: EmbeddedServer) -> Iterator[_Spent]:
    assert server.pid is not None
    spent = _Spent()
    postgres, own, began = _postgres_cpu_s(server.pid), time.process_time(), time.perf_counter()
    yield spent
    spent.wall_s = time.perf_counter() - began
    spent.own_cpu_s = time.process_time() - own
    spent.postgres_cpu_s = _postgres_cpu_s(server.pid) - postgres


def _count(database: Database, asset: str) -> int:
    with database.transaction() as transaction:
        return int(transaction.query(f"SELECT count(*) AS n FROM market.{asset} WHERE timeframe = '5m'").item())


def _execute(database: Database, *statements: str) -> None:
    with database.transaction() as transaction:
        for statement in statements:
            transaction.execute(statement)


def _recompute(database: Database, watched: Watchlist, *, everything: bool) -> int:
    """Compute all series; return how many rows were written."""
    written = 0
    for node in build(watched).on:
        if node.name == OHLC:
            continue
        outcome = refresh_computed(
            database, node, watched.timeframes[0], watched.symbols, tick_time(), everything=everything
        )
        if outcome.errors:
            raise SystemExit(f"computing failed: {outcome.errors}")
        written += outcome.rows
    return written


def measure(symbols: int, days: int) -> list[Row]:
    """Load once, then compute everything in both ways."""
    found = []
    with tempfile.TemporaryDirectory(prefix="ema-bench-") as name:
        folder = Path(name)
        (folder / "watchlist.toml").write_text(_watchlist(symbols, days), encoding="utf-8")
        watched = watchlist.load(folder / "watchlist.toml")
        with EmbeddedServer(folder / "postgres") as server, running_sandbox(watched.instruments) as sandbox:
            migrate(server.url)
            env = {"EMA_HOME": name, "EMA_PROVIDER": "sandbox", "EMA_SANDBOX_URL": sandbox.base_url}
            warm_up()
            with Database(server.url) as database:
                _say(f"loading {days} days of {symbols} symbols …")
                load_history(database, Settings.from_env(env), watched, watched.timeframes[:1], tick_time())
                bars = _count(database, OHLC)
                _execute(database, "ANALYZE")
                computed = [asset for asset in CHAIN if asset != OHLC]
                rows = sum(_count(database, asset) for asset in computed)
                for what, everything in (("every row is written", False), ("every row is equal", True)):
                    _say(f"{bars:,} bars, {rows:,} rows: {what} …")
                    if not everything:
                        tables = ", ".join(f"market.{asset}" for asset in computed)
                        _execute(
                            database, f"TRUNCATE {tables}", f"DELETE FROM market.series_state WHERE asset <> '{OHLC}'"
                        )
                        sync(database, watched, tick_time(), build(watched))
                    load = os.getloadavg()[0]
                    with _measured(server) as spent:
                        written = _recompute(database, watched, everything=everything)
                    found.append(
                        Row(
                            what=what,
                            bars=bars,
                            rows_computed=rows,
                            rows_written=written,
                            wall_s=round(spent.wall_s, 1),
                            own_cpu_s=round(spent.own_cpu_s, 1),
                            postgres_cpu_s=round(spent.postgres_cpu_s, 1),
                            rows_per_s=round(rows / spent.wall_s),
                            peak_mb=round(megabytes(resource.getrusage(resource.RUSAGE_SELF)), 0),
                            load=round(load, 1),
                        )
                    )
    return found


def _say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recompute", description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--days", type=int, default=1825, help="days of 5m bars")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    given = parser.parse_args()
    rows = measure(given.symbols, given.days)
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    print(f"{rows[0].bars:,} bars of 5m, {rows[0].rows_computed:,} rows of averages, trends and trades")
    print(
        f"  {'':<22}{'written':>12}{'clock':>10}{'ours':>10}{'PostgreSQL':>12}{'rows/s':>10}{'peak MB':>9}{'load':>6}"
    )
    for row in rows:
        print(
            f"  {row.what:<22}{row.rows_written:>12,}{row.wall_s:>8.1f} s{row.own_cpu_s:>8.1f} s"
            f"{row.postgres_cpu_s:>10.1f} s{row.rows_per_s:>10,}{row.peak_mb:>9.0f}{row.load:>6.1f}"
        )


if __name__ == "__main__":
    main()
