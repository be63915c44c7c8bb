"""One 5m tick through all four assets, as a Dagster run really does it, beside the pipeline it replaces.

    python -m benchmarks.tick --symbols 100 1000 [--history-days 10] [--json]

Everything is real: an embedded PostgreSQL, the sandbox exchange on a socket, and for each size one process that
executes the `refresh` job with Dagster's storage in Postgres, as the run launcher does. Every series has one new bar.
The baseline is measured in the same run: a Dagster run a partition that recomputes everything (`benchmarks.naive`), a
few of them, one process each; its cost at a size is its mean times the number of symbols, as runs do not share work.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2

from ema_assets.domain.calendars import exchange_sessions
from ema_assets.settings import DAGSTER_EVENT_VARIABLES
from ema_assets.store.embedded import EmbeddedServer
from ema_assets.store.migrations import migrate

_DAGSTER_YAML = Path(__file__).parent.parent / "dagster.yaml"


@dataclass(frozen=True)
class Row:
    """What one tick of one size costs; `naive_cpu_s` is the baseline's for the same tick."""

    symbols: int
    history_days: int
    plan_ms: float
    in_run_s: float
    by_asset_s: dict[str, float]
    cpu_s: float
    events: int
    events_per_s: float
    sql_statements: int
    api_calls: int
    peak_mb: float
    naive_cpu_s: float
    naive_wall_s: float
    cpu_ratio: float


def tick_time() -> datetime:
    """A moment two hours into the last New York session that is over: every series has a bar that has just closed."""
    today = datetime.now(UTC).date()
    past = exchange_sessions("XNYS", today - timedelta(days=10), today - timedelta(days=1))
    opened = past["open"][-1]
    assert isinstance(opened, datetime)
    return opened + timedelta(hours=2, seconds=1)


def _watchlist(symbols: int, history_days: int) -> str:
    names = [f"S{number:05}" for number in range(symbols * 9 // 10)]
    pairs = [f"P{number:05}-USD" for number in range(symbols - len(names))]
    return (
        f'[history]\n"5m" = {history_days}\n"1d" = 30\n'
        f'[[group]]\ncalendar = "XNYS"\nsymbols = {json.dumps(names)}\n'
        f'[[group]]\ncalendar = "24/7"\nsymbols = {json.dumps(pairs)}\n'
    )


def _environment(folder: Path, database: str, sandbox: str | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EMA_", "APCA_", "DAGSTER_"))}
    return {
        **kept,
        **DAGSTER_EVENT_VARIABLES,
        "EMA_HOME": str(folder),
        "EMA_WATCHLIST": str(folder / "watchlist.toml"),
        "EMA_DATABASE_URL": database,
        "EMA_PROVIDER": "sandbox",
        "DAGSTER_HOME": str(folder),
        "PYTHONWARNINGS": "ignore",
        **({"EMA_SANDBOX_URL": sandbox} if sandbox else {}),
    }


def _call(module: str, given: dict[str, Any], env: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", module, json.dumps(given)], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{module} failed:\n{done.stderr[-4000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def _new_database(server: EmbeddedServer, name: str) -> str:
    connection = psycopg2.connect(server.url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    url = server.url.replace("/ema?", f"/{name}?")
    migrate(url)
    return url


def measure(symbols: int, history_days: int, naive_runs: int, say: Any) -> Row:
    """Load the history, run one tick, run the baseline."""
    moment = tick_time()
    with tempfile.TemporaryDirectory(prefix="ema-bench-") as name:
        folder = Path(name)
        (folder / "watchlist.toml").write_text(_watchlist(symbols, history_days), encoding="utf-8")
        (folder / "dagster.yaml").write_text(_DAGSTER_YAML.read_text(encoding="utf-8"), encoding="utf-8")
        with EmbeddedServer(folder / "postgres") as server:
            database = _new_database(server, "tick")
            exchange = subprocess.Popen(
                [sys.executable, "-m", "ema_assets", "sandbox", "--port", "0"],
                env=_environment(folder, database),
                stdout=subprocess.PIPE,
                text=True,
            )
            try:
                assert exchange.stdout is not None
                sandbox = next(word for word in exchange.stdout.readline().split() if word.startswith("http"))
                env = _environment(folder, database, sandbox)
                say(f"{symbols} symbols: loading {history_days} days of history …")
                _call("benchmarks.tick_run", {"now": (moment - timedelta(minutes=5)).isoformat(), "load": True}, env)
                say(f"{symbols} symbols: one tick …")
                tick = _call("benchmarks.tick_run", {"now": moment.isoformat(), "load": False}, env)
                say(f"{symbols} symbols: {naive_runs} runs of the baseline …")
                naive = [
                    _call(
                        "benchmarks.naive",
                        {
                            "symbol": f"S{number:05}",
                            "sandbox": sandbox,
                            "database": database,
                            "start": (moment - timedelta(days=history_days)).isoformat(),
                            "end": moment.isoformat(),
                        },
                        env,
                    )
                    for number in range(naive_runs)
                ]
            finally:
                exchange.terminate()
                exchange.wait(timeout=30)
    naive_cpu = sum(run["cpu_s"] for run in naive) / len(naive) * symbols
    return Row(
        symbols=symbols,
        history_days=history_days,
        **{key: tick[key] for key in ("plan_ms", "in_run_s", "by_asset_s", "cpu_s", "events", "events_per_s")},
        **{key: tick[key] for key in ("sql_statements", "api_calls", "peak_mb")},
        naive_cpu_s=round(naive_cpu, 1),
        naive_wall_s=round(sum(run["wall_s"] for run in naive) / len(naive) * symbols, 1),
        cpu_ratio=round(naive_cpu / tick["cpu_s"], 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tick", description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=int, nargs="+", default=[100, 1000], metavar="N", help="sizes to measure")
    parser.add_argument("--history-days", type=int, default=10, help="calendar days of 5m bars that are there already")
    parser.add_argument("--naive-runs", type=int, default=3, help="runs of the baseline to measure")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    given = parser.parse_args()

    def say(line: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)

    rows = [measure(size, given.history_days, given.naive_runs, say) for size in given.symbols]
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for row in rows:
        by_asset = ", ".join(f"{asset} {seconds:.2f}" for asset, seconds in row.by_asset_s.items())
        print(f"{row.symbols} symbols, {row.history_days} days of 5m history, one new bar each")
        print(f"  planning        {row.plan_ms:8.1f} ms")
        print(f"  in-run          {row.in_run_s:8.2f} s   ({by_asset})")
        print(f"  CPU             {row.cpu_s:8.2f} s   with the process's start")
        print(f"  events          {row.events:8}     {row.events_per_s:.0f} a second")
        print(f"  SQL statements  {row.sql_statements:8}")
        print(f"  API calls       {row.api_calls:8}")
        print(f"  peak memory     {row.peak_mb:8.0f} MB")
        print(f"  baseline        {row.naive_cpu_s:8.1f} s CPU, {row.naive_wall_s:.0f} s one after another")
        print(f"  ratio           {row.cpu_ratio:8.1f} x less CPU")


if __name__ == "__main__":
    main()
