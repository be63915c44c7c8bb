"""Tests of `ema-assets board` as a separate process, with an embedded PostgreSQL that no other process uses."""

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


@pytest.mark.broad
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_either_signal_ends_the_board_and_the_postgresql_that_only_it_uses(
    folder: Path, number: signal.Signals
) -> None:
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


def test_an_empty_address_is_refused(refused: Refused) -> None:
    """This happens with `--host "$HOST"` if HOST is not set. The board would listen on all addresses."""
    assert "`--host` must be an address to listen on" in refused("board", "--host", "")
