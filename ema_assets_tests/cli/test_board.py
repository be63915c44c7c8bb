"""`ema-assets board` as a process of its own, on an embedded PostgreSQL that nobody else uses."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ema_assets.runtime.postgres.server import EmbeddedServer, read_running
from ema_assets.store.migrations import migrate
from ema_assets_tests.cli.conftest import Refused
from ema_assets_tests.cli.shell import start
from ema_assets_tests.waiting import GIVEN_UP_AFTER_SECONDS


@pytest.fixture
def folder(home: Path) -> Iterator[Path]:
    """The folder of an embedded PostgreSQL that does not run."""
    server = EmbeddedServer(home / "postgres")
    with server:
        migrate(server.url)
    yield server.folder
    server.stop(force=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_either_signal_ends_it_and_the_postgresql_that_nobody_else_uses(folder: Path, number: signal.Signals) -> None:
    with start("board", "--port", "0") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Board on http://127.0.0.1:")
        assert read_running(folder) is not None
        process.send_signal(number)
        process.wait(timeout=GIVEN_UP_AFTER_SECONDS)
        assert read_running(folder) is None
        _, stderr = process.communicate(timeout=GIVEN_UP_AFTER_SECONDS)
    assert process.returncode == (1 if number is signal.SIGINT else -signal.SIGTERM)
    assert "Traceback" not in stderr


def test_an_address_that_was_left_empty_is_not_every_address(refused: Refused) -> None:
    """As with `--host "$HOST"` where HOST is not set."""
    assert "`--host` must be an address to listen on" in refused("board", "--host", "")
