"""Hours of a fast virtual market under a real `ema-assets up`, with faults, and a comparison at the end.

    python -m benchmarks.soak --minutes 60 [--symbols 20] [--speed 60] [--seed 930] [--sweep-seconds 5] [--kills 1]

Real: `ema-assets up` (`dagster dev` with webserver, daemon, code server and one process per run) on its own PostgreSQL,
the sandbox exchange on a socket, GraphQL. Virtual: the time of the market (EMA_CLOCK). At 60 times the speed, a 5m bar
closes every 5 s. Schedules fire by the machine's clock, so the sweep launches most runs.

The exchange corrects bars all the time. At 30 % of the time the worker of a run is killed; with `--kills 20`, twenty at
random moments. At 40 % a person launches a backfill of everything, as the UI does. At 70 % PostgreSQL is killed (an
immediate stop, as in a crash) and started again. Then the market slows down to the pace of the machine, and when
nothing is stale any more, everything is stopped.
The same symbols are loaded from the exchange into an empty database without Dagster, and every table of every series
must be equal, column by column. The exit code is 1 when a row differs or a series stays stale.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.tick import _new_database, _watchlist
from ema_assets.config import watchlist
from ema_assets.config.settings import Settings
from ema_assets.model import clock
from ema_assets.model.asset_names import OHLC
from ema_assets.model.errors import EmaAssetsError
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.refresh_all import refresh_all
from ema_assets.refresh.clients import open_provider
from ema_assets.refresh.graph import build
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.reports import status
from ema_assets.runtime.postgres.server import EmbeddedServer
from ema_assets.runtime.services import free_port
from ema_assets.sandbox.faults import CorrectedBar
from ema_assets.sandbox.server import RunningSandbox, running_sandbox
from ema_assets.store.database import Database
from ema_assets_tests.timeframes import M5, ORDER

# A Tuesday on which New York is about to open.
_START = datetime(2026, 11, 17, 14, 0, tzinfo=UTC)
_KILL_AT, _BACKFILL_AT, _RESTART_AT = 0.3, 0.4, 0.7
_KILLS_BETWEEN = 0.05, 0.95
_CORRECT_SECONDS = 10.0
# The last 5m bar of a day in New York, of a day with an early close, and of a pair: hour and minute, UTC, in winter.
_LAST_BARS = {(20, 55), (17, 55), (23, 55)}
_LOAD_SECONDS, _SETTLE_SECONDS, _AWAY_SECONDS = 600.0, 900.0, 120.0
# The fast time ends this long after the close of a bar.
_AFTER_CLOSE = timedelta(seconds=10)
_NOT_COMPARED = {OHLC: {"stored_at"}}
# Everything that is on by default.
GRAPH = build(watchlist.Watchlist((), {}))
ASSETS = tuple(node.name for node in GRAPH.on)


@dataclass(slots=True)
class Correction:
    """A bar that the exchange changed after its close."""

    number: int
    symbol: str
    ts: datetime
    close: float


@dataclass(slots=True)
class Soak:
    """One soak: what is running, and what has happened so far."""

    server: EmbeddedServer
    url: str
    sandbox: RunningSandbox
    ui: str
    symbols: tuple[str, ...]
    assets: tuple[str, ...] = ASSETS
    started: float = field(default_factory=time.monotonic)
    corrections: list[Correction] = field(default_factory=list)
    withdrawn: int = 0
    skipped: int = 0
    events: list[str] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    backfill: str | None = None
    backfill_span: list[datetime] = field(default_factory=list)
    disturbed: list[tuple[datetime, datetime]] = field(default_factory=list)
    loading_at: datetime = field(default_factory=clock.now)

    def say(self, line: str) -> None:
        """Print an event on stderr, and keep it for the report."""
        stamp = f"{time.monotonic() - self.started:7.1f} s  {clock.now():%a %H:%M}  {line}"
        self.events.append(stamp)
        print(stamp, file=sys.stderr, flush=True)

    def sql(self, statement: str, *parameters: Any) -> pl.DataFrame:
        with Database(self.url) as database, database.transaction() as transaction:
            return transaction.query(statement, *parameters)

    def graphql(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(  # noqa: S310 - our own http://127.0.0.1 URL
            f"{self.ui}/graphql", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            raise OSError(f"GraphQL: {error.read()[:500].decode()}") from error
        if "errors" in found:
            raise RuntimeError(f"GraphQL: {found['errors']}")
        return found["data"]

    def runs(self) -> pl.DataFrame:
        """All runs: run_id, status, name, kind, created, started, ended (seconds since 1970)."""
        return self.sql(
            """
            SELECT r.run_id, r.status, r.pipeline_name AS name,
                   extract(epoch FROM r.create_timestamp)::float8 AS created, r.start_time, r.end_time,
                   CASE WHEN r.backfill_id IS NOT NULL THEN 'backfill'
                        ELSE coalesce(tf.value || CASE WHEN h.value IS NULL THEN '' ELSE ' history' END, 'other')
                   END AS kind
            FROM dagster.runs r
            LEFT JOIN dagster.run_tags tf ON tf.run_id = r.run_id AND tf.key = 'ema_assets/timeframe'
            LEFT JOIN dagster.run_tags h ON h.run_id = r.run_id AND h.key = 'ema_assets/history'
            ORDER BY r.id
            """
        )

    def unfinished(self) -> int:
        return self.runs().filter(~pl.col("status").is_in(["SUCCESS", "FAILURE", "CANCELED"])).height

    def stale(self, now: datetime) -> int:
        """How many series of all assets are stale, failing, or never computed."""
        with Database(self.url) as database, database.transaction() as transaction:
            rows = status.by_asset(transaction, now)
        full = len(self.assets) * len(ORDER)
        return sum(row.stale + row.failing + row.missing for row in rows) + (full - len(rows))

    def correct_a_bar(self) -> None:
        """Let the exchange change the newest stored bar of the next symbol, within its high and low."""
        symbol = self.symbols[(len(self.corrections) + self.withdrawn + self.skipped) % len(self.symbols)]
        found = self.sql(
            "SELECT ts, high, low, close FROM market.ohlc_5m WHERE symbol = $1 ORDER BY ts DESC LIMIT 1", symbol
        )
        if found.is_empty():
            return
        ts, high, low, close = found.row(0)
        if (ts.hour, ts.minute) in _LAST_BARS:
            # When nobody requests the 5m bar again the correction is withdrawn, but the 1d bar would still contain it.
            self.skipped += 1
            return
        changed = round(low + (high - low) * 0.3, 4)
        if low <= changed <= high and changed != close:
            spelt = symbol.replace("-", "/")
            number = self.sandbox.handle.faults.add(CorrectedBar(symbols=[spelt], ts=ts, close=changed))
            self.corrections.append(Correction(number, symbol, ts, changed))

    def withdraw_unseen(self) -> None:
        """Withdraw corrections that came too late: the bar was not requested again, so nobody can know them."""
        for each in list(self.corrections):
            found = self.sql("SELECT close FROM market.ohlc_5m WHERE symbol = $1 AND ts = $2", each.symbol, each.ts)
            if found.item() != each.close:
                self.sandbox.handle.faults.clear(each.number)
                self.corrections.remove(each)
                self.withdrawn += 1

    def launch_backfill(self) -> None:
        """Select every partition of all assets in the UI, and launch."""
        keys = [f"{symbol}|{timeframe.key}" for symbol in self.symbols for timeframe in ORDER]
        launched = self.graphql(
            """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
                 __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
            p={"assetSelection": [{"path": [asset]} for asset in self.assets], "partitionNames": keys},
        )["launchPartitionBackfill"]
        self.backfill = launched["backfillId"]
        self.backfill_span = [datetime.now(UTC)]
        self.say(f"backfill of {len(keys)} partitions of {len(self.assets)} assets launched")

    def backfill_status(self) -> str:
        found = self.graphql(
            "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }",
            id=self.backfill,
        )
        return str(found["partitionBackfillOrError"]["status"])

    def watch_backfill(self) -> None:
        """Note when the backfill has ended."""
        if self.backfill is None or len(self.backfill_span) == 2:
            return
        found = self.backfill_status()
        if found not in ("REQUESTED", "CANCELING", "FAILING"):
            self.backfill_span.append(datetime.now(UTC))
            self.say(f"backfill ended: {found}")

    def kill_a_worker(self) -> bool:
        """Send SIGKILL to the process of a running run; False when none is running."""
        running = self.runs().filter(pl.col("status") == "STARTED")
        for run_id, kind in running.select("run_id", "kind").iter_rows():
            said = self.sql("SELECT event FROM dagster.event_logs WHERE run_id = $1 AND event LIKE '%(pid: %'", run_id)[
                "event"
            ]
            for text in said:
                if match := re.search(r"\(pid: (\d+)\)", text):
                    with suppress(ProcessLookupError):
                        os.kill(int(match[1]), signal.SIGKILL)
                        self.disturbed.append((datetime.now(UTC), datetime.now(UTC) + timedelta(seconds=60)))
                        self.say(f"worker of a run of {kind} killed (pid {match[1]})")
                        return True
        return False

    def restart_postgres(self) -> None:
        """Kill the server as a crash would, and start it again."""
        began, pid = datetime.now(UTC), self.server.pid
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        while self.server.is_running():
            time.sleep(0.1)
        time.sleep(2)
        self.server.start()
        self.disturbed.append((began, datetime.now(UTC) + timedelta(seconds=60)))
        self.say(f"PostgreSQL was away for {(datetime.now(UTC) - began).total_seconds():.1f} s")


@contextmanager
def _up(folder: Path, port: int, env: dict[str, str]) -> Iterator[str]:
    with (folder / "up.out").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ema_assets", "up", "--port", str(port)],
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(lambda: "Dagster UI" in (folder / "up.out").read_text() or process.poll() is not None, 180, "up")
        if process.poll() is not None:
            raise SystemExit((folder / "up.out").read_text())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=120)


def _wait(is_true: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds:g} s: {what}")
        time.sleep(1)


def live(soak: Soak, minutes: float, kill_at: Sequence[float]) -> None:
    """Wait for the history, then cause the faults while time passes, until the fast time is over.

    At each share of the time in `kill_at` a worker is killed.
    """
    _wait(lambda: soak.stale(clock.now()) <= 4 * len(soak.symbols), _LOAD_SECONDS, "history loaded")
    soak.say("history loaded")
    began, seconds = time.monotonic(), minutes * 60
    todo: list[tuple[float, Callable[[], object]]] = [
        *((share, soak.kill_a_worker) for share in kill_at),
        (_BACKFILL_AT, soak.launch_backfill),
        (_RESTART_AT, soak.restart_postgres),
    ]
    todo.sort(key=lambda each: each[0])
    next_correction = well_at = 0.0
    while (passed := time.monotonic() - began) < seconds:
        try:
            if todo and passed >= todo[0][0] * seconds and todo[0][1]() is not False:
                todo.pop(0)
            if passed >= next_correction:
                soak.correct_a_bar()
                next_correction = passed + _CORRECT_SECONDS
            soak.watch_backfill()
            well_at = passed
        except (EmaAssetsError, OSError):
            # The database and the UI may be away for a while during the restart.
            if passed - well_at > _AWAY_SECONDS:
                raise
        soak.loads.append(os.getloadavg()[0])
        time.sleep(1)
    soak.say(f"{len(soak.corrections)} bars were corrected")


def settle(soak: Soak) -> bool:
    """Wait until nothing is stale and nothing runs; False when that does not happen in time."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < deadline:
        with suppress(EmaAssetsError, OSError):
            soak.watch_backfill()
            now = clock.now()
            until_close = M5.duration - timedelta(seconds=now.timestamp() % M5.duration.total_seconds())
            has_room = until_close > timedelta(seconds=20)
            if has_room and len(soak.backfill_span) != 1 and not soak.unfinished() and not soak.stale(now):
                soak.say("nothing is stale, nothing runs")
                return True
        time.sleep(2)
    soak.say(f"still stale or running: {soak.stale(clock.now())} series, {soak.unfinished()} runs")
    return False


def _load(
    database: Database, settings: Settings, watched: watchlist.Watchlist, symbols: Sequence[str], now: datetime
) -> int:
    """Bring a database up to date at `now` without Dagster; how many series failed."""
    outcomes = refresh_all(
        database,
        watched,
        lambda name: open_provider(settings, name),
        FetchRules.of(settings, watched),
        symbols,
        list(ORDER),
        clock=lambda: now,
    )
    return sum(len(outcome.errors) for _, _, outcome in outcomes)


def compare(soak: Soak, settings: Settings) -> dict[str, Any]:
    """Load everything anew into an empty database, and compare all tables of all series."""
    asked = soak.sql(
        "SELECT max(checked_through) AS now FROM market.series_state WHERE asset = $1 AND timeframe = $2",
        OHLC,
        M5.key,
    )
    now = asked.item() + timedelta(seconds=1)
    left = soak.stale(now)
    watched = watchlist.load(settings.watchlist_path)
    url = _new_database(soak.server, "again")
    failed = 0
    with Database(url) as database:
        # How far back long history reaches follows from the day on which it was loaded.
        for moment in (soak.loading_at, now):
            failed += _load(database, settings, watched, soak.symbols, moment)
    rows = 0
    different: list[str] = []
    with Database(url) as database, Database(soak.url) as lived:
        for asset in soak.assets:
            for timeframe in ORDER:
                one, other = (_rows(each, asset, timeframe) for each in (lived, database))
                rows += one.height
                for symbol in soak.symbols:
                    mine, again = (frame.filter(pl.col("symbol") == symbol) for frame in (one, other))
                    if not mine.equals(again):
                        different.append(f"{asset} {symbol}|{timeframe.key}: {_first_difference(mine, again)}")
    return {"rows_compared": rows, "different": different, "stale": left, "failed_again": failed}


def _rows(database: Database, asset: str, timeframe: Timeframe) -> pl.DataFrame:
    order = GRAPH.nodes[asset].table.time
    with database.transaction() as transaction:
        found = transaction.query(f"SELECT * FROM market.{asset}_{timeframe.key} ORDER BY symbol, {order}")
        names = transaction.query("SELECT id AS source_id, name AS source FROM market.source")
    if "source_id" in found.columns:
        # Each database numbers the sources as they come.
        found = found.join(names, on="source_id", how="left", maintain_order="left").drop("source_id")
    return found.drop(_NOT_COMPARED.get(asset, set()))


def _first_difference(mine: pl.DataFrame, again: pl.DataFrame) -> str:
    for number, (one, other) in enumerate(zip(mine.iter_rows(), again.iter_rows(), strict=False)):
        if one != other:
            return f"row {number} of {mine.height} and {again.height}: {one} and {other}"
    return f"{mine.height} and {again.height} rows"


def latency(soak: Soak) -> list[dict[str, Any]]:
    """Seconds of the machine from close to strategy row: p50 and p99, during the backfill and outside of it.

    `newest` counts as `status` does: the newest bar of each run, each series once. `every` counts every close of a pair
    that trades around the clock, until a run has taken it to the end of the chain, alone or with later closes.
    """
    rows = soak.sql("SELECT timeframe, closed_at, series, seconds, committed_at FROM market.close_latency ORDER BY 5")
    found = []
    for timeframe in ORDER:
        mine = rows.filter(pl.col("timeframe") == timeframe.key)
        if mine.is_empty():
            continue
        closes = mine.group_by("closed_at").agg(pl.col("committed_at").min()).sort("closed_at")
        step = f"{timeframe.minutes}m"
        every = pl.select(
            closed_at=pl.datetime_range(closes["closed_at"][0], closes["closed_at"][-1], step, time_unit="us")
        ).join_asof(
            closes.rename({"closed_at": "reached"}), left_on="closed_at", right_on="reached", strategy="forward"
        )
        every = every.with_columns(
            instant=pl.col("closed_at").map_elements(clock.instant_of, pl.Datetime("us", "UTC"))
        ).with_columns(seconds=(pl.col("committed_at") - pl.col("instant")).dt.total_milliseconds() / 1000)
        low, high = soak.backfill_span[0], soak.backfill_span[-1]
        for label, when in (
            ("during", pl.col("committed_at").is_between(low, high)),
            ("outside", ~pl.col("committed_at").is_between(low, high)),
        ):
            newest = mine.filter(when)
            each = newest.select(pl.col("seconds").repeat_by("series").explode())["seconds"]
            alone = every.filter(when)["seconds"]
            found.append(
                {
                    "timeframe": timeframe.key,
                    "backfill": label,
                    "runs": newest.height,
                    "newest_p50": each.quantile(0.5, "higher"),
                    "newest_p99": each.quantile(0.99, "higher"),
                    "closes": alone.len(),
                    "every_p50": alone.quantile(0.5, "higher"),
                    "every_p99": alone.quantile(0.99, "higher"),
                }
            )
    return found


def history(soak: Soak) -> dict[str, Any]:
    """Runs by kind and status, the errors of those that failed, and the ticks of schedules and sensors."""
    runs = soak.runs()
    counted = Counter((kind, status) for kind, status in runs.select("kind", "status").iter_rows())
    failed = []
    for run_id, kind, ended in (
        runs.filter(pl.col("status") != "SUCCESS").select("run_id", "kind", "end_time").iter_rows()
    ):
        moment = datetime.fromtimestamp(ended or 0, UTC)
        said = soak.sql(
            """SELECT event FROM dagster.event_logs WHERE run_id = $1
               AND dagster_event_type IN ('STEP_FAILURE', 'PIPELINE_FAILURE') ORDER BY id LIMIT 1""",
            run_id,
        )["event"]
        why = re.findall(r'"message": "([^"]{1,200})', said.item())[:2] if said.len() else []
        expected = any(low <= moment <= high for low, high in soak.disturbed)
        failed.append({"run": run_id, "kind": kind, "ended": f"{moment:%H:%M:%S}", "disturbed": expected, "says": why})
    ticks = soak.sql(
        """SELECT j.type || ' ' || t.status AS what, count(*) AS n FROM dagster.job_ticks t
           JOIN (SELECT selector_id, max(instigator_type) AS type FROM dagster.instigators GROUP BY 1) j
           USING (selector_id) GROUP BY 1 ORDER BY 1"""
    )
    return {
        "runs": {f"{kind} {status}": n for (kind, status), n in sorted(counted.items())},
        "not_successful": failed,
        "ticks": dict(ticks.iter_rows()),
    }


def soak_for(
    minutes: float, symbols: int, speed: float, seed: int, sweep_seconds: int, kills: int, folder: Path
) -> dict[str, Any]:
    """Run the whole soak; return its figures."""
    # One worker is killed at a known moment, several at random ones.
    moments = random.Random(seed)  # noqa: S311 - moments of faults, not secrets
    kill_at = [_KILL_AT] if kills == 1 else [moments.uniform(*_KILLS_BETWEEN) for _ in range(kills)]
    home = folder / "home"
    home.mkdir(parents=True)
    (home / "watchlist.toml").write_text(_watchlist(symbols, 10, everything=True))
    watched = watchlist.load(home / "watchlist.toml")
    with EmbeddedServer(folder / "server") as server:
        url = _new_database(server, "soak")
        # Loading takes a while before the minutes begin. The fast time ends shortly after the close of a bar.
        load_minutes = 1 + symbols / 50
        fast = timedelta(minutes=(minutes + load_minutes) * speed)
        until = _START + fast - fast % M5.duration + _AFTER_CLOSE
        virtual = clock.Clock(_START, speed, until, datetime.now(UTC))
        os.environ[clock.VARIABLE] = str(virtual)
        with running_sandbox(watched.instruments, seed, clock=clock.now) as sandbox:
            kept = {k: v for k, v in os.environ.items() if not k.startswith(("EMA_", "APCA_", "DAGSTER_", "PG"))}
            env = {
                **kept,
                "EMA_HOME": str(home),
                "EMA_DATABASE_URL": url,
                "EMA_PROVIDER": "sandbox",
                "EMA_SANDBOX_URL": sandbox.base_url,
                "EMA_SWEEP_SECONDS": str(sweep_seconds),
                clock.VARIABLE: str(virtual),
            }
            with _up(folder, port := free_port(), env) as ui:
                soak = Soak(server, url, sandbox, ui, watched.symbols)
                soak.say(f"up on port {port}; {symbols} symbols, a 5m bar every {300 / speed:g} s")
                live(soak, minutes, kill_at)
                while clock.now() < until:
                    time.sleep(1)
                soak.say("the market now runs at the pace of the machine")
                is_settled = settle(soak)
            soak.withdraw_unseen()
            if soak.withdrawn:
                soak.say(f"{soak.withdrawn} corrections came too late to be requested, and are withdrawn")
            found = compare(soak, Settings.from_env(env))
            return {
                "minutes": minutes,
                "symbols": symbols,
                "speed": speed,
                "settled": is_settled,
                "load": sum(soak.loads) / len(soak.loads),
                "corrections": len(soak.corrections),
                "corrections_withdrawn": soak.withdrawn,
                "backfill_s": (soak.backfill_span[-1] - soak.backfill_span[0]).total_seconds(),
                "events": soak.events,
                **history(soak),
                "latency": latency(soak),
                **found,
            }


def report(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    print(f"load {found['load']:.1f} on {os.cpu_count()} cores; the backfill took {found['backfill_s']:.0f} s")
    for name in ("runs", "ticks"):
        print(f"{name}: " + ", ".join(f"{count} {what}" for what, count in found[name].items()))
    for run in found["not_successful"]:
        print(f"  {run}")
    print("seconds from close to strategy row, p50 / p99: of the newest bar of each run; of every bar of the pairs")
    for row in found["latency"]:
        newest, every = (
            " / ".join("   -  " if row[f"{kind}_{p}"] is None else f"{row[f'{kind}_{p}']:6.1f}" for p in ("p50", "p99"))
            for kind in ("newest", "every")
        )
        print(
            f"  {row['timeframe']:>3} {row['backfill']:7}  {newest}  ({row['runs']} runs);  "
            f"{every}  ({row['closes']} closes)"
        )
    print(
        f"{found['rows_compared']} rows compared; {found['stale']} series stale; "
        f"{len(found['different'])} series differ; {found['corrections']} bars were corrected"
    )
    for line in found["different"][:20]:
        print(f"  {line}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="A fast virtual market under a real Dagster, with faults, and a comparison at the end."
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--symbols", type=int, default=20)
    parser.add_argument("--speed", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=930)
    parser.add_argument("--sweep-seconds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=1, help="How many workers of runs are killed.")
    parser.add_argument(
        "--folder", type=Path, help="A new folder that is kept, with all logs. [default: a temporary one]"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    # End as with Ctrl-C, so that everything that was started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ema-soak-") as name:
        found = soak_for(
            given.minutes,
            given.symbols,
            given.speed,
            given.seed,
            given.sweep_seconds,
            given.kills,
            given.folder or Path(name),
        )
    if given.json:
        print(json.dumps(found, indent=2, default=str))
    else:
        report(found)
    if not found["settled"] or found["stale"] or found["different"] or found["failed_again"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
