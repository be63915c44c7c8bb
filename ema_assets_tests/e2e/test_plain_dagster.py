"""A test of plain `dagster dev` on a PostgreSQL of the user, as docs/OPERATIONS.md describes it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from ema_assets.config.settings import DAGSTER_EVENT_VARIABLES
from ema_assets_tests.e2e.stack import (
    ASSETS,
    CANARIES,
    TWO_SYMBOLS,
    Dagster,
    clean_environment,
    free_port,
    processes_mentioning,
    said_in,
    wait_until,
)

pytestmark = [pytest.mark.e2e, pytest.mark.broad]

REPOSITORY = Path(__file__).parents[2]


class PlainDagster(Dagster):
    """`ema-assets sandbox` and `dagster dev`, each started by hand in `folder`, with no DAGSTER_HOME."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []
        for name in ("dagster.yaml", "workspace.yaml"):
            shutil.copy(REPOSITORY / name, folder)
        (folder / "watchlist.toml").write_text(TWO_SYMBOLS)
        self.env = clean_environment(
            folder / "home", EMA_DATABASE_URL=url, EMA_SWEEP_SECONDS="5", **DAGSTER_EVENT_VARIABLES
        )

    def start(self) -> None:
        sandbox = self._run("sandbox", "ema_assets", "sandbox", "--port", "0")
        found = wait_until(lambda: re.search(r" on (http://\S+)", sandbox.read_text()), 120, "the sandbox", poll=0.1)
        # The sandbox answers like Alpaca, whose client sends the keys with every request.
        self.env |= {"EMA_SANDBOX_URL": found[1], "EMA_PROVIDER": "alpaca", "EMA_ALPACA_BASE_URL": found[1], **CANARIES}
        self._run("dagster", "dagster", "dev", "--host", "127.0.0.1", "--port", str(self.port))
        wait_until(self._answers, 180, "the webserver", self.evidence)

    def interrupt(self) -> None:
        """Send the signal of Ctrl-C to both processes, the last started first."""
        for process in reversed(self.processes):
            os.killpg(process.pid, signal.SIGINT)
            process.wait(timeout=120)

    def kill(self) -> None:
        """Kill the processes that are left after a failure."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)

    def evidence(self) -> str:
        # A process reports the end of another one only some seconds later.
        time.sleep(10)
        ended = [process.poll() for process in self.processes]
        return f"ended with {ended}\n" + "\n".join(map(said_in, self.folder.glob("*.out")))

    def _run(self, name: str, module: str, *arguments: str) -> Path:
        path = self.folder / f"{name}.out"
        # A test run in the background ignores SIGINT, and its children inherit that. They do not inherit a handler.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with path.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", module, *arguments],
                    env=self.env,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        finally:
            signal.signal(signal.SIGINT, before)
        self.processes.append(process)
        return path

    def _answers(self) -> bool:
        assert all(process.poll() is None for process in self.processes), self.evidence()
        with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{self.port}/server_info", timeout=5) as answer:
            return answer.status == 200
        return False


def test_plain_dagster_dev_with_a_sandbox_materializes_every_partition_and_leaves_no_process(
    own_url: str, tmp_path: Path
) -> None:
    dagster = PlainDagster(tmp_path, own_url)
    try:
        dagster.start()
        dagster.wait_complete(2 * 3)
        for asset in ASSETS:
            assert {key.split("|")[0] for key in dagster.materialized(asset)} == {"AAPL", "BTC-USD"}
        assert all(run["status"] == "SUCCESS" for run in dagster.runs())
        assert dagster.places_with([*CANARIES.values(), str(urlsplit(own_url).password)], tmp_path) == []
        dagster.interrupt()
        wait_until(lambda: not processes_mentioning(str(tmp_path)), 60, "no process is left")
    finally:
        dagster.kill()
    assert not (tmp_path / "home" / "postgres").exists()
    said = "".join(path.read_text() for path in tmp_path.glob("*.out"))
    assert said
    assert str(urlsplit(own_url).password) not in said
