"""Fixtures for tests of the process that delivers alerts: a webhook, and a watchlist whose alerts go to it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ema_assets_tests.alerts.webhook import Webhook, webhook
from ema_assets_tests.runtime.delivering import GROUP


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as served:
        yield served


@pytest.fixture
def env(database_url: str, hook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a watchlist whose alerts go to the webhook. The address of the webhook is in a variable."""
    for name in os.environ:
        if name.startswith(("EMA_", "DAGSTER_")):
            monkeypatch.delenv(name)
    path = tmp_path / "watchlist.toml"
    path.write_text('[[alert]]\nname = "mine"\non = ["crossover"]\nto = ["${HOOK}"]\ngroup_seconds = 0\n' + GROUP)
    settings = {
        "EMA_HOME": str(tmp_path / "home"),
        "EMA_WATCHLIST": str(path),
        "EMA_DATABASE_URL": database_url,
        # A test may delay the answer, and by default Apprise waits for only 4 s.
        "HOOK": f"{hook.url}?rto=3600",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return path
