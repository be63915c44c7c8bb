"""Helpers of the tests of the command line: a watchlist, files of bars, and commands in processes of their own."""

import fcntl
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from ema_assets.config import watchlist
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store.database import Database
from ema_assets_tests.core import CORE_TEXT
from ema_assets_tests.waiting import GIVEN_UP_AFTER_SECONDS

WATCHLIST = (
    """\
# Mine.
[history]
"5m" = 3   # days
"1d" = 30

[[group]]
name = "Shares"
symbols = ["AAPL", "MSFT"]  # two of them

[[group]]
calendar = "24/7"
symbols = ["BTC-USD"]
"""
    + CORE_TEXT
)

HEAD = "symbol,timeframe,ts,open,high,low,close,volume"
SOUND = "AAPL,1d,2024-02-14,10,12,9,11,100"
DEAD = "postgresql://trader:ge%21heim@127.0.0.1:9/market"

NOBODY = 65_534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def with_bars(database_url: str, rows: str) -> dict[str, str]:
    """Sync WATCHLIST and store the bars of the query `rows`; return the environment for the database."""
    with Database(database_url) as database:
        sync(database, watchlist.parse(WATCHLIST), datetime(2026, 11, 20, 15, tzinfo=UTC))
        with database.transaction() as transaction:
            transaction.execute(
                f"INSERT INTO market.ohlc (symbol, timeframe, ts, open, high, low, close, volume) {rows}"
            )
    return {"EMA_DATABASE_URL": database_url}


def sentence_of(stderr: str) -> str:
    """Return what follows `Error: ` on the only line of `stderr`."""
    (line,) = stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


def start(*arguments: str, **env: str) -> "subprocess.Popen[str]":
    """Start the command line as a shell does, and do not wait for its end."""
    return subprocess.Popen(
        [sys.executable, "-m", "ema_assets", *arguments],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def in_a_process(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line as a shell does, until its end."""
    with start(*arguments, **env) as process:
        stdout, stderr = process.communicate(timeout=GIVEN_UP_AFTER_SECONDS)
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def with_password(url: str) -> tuple[str, str]:
    """Return `url` of the test server with the password instead of the passfile, and the password itself."""
    parts = urlsplit(url)
    (passfile,) = parse_qs(parts.query)["passfile"]
    password = Path(passfile).read_text().strip().rpartition(":")[2]
    netloc = parts.netloc.replace("@", f":{quote(password, safe='')}@")
    return parts._replace(netloc=netloc, query="").geturl(), password


def bars_file(folder: Path, *lines: str, name: str = "bars.csv") -> str:
    (folder / name).write_text("\n".join(lines) + "\n")
    return str(folder / name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def an_up(home: Path, pid: int, **state: object) -> Iterator[None]:
    """Pretend that an `up` runs on `home` as process `pid`; with `state`, that it is ready."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "up.lock").open("a+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write(str(pid).encode())
        lock.flush()
        if state:
            ready = {"pid": pid, "ui": "http://127.0.0.1:3000", "provider_urls": {}, "started_at": "", **state}
            (home / "up.json").write_text(json.dumps(ready))
        yield
    (home / "up.json").unlink(missing_ok=True)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Run the block without the rights of root."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


class Terminal(io.StringIO):
    """An output that behaves like a terminal."""

    def isatty(self) -> bool:
        return True
