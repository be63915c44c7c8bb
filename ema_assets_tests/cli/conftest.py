"""Fixtures of the tests of the command line: a separate EMA_HOME per test, and ways to run commands."""

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ema_assets.cli import main
from ema_assets.config import watchlist
from ema_assets.model import clock
from ema_assets.sandbox.server import running_sandbox
from ema_assets_tests.cli.shell import WATCHLIST, sentence_of

Run = Callable[..., Result]
Refused = Callable[..., str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_pauses: None) -> Path:
    """A separate EMA_HOME with a watchlist of three symbols, and no other settings."""
    for name in os.environ:
        if name.startswith(("EMA_", "APCA_", "DAGSTER_", "PG", "FORCE_COLOR")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    (home / "watchlist.toml").write_text(WATCHLIST)
    monkeypatch.setenv("EMA_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def run(home: Path) -> Run:
    """Run a command in this process: `run("status", "--json", EMA_PROVIDER="alpaca")`."""

    def run(*arguments: str, **env: str) -> Result:
        return CliRunner().invoke(main, arguments, env=env, prog_name="ema-assets")

    return run


@pytest.fixture
def refused(run: Run) -> Refused:
    """Run a command that must fail, and return its one sentence."""

    def refused(*arguments: str, **env: str) -> str:
        result = run(*arguments, **env)
        assert result.exit_code == 1, result.output
        assert isinstance(result.exception, SystemExit), repr(result.exception)
        return sentence_of(result.stderr)

    return refused


@pytest.fixture
def reachable(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every user may enter, unlike those of pytest; EMA_HOME is the empty folder `home` in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        (folder / "home").mkdir()
        monkeypatch.setenv("EMA_HOME", str(folder / "home"))
        monkeypatch.chdir(folder)
        yield folder
        folder.chmod(0o755)
        (folder / "home").chmod(0o755)
        monkeypatch.chdir(home)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def exchange(home: Path) -> Iterator[dict[str, str]]:
    """Settings for a sandbox at Friday, 2026-11-20 15:00:10 UTC, almost five minutes before the next close."""
    time = f"2026-11-20T15:00:10Z x1 since {datetime.now(UTC).replace(tzinfo=None).isoformat()}Z"
    instruments = watchlist.load(home / "watchlist.toml").instruments
    with running_sandbox(instruments, clock=lambda: clock.now({clock.VARIABLE: time})) as sandbox:
        yield {"EMA_SANDBOX_URL": sandbox.base_url, clock.VARIABLE: time}
