"""Days of ticks on one database, with the daily maintenance and without. Do its size and the time of a tick stay level?

    python -m benchmarks.growth --symbols 100 --days 30 [--retention-days 14] [--everything] [--json]

Real: an embedded PostgreSQL with its autovacuum, the sandbox exchange on a socket, every bar and everything computed
from it, the ticks that are timed (three per simulated day, each a run of the job `refresh`), and the daily run of the
job `maintenance`. Simulated: the other runs, one at each close of each timeframe, about 470 per day. They would take
half an hour per day, so they are copies of the rows that a real tick left in Dagster's tables, with the partitions and
times of their close. Left out: the ticks of schedules and sensors, which Dagster prunes itself (dagster.yaml). A day
lasts seconds here, so autovacuum looks every second, not every minute, and works without pauses.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks.tick import _DAGSTER_YAML, _environment, _new_database, _watchlist
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.runtime.postgres.server import EmbeddedServer

_HISTORY_DAYS = 5


def first_day(days: int) -> date:
    """The first of the `days` days up to yesterday, or the last trading day of New York before it."""
    wanted = datetime.now(UTC).date() - timedelta(days=days)
    traded = exchange_sessions("XNYS", wanted - timedelta(days=10), wanted)["session"][-1]
    assert isinstance(traded, date)
    return traded


def live(server: EmbeddedServer, folder: Path, name: str, given: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Run the days of one database; yield the figures of each day."""
    database = _new_database(server, name)
    exchange = subprocess.Popen(
        [sys.executable, "-m", "ema_assets", "sandbox", "--port", "0"],
        env=_environment(folder, database),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert exchange.stdout is not None
        sandbox = next(word for word in exchange.stdout.readline().split() if word.startswith("http"))
        with (
            (folder / f"{name}.log").open("w") as log,
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.growth_run", json.dumps(given)],
                env={**_environment(folder, database, sandbox), "EMA_RUN_RETENTION_DAYS": str(given["retention_days"])},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("{"):
                    yield json.loads(line)
        if process.returncode != 0:
            raise SystemExit(f"benchmarks.growth_run failed:\n{(folder / f'{name}.log').read_text()[-4000:]}")
    finally:
        exchange.terminate()
        exchange.wait(timeout=30)


def _let_autovacuum_keep_up(url: str) -> None:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for setting, value in (("autovacuum_naptime", "1s"), ("autovacuum_vacuum_cost_delay", "0")):
            cursor.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
        cursor.execute("SELECT pg_reload_conf()")
    connection.close()


_HEAD = (
    ("day", "day"),
    ("tick_s", "tick s"),
    ("cpu_s", "CPU s"),
    ("plan_ms", "plan ms"),
    ("status_ms", "status ms"),
    ("runs", "runs"),
    ("events", "events"),
    ("dagster_mb", "dagster MB"),
    ("market_mb", "market MB"),
    ("partitions", "partitions"),
    ("maintenance_s", "maintenance s"),
)


def _line(cells: list[str]) -> str:
    return "  ".join(cell.rjust(max(len(head), 10)) for cell, (_, head) in zip(cells, _HEAD, strict=True))


def _is_trading(row: dict[str, Any]) -> bool:
    day = date.fromisoformat(row["day"])
    return not exchange_sessions("XNYS", day, day).is_empty()


def _tick_median(rows: list[dict[str, Any]], key: str) -> float:
    return statistics.median([row[key] for row in rows if _is_trading(row)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=int, default=100, metavar="N")
    parser.add_argument("--days", type=int, default=30, metavar="D", help="how many days, up to yesterday")
    parser.add_argument("--retention-days", type=int, default=14, help="EMA_RUN_RETENTION_DAYS")
    parser.add_argument("--ticks", type=int, default=3, help="real ticks per day; their median is printed")
    parser.add_argument("--everything", action="store_true", help="with every signal and strategy, not the chain alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parsed = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"maintained": [], "not_maintained": []}
    for name, rows in found.items():
        with tempfile.TemporaryDirectory(prefix="ema-growth-") as temporary:
            folder = Path(temporary)
            (folder / "watchlist.toml").write_text(
                _watchlist(parsed.symbols, _HISTORY_DAYS, everything=parsed.everything), encoding="utf-8"
            )
            (folder / "dagster.yaml").write_text(_DAGSTER_YAML.read_text(encoding="utf-8"), encoding="utf-8")
            given = {
                "first": first_day(parsed.days).isoformat(),
                "days": parsed.days,
                "ticks": parsed.ticks,
                "maintain": name == "maintained",
                "retention_days": parsed.retention_days,
            }
            with EmbeddedServer(folder / "postgres") as server:
                _let_autovacuum_keep_up(server.url)
                if not parsed.json:
                    kept_for = f"runs kept for {parsed.retention_days} days"
                    print(f"\n{name.replace('_', ' ')}: {parsed.symbols} symbols, {kept_for}")
                    print(_line([head for _, head in _HEAD]))
                began = time.perf_counter()
                for row in live(server, folder, name, given):
                    rows.append(row)
                    if not parsed.json:
                        print(_line([str(row[key]) for key, _ in _HEAD]), flush=True)
                took = time.perf_counter() - began
            print(f"{name}: {len(rows)} days in {took:.0f} s", file=sys.stderr)
    if parsed.json:
        print(json.dumps(found, indent=2))
        return
    kept, piled = found["maintained"], found["not_maintained"]
    print("\nlast day without maintenance, as a multiple of the last day with it:")
    for key, head in _HEAD[4:8]:
        print(f"  {head:<12}{piled[-1][key] / kept[-1][key]:6.2f} x")
    week = min(7, len(kept))
    print("tick on a trading day, median of the last week over that of the first week:")
    for name, rows in found.items():
        wall, cpu = (_tick_median(rows[-week:], key) / _tick_median(rows[:week], key) for key in ("tick_s", "cpu_s"))
        print(f"  {name.replace('_', ' '):<16}{wall:6.2f} x   CPU {cpu:.2f} x")


if __name__ == "__main__":
    main()
