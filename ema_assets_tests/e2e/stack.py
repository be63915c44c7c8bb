"""A real Dagster of this project, started by `ema-assets up` or by hand, with access by GraphQL and SQL."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl

from ema_assets.store.database import Database
from ema_assets_tests import POLARS_THREADS

ASSETS = ("ohlc", "ema_signals", "ema_trend", "strategy_9_30_ema")

WATCHLIST = """
[history]
"5m" = 8
"1d" = 120

[[group]]
calendar = "XNYS"
symbols = ["AAPL", "MSFT", "NVDA", "JPM", "XOM"]

[[group]]
calendar = "24/7"
symbols = ["BTC-USD", "ETH-USD"]
"""

TWO_SYMBOLS = """
timeframes = ["5m", "15m", "1d"]

[history]
"5m" = 4
"1d" = 90

[[group]]
calendar = "XNYS"
symbols = ["AAPL"]

[[group]]
calendar = "24/7"
symbols = ["BTC-USD"]
"""

# How many times longer than on an idle machine a wait may take before it fails.
PATIENCE = 5


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("EMA_", "APCA_", "DAGSTER_", "PG")) and name != POLARS_THREADS
    }
    return {**kept, "EMA_HOME": str(home), **more}


def wait_until(
    is_true: Callable[[], object],
    seconds: float,
    what: str,
    evidence: Callable[[], object] | None = None,
    poll: float = 0.5,
) -> Any:
    """Return the first true result of `is_true`. When there is none in time, fail with the result of `evidence`.

    `seconds` are those of an idle machine. The limit is PATIENCE times as long, for a busy one.
    """
    seconds *= PATIENCE
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = is_true()
        if found:
            return found
        time.sleep(poll)
    seen = "" if evidence is None else f"\n{evidence()}"
    raise AssertionError(f"not within {seconds:g} s: {what}{seen}")


# Keys that are valid nowhere. Tests look for them in all places that must not contain keys.
CANARIES = {"APCA_API_KEY_ID": "CANARY0KEY0ID", "APCA_API_SECRET_KEY": "CANARY0SECRET0KEY"}


def command_lines() -> str:
    """Return the command lines of all processes, as `ps` shows them to every user."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(found)


def processes_mentioning(text: str) -> list[str]:
    """Return the command lines of other live processes whose command line or environment contains `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if state != "Z" and text.encode() in words:
            found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def _shows(text: bytes, secrets: Sequence[str]) -> bool:
    return any(secret.encode() in text for secret in secrets)


def said_in(log: Path) -> str:
    """Return the end of a log, without the lines that sensors write every few seconds."""
    lines = [line for line in log.read_text().splitlines() if "SensorDaemon" not in line]
    return "\n".join([f"== {log}", *lines[-100:]])


class Dagster:
    """A Dagster with its webserver on `port`. Its data and those of the market are in the database at `url`."""

    port: int
    url: str

    def evidence(self) -> str:
        """Return what its processes have written."""
        raise NotImplementedError

    def sql(self, statement: str, *parameters: Any) -> pl.DataFrame:
        with Database(self.url) as database, database.transaction() as transaction:
            return transaction.query(statement, *parameters)

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60 * PATIENCE) as answer:
            body = json.load(answer)
        assert "errors" not in body, body
        return body["data"]

    def places_with(self, secrets: Sequence[str], folder: Path) -> list[str]:
        """Return the tables, files of `folder` and command lines of processes that contain one of `secrets`."""
        patterns = [f"%{secret}%" for secret in secrets]
        found = []
        with Database(self.url) as database, database.transaction() as transaction:
            # Numbers and times contain no secret, and converting all of them to text takes long.
            tables = transaction.query(
                """SELECT format('%I.%I', table_schema, table_name) AS name,
                          string_agg(format('%I::text', column_name), ', ') AS columns
                   FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
                   WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE'
                     AND data_type NOT IN ('double precision', 'bigint', 'integer', 'smallint', 'boolean', 'date')
                     AND data_type NOT LIKE 'timestamp%'
                     AND to_regclass(format('%I.%I', table_schema, table_name)) NOT IN
                         (SELECT inhrelid FROM pg_inherits)
                   GROUP BY 1"""
            )
            for name, columns in tables.iter_rows():
                shows = (
                    f"SELECT EXISTS (SELECT FROM {name} WHERE concat_ws(' ', {columns}) LIKE ANY ($1::text[])) AS shows"
                )
                if transaction.query(shows, patterns).item():
                    found.append(name)
        files = [path for path in folder.rglob("*") if path.is_file() and "postgres" not in path.parts]
        found += [str(path) for path in files if _shows(path.read_bytes(), secrets)]
        return found + ["a command line"] * _shows(command_lines().encode(), secrets)

    def materialized(self, asset: str) -> set[str]:
        """Return the partition keys that the UI shows as materialized."""
        data = self.graphql(
            """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
                 assetPartitionStatuses { ... on MultiPartitionStatuses { ranges {
                   primaryDimStartKey primaryDimEndKey
                   secondaryDim { ... on DefaultPartitionStatuses { materializedPartitions } } } } }
                 partitionKeysByDimension { name partitionKeys } } } }""",
            key={"path": [asset]},
        )["assetNodeOrError"]
        keys = data["partitionKeysByDimension"][0]["partitionKeys"]
        found = set()
        for block in data["assetPartitionStatuses"]["ranges"]:
            span = keys[keys.index(block["primaryDimStartKey"]) : keys.index(block["primaryDimEndKey"]) + 1]
            second = block["secondaryDim"]
            found |= {f"{first}|{timeframe}" for first in span for timeframe in second["materializedPartitions"]}
        return found

    def runs(self) -> list[dict[str, Any]]:
        """Return all runs, oldest first, with their tags as a dict."""
        data = self.graphql(
            "{ runsOrError(limit: 1000) { ... on Runs { results { runId status jobName tags { key value } } } } }"
        )
        return [
            {**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}}
            for run in reversed(data["runsOrError"]["results"])
        ]

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """Return the newest ticks of `sensor`: timestamp and endTimestamp (seconds), skipReason."""
        (location,) = self.graphql("{ workspaceOrError { ... on Workspace { locationEntries { name } } } }")[
            "workspaceOrError"
        ]["locationEntries"]
        selector = {
            "repositoryLocationName": location["name"],
            "repositoryName": "__repository__",
            "sensorName": sensor,
        }
        found = self.graphql(
            """query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor {
                 sensorState { ticks(limit: 20) { timestamp endTimestamp skipReason } } } } }""",
            selector=selector,
        )["sensorOrError"]
        return list(found["sensorState"]["ticks"])

    def schedules(self) -> list[str]:
        """Return the names of all schedules."""
        found = self.graphql(
            """{ repositoriesOrError { ... on RepositoryConnection { nodes { schedules { name } } } } }"""
        )["repositoriesOrError"]
        return [schedule["name"] for node in found["nodes"] for schedule in node["schedules"]]

    def materializations_of(self, run_ids: list[str]) -> list[tuple[str, str]]:
        """Return (asset, partition) of every materialization logged by these runs."""
        rows = self.sql(
            """SELECT asset_key, partition FROM dagster.event_logs
               WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND run_id = ANY ($1::text[])""",
            run_ids,
        )
        return sorted((json.loads(key)[0], partition) for key, partition in rows.iter_rows())

    def are_materialized(self, partitions: int) -> bool:
        """Return whether all four assets have that many partitions. The last asset of the chain is queried first."""
        return all(len(self.materialized(asset)) == partitions for asset in reversed(ASSETS))

    def wait_complete(self, partitions: int, seconds: float = 240) -> None:
        """Wait until the UI shows that many materialized partitions of all four assets, and no run is unfinished."""

        def is_complete() -> bool:
            return self.are_materialized(partitions) and bool(self.finished_runs())

        try:
            wait_until(is_complete, seconds, "every partition materialized", poll=2)
        except (AssertionError, OSError) as error:
            raise AssertionError(f"{error}\n{self.evidence()}") from None

    def unsuccessful(self) -> str:
        """Return every run that has failed or was canceled, with its tags and what its failures say."""
        said = self.sql(
            """SELECT run_id, string_agg(event, E'\n' ORDER BY id) AS events FROM dagster.event_logs
               WHERE dagster_event_type IN ('STEP_FAILURE', 'PIPELINE_FAILURE', 'PIPELINE_CANCELED', 'ENGINE_EVENT')
               GROUP BY run_id"""
        )
        events = dict(said.iter_rows())
        return "\n".join(
            f"{run['status']} {run['runId']} {run['tags']}\n{events.get(run['runId'], '')}"
            for run in self.runs()
            if run["status"] in ("FAILURE", "CANCELED")
        )

    def finished_runs(self) -> list[dict[str, Any]]:
        """Return all runs, as `runs` does, once each has ended; none before."""
        runs = self.runs()
        return runs if all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in runs) else []


class Stack(Dagster):
    """One `ema-assets up`."""

    def __init__(self, folder: Path, watchlist: str = WATCHLIST, *, board: bool = False, **env: str) -> None:
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        (self.home / "watchlist.toml").write_text(watchlist)
        self.port = free_port()
        self.board = f"http://127.0.0.1:{free_port()}" if board else None
        self.folder = folder
        # The current folder of a user may contain a file named like a module of Python. No process of ours imports it.
        (folder / "secrets.py").write_text("raise ImportError('that of the current folder')\n")
        self.env = clean_environment(self.home, EMA_SWEEP_SECONDS="5", **env)
        self.process: subprocess.Popen[bytes] | None = None

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ema_assets", *arguments],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120 * PATIENCE,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def start(self) -> None:
        board = ["--board-port", self.board.rpartition(":")[2]] if self.board else ["--no-board"]
        with (self.folder / "up.out").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ema_assets", "up", "--port", str(self.port), *board],
                env=self.env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(lambda: self.process.poll() is not None or self._is_ready(), 120, "up", self.output, poll=0.1)
        assert self.process.poll() is None, self.output()
        self.first_status = status = self.status()
        assert status["ui"], self.output()
        # The URL in the status has no password.
        self.url = self.env.get("EMA_DATABASE_URL") or status["database_url"]

    def _is_ready(self) -> bool:
        """Return whether this `up` has written its state file. Reading it saves the second that a command takes."""
        try:
            return json.loads((self.home / "up.json").read_text())["pid"] == self.process.pid
        except FileNotFoundError:
            return False

    def wait_until_nothing_is_left(self) -> None:
        """Wait until no process of this `up` lives. The database is the last one to end."""
        wait_until(lambda: not processes_mentioning(str(self.home)), 60, "no process is left", self.evidence)

    def pids(self, words: str) -> list[int]:
        """Return the processes of this `up` whose command line contains `words`."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if words in command and str(self.home).encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    def output(self) -> str:
        return (self.folder / "up.out").read_text()

    def evidence(self) -> str:
        return f"{self.output()}\n" + "\n".join(map(said_in, (self.home / "logs").glob("*.log")))

    def status(self) -> dict[str, Any]:
        return json.loads(self.cli("status", "--json").stdout)

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=90 * PATIENCE)
