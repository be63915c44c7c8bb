"""What the board costs: pages, charts and polls, over 1,000 symbols and six timeframes with every signal.

    python -m benchmarks.board [--symbols 1000] [--repeat 15] [--json]

Loads the symbols from the sandbox without Dagster, two days of 5m bars each, and one with 20 days, which has more than
5,000 bars. Then starts `ema-assets board` as a process of its own and asks it over HTTP, one request
after another. Wall time is what the client sees; a busy machine makes it longer, so the best one is given beside the
median, and the CPU time of the board's process. "After a change" means that the ledger of one series was changed before
each request, so that nothing is answered from memory.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil

from benchmarks.tick import tick_time
from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.model import clock
from ema_assets.model.timeframes import DEFAULT
from ema_assets.operations import refresh_performance
from ema_assets.operations.refresh_all import refresh_all
from ema_assets.refresh.clients import open_provider
from ema_assets.refresh.graph import configured
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.sandbox.server import running_sandbox
from ema_assets.store.database import Database
from ema_assets.store.migrations import migrate

_LONG = "LONG-USD"
_LONG_DAYS, _DAYS = 20, 2


@dataclass(frozen=True)
class Row:
    """One kind of request: how often, milliseconds of wall and of the board's CPU per request, bytes, and a limit."""

    what: str
    requests: int
    median_ms: float
    best_ms: float
    board_cpu_ms: float
    status: int
    bytes_raw: int
    bytes_gzip: int
    limit: str


def _watchlist(symbols: int) -> str:
    names = [f"S{number:05}" for number in range(symbols * 9 // 10)]
    pairs = [f"P{number:05}-USD" for number in range(symbols - len(names) - 1)]
    return (
        f'[history]\n"5m" = {_DAYS}\n"1d" = 300\n'
        f'[[group]]\nname = "Shares"\nsymbols = {json.dumps(names)}\n'
        f'[[group]]\nname = "Crypto"\ncalendar = "24/7"\nsymbols = {json.dumps([_LONG, *pairs])}\n'
    )


def _load(settings: Settings, database: Database, now: datetime) -> None:
    watched = watchlist.load(settings.watchlist_path)
    # The symbol with the long history comes first: the rest then leaves it as it is.
    lengths = {_LONG: _LONG_DAYS, None: _DAYS}
    for only, days in lengths.items():
        rules = FetchRules({**watched.history_days, DEFAULT[0]: days})
        chosen = watched.symbols if only is None else (only,)
        for _, _, outcome in refresh_all(
            database, watched, lambda name: open_provider(settings, name), rules, chosen, watched.with_bars,
            graph=configured(settings), clock=lambda: now,
        ):  # fmt: skip
            if outcome.errors:
                raise SystemExit(f"loading failed: {outcome.errors}")
    refresh_performance.refresh(database)
    with database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET recorded_at = computed_at")


@contextmanager
def _board(env: dict[str, str]) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    with subprocess.Popen(
        [sys.executable, "-m", "ema_assets", "board", "--port", "0"], env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().split()[2].rstrip(".")
            with httpx.Client(base_url=address, timeout=120) as client:
                yield client, psutil.Process(process.pid)
        finally:
            process.terminate()


class _Measured:
    """Asks a board, and keeps what that cost."""

    def __init__(self, client: httpx.Client, process: psutil.Process, change: Callable[[], None]) -> None:
        self.rows: list[Row] = []
        self._client = client
        self._process = process
        self._change = change

    def _cpu(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def ask(
        self,
        what: str,
        path: str,
        *,
        repeat: int,
        limit: str = "",
        polled: bool = False,
        changed: bool = True,
        pause: float = 0,
    ) -> None:
        packed = self._client.get(path)
        tag = {"If-None-Match": packed.headers["ETag"]} if polled else {}
        walls, cpu, answer = [], 0.0, packed
        for _ in range(repeat):
            if changed and not polled:
                self._change()
                # The board looks at the database again after a second.
                time.sleep(1.1)
            time.sleep(pause)
            spent, began = self._cpu(), time.perf_counter()
            answer = self._client.get(path, headers={"Accept-Encoding": "identity", **tag})
            walls.append((time.perf_counter() - began) * 1000)
            cpu += self._cpu() - spent
        gzip = int(packed.headers.get("Content-Length", 0)) if not polled else 0
        self.rows.append(
            Row(
                what,
                repeat,
                round(statistics.median(walls), 1),
                round(min(walls), 1),
                round(cpu / repeat * 1000, 1),
                answer.status_code,
                len(answer.content),
                gzip,
                limit,
            )
        )


def measure(symbols: int, repeat: int) -> list[Row]:
    """Everything, on a new embedded server."""
    now = tick_time()
    with tempfile.TemporaryDirectory(prefix="ema-board-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "watchlist.toml").write_text(_watchlist(symbols))
        instruments = watchlist.load(folder / "watchlist.toml").instruments
        with (
            EmbeddedServer(folder / "postgres") as server,
            running_sandbox(instruments, clock=lambda: now, requests_per_minute=1_000_000) as sandbox,
        ):
            kept = {key: value for key, value in os.environ.items() if not key.startswith(("EMA_", "APCA_"))}
            env = {
                **kept, "EMA_HOME": name, "EMA_WATCHLIST": str(folder / "watchlist.toml"),
                "EMA_DATABASE_URL": server.url, "EMA_PROVIDER": "sandbox", "EMA_SANDBOX_URL": sandbox.base_url,
            }  # fmt: skip
            migrate(server.url)
            with Database(server.url) as database:
                began = time.perf_counter()
                _load(Settings.from_env(env), database, now)
                print(f"loaded in {time.perf_counter() - began:.0f} s", file=sys.stderr)
                return _measured(database, env, repeat)


def _measured(database: Database, env: dict[str, str], repeat: int) -> list[Row]:
    with database.transaction() as transaction:
        transaction.execute("ANALYZE")

    def change() -> None:
        with database.transaction() as transaction:
            transaction.execute(
                "UPDATE market.series_state SET revision = revision + 1, updated_at = clock_timestamp() "
                "WHERE symbol = 'S00000' AND timeframe = '5m' AND asset = 'ema_trend'"
            )

    now = f"{tick_time():%Y-%m-%dT%H:%M:%SZ} x1 since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    with _board({**env, clock.VARIABLE: now}) as (client, process):
        began = time.perf_counter()
        client.get("/").raise_for_status()
        print(f"the very first page after its start: {(time.perf_counter() - began) * 1000:.0f} ms", file=sys.stderr)
        found = _Measured(client, process, change)
        chart = f"/api/chart?symbol={_LONG}&timeframe=5m"
        found.ask("first page, after a change", "/", repeat=repeat, limit="300 ms, 200 kB")
        found.ask("first page, nothing changed, whole", "/", repeat=repeat, changed=False)
        found.ask("heat map as JSON, after a change", "/api/heatmap", repeat=repeat)
        found.ask("chart of 5,000 bars", f"{chart}&bars=5000", repeat=repeat, changed=False, limit="200 ms")
        found.ask(
            "the same with rsi, bollinger and trades",
            f"{chart}&bars=5000&signals=rsi,bollinger&strategy=strategy_9_30_ema",
            repeat=repeat,
            changed=False,
        )
        found.ask("page of a chart", f"/chart?symbol={_LONG}&timeframe=5m", repeat=repeat, changed=False)
        polls = {"the first page": "/", "the chart": f"{chart}&bars=5000", "trust": "/api/trust"}
        for name, path in polls.items():
            found.ask(f"unchanged poll of {name}", path, repeat=5 * repeat, polled=True, limit="5 ms, no body")
            found.ask(f"the same, two seconds apart: {name}", path, repeat=repeat, polled=True, pause=2.0)
        found.ask("open trades", "/trades", repeat=repeat)
        found.ask("performance with the portfolio of all", "/performance", repeat=repeat)
        found.ask("freshness", "/freshness", repeat=repeat)
        found.ask("why", "/why?symbol=S00000&timeframe=5m", repeat=repeat)
        print(f"memory of the board: {process.memory_info().rss / 1024**2:.0f} MB", file=sys.stderr)
        return found.rows


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows = measure(asked.symbols, asked.repeat)
    if asked.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    print("| request | median ms | best ms | CPU ms | status | bytes | gzip | limit |")
    print("|---|---:|---:|---:|---:|---:|---:|---|")
    for row in rows:
        print(
            f"| {row.what} | {row.median_ms} | {row.best_ms} | {row.board_cpu_ms} | {row.status} | {row.bytes_raw:,} "
            f"| {row.bytes_gzip:,} | {row.limit} |"
        )


if __name__ == "__main__":
    main()
