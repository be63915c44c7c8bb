"""A real `ema-assets up` in a virtual market: started, watched, asked. What goes wrong in it is in `faults`.

Real: `up` with its own PostgreSQL, webserver, daemon, code server and standby processes; the exchange on a socket. It
runs in this process and so goes by a clock that no fault touches. Virtual: the time of the market (EMA_CLOCK).
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from ema_assets.config.watchlist import Watchlist
from ema_assets.model import clock
from ema_assets.model.errors import EmaAssetsError
from ema_assets.refresh.graph import build
from ema_assets.refresh.plan import closed_bars
from ema_assets.runtime.postgres.server import EmbeddedServer, read_running
from ema_assets.sandbox.faults import AnyFault
from ema_assets.sandbox.server import RunningSandbox
from ema_assets.store import ledger
from ema_assets.store.database import Database
from ema_assets_tests.timeframes import ORDER

# Everything that is on by default.
GRAPH = build(Watchlist((), {}))
ASSETS = tuple(node.name for node in GRAPH.on)
ENDED = ("SUCCESS", "FAILURE", "CANCELED")
UP_SECONDS = 240.0
# run_id, status, name, kind, created, started, ended (seconds since 1970) of all runs.
RUNS = """
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
WEBSERVER, DAEMON = "ema_assets.defs.webserver", "dagster._daemon"
CODE_SERVER, STANDBY = "dagster api grpc", "ema_assets.defs.standby.worker"


class Up:
    """One `ema-assets up` on `home`."""

    def __init__(self, home: Path, port: int, env: Mapping[str, str]) -> None:
        self.home = home
        self.port = port
        self.env = dict(env)
        self.output = home.parent / f"{home.name}.out"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its UI is."""
        return f"http://127.0.0.1:{self.port}"

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        with self.output.open("ab") as output:
            self._said = output.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ema_assets", "up", "--port", str(self.port), "--no-board"],
                env=self.env,
                cwd=self.home.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start it, and wait until its UI answers."""
        self.launch()
        wait_for(lambda: "Dagster UI" in self.said() or not self.is_running(), UP_SECONDS, "up")
        if not self.is_running():
            raise SystemExit(self.said())

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def said(self) -> str:
        """What it has said since its last start."""
        return self.output.read_bytes()[self._said :].decode(errors="replace")

    def stop(self) -> None:
        if self.process is not None and self.is_running():
            self.process.terminate()
            self.process.wait(timeout=120)

    def pids(self, words: str) -> list[int]:
        """Its processes whose command line holds `words`, the oldest first."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if words in command and f"EMA_HOME={self.home}\0".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return sorted(found)


@dataclass(slots=True)
class World:
    """What is running, and what has happened so far."""

    up: Up
    sandbox: RunningSandbox
    watched: Watchlist
    folder: Path
    again: EmbeddedServer  # holds the databases that everything is computed into once more
    speed: float
    steps_clock: Path | None = None  # what the clock of `up` is stepped by; None where it cannot be
    tmpfs: Path | None = None  # where the database is, when that is a file system of its own
    started: float = field(default_factory=time.monotonic)
    events: list[str] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    loading_at: datetime = field(default_factory=clock.now)
    known_url: str = ""

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.watched.symbols

    @property
    def pairs(self) -> list[str]:
        """Those that trade around the clock."""
        return [each.symbol for each in self.watched.instruments if each.calendar == "24/7"]

    @property
    def url(self) -> str:
        """The database of `up`, whose address stays the same after a new start."""
        self.known_url = read_running(self.up.home / "postgres") or self.known_url
        return self.known_url

    def say(self, line: str) -> None:
        """Print an event on stderr, and keep it for the report."""
        stamp = f"{time.monotonic() - self.started:7.1f} s  {clock.now():%a %H:%M}  {line}"
        self.events.append(stamp)
        self.loads.append(os.getloadavg()[0])
        print(stamp, file=sys.stderr, flush=True)

    @contextmanager
    def exchange_fault(self, fault: AnyFault) -> Iterator[None]:
        """Have the exchange commit `fault` until the block ends."""
        number = self.sandbox.handle.faults.add(fault)
        try:
            yield
        finally:
            self.sandbox.handle.faults.clear(number)

    def sql(self, statement: str, *parameters: Any) -> pl.DataFrame:
        with Database(self.url) as database, database.transaction() as transaction:
            return transaction.query(statement, *parameters)

    def graphql(self, query: str, **variables: Any) -> Any:
        return graphql(self.up.url, query, variables)

    def runs(self) -> pl.DataFrame:
        """All runs: run_id, status, name, kind, created, started, ended (seconds since 1970)."""
        return self.sql(RUNS)

    def unfinished(self) -> int:
        return self.runs().filter(~pl.col("status").is_in(ENDED)).height

    def busy_worker(self) -> tuple[int, str] | None:
        """The process of a run that is running, and the kind of the run."""
        running = self.runs().filter(pl.col("status") == "STARTED")
        for run_id, kind in running.select("run_id", "kind").iter_rows():
            said = self.sql("SELECT event FROM dagster.event_logs WHERE run_id = $1 AND event LIKE '%(pid: %'", run_id)
            for text in said["event"]:
                if match := re.search(r"\(pid: (\d+)\)", text):
                    return int(match[1]), kind
        return None

    def stale(self, moment: datetime) -> int:
        """How many series of all assets lack something of the time before `moment`, fail, or were never computed.

        What has closed since does not count: in a fast market something always has.
        """
        with Database(self.url) as database, database.transaction() as transaction:
            found = ledger.stale(transaction, closed_bars(transaction, moment), clock.now())
            rows = ledger.summary(transaction).to_dicts()
        before = pl.col("since").is_null() | (pl.col("since") <= moment)
        # A series that waits to be told to Dagster is up to date all the same.
        found = found.filter(before, pl.col("reason") != "not recorded").unique(["asset", "symbol", "timeframe"])
        full = len(ASSETS) * len(ORDER)
        return found.height + sum(row["failing"] + row["never_computed"] for row in rows) + (full - len(rows))

    def is_well(self, moment: datetime) -> bool:
        """Whether nothing of the time before `moment` is stale, and every part runs and answers."""
        with suppress(EmaAssetsError, OSError, RuntimeError):
            return (
                self.up.is_running()
                and all(self.up.pids(words) for words in (WEBSERVER, DAEMON, CODE_SERVER))
                and not self.stale(moment)
                and "workspaceOrError" in self.graphql("{ workspaceOrError { __typename } }")
            )
        return False

    def reached(self) -> dict[str, datetime]:
        """The newest 5m bar of each symbol."""
        found = self.sql("SELECT symbol, max(ts) AS ts FROM market.ohlc_5m GROUP BY 1")
        return dict(found.select("symbol", "ts").iter_rows())


def graphql(ui: str, query: str, variables: Mapping[str, Any]) -> Any:
    """What the webserver at `ui` answers.

    Raises:
        OSError: when it does not answer.
        RuntimeError: when the answer is an error.
    """
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(  # noqa: S310 - our own http://127.0.0.1 URL
        f"{ui}/graphql", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise OSError(f"GraphQL: {error.read()[:500].decode()}") from error
    if "errors" in found:
        raise RuntimeError(f"GraphQL: {found['errors']}")
    return found["data"]


def spelt(symbol: str) -> str:
    """As the exchange spells it."""
    return symbol.replace("-", "/")


def wait_for(is_true: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until something is true, for `seconds`; then end everything, saying what did not come true."""
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds:g} s: {what}")
        time.sleep(0.5)


def environment(home: Path, sandbox: RunningSandbox, sweep_seconds: int, virtual: clock.Clock) -> dict[str, str]:
    """That of `up`: the caller's without its settings, and ours."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EMA_", "APCA_", "DAGSTER_", "PG"))}
    return {
        **kept,
        "EMA_HOME": str(home),
        "EMA_PROVIDER": "sandbox",
        "EMA_SANDBOX_URL": sandbox.base_url,
        "EMA_SWEEP_SECONDS": str(sweep_seconds),
        clock.VARIABLE: str(virtual),
    }


@contextmanager
def lasting(up: Up) -> Iterator[Up]:
    """`up`, started, and stopped at the end."""
    try:
        up.start()
        yield up
    finally:
        up.stop()


def instant() -> datetime:
    """The machine's time."""
    return datetime.now(UTC)
