"""Whoever delivers alerts, as tests run and disturb it: a worker in a thread, ticks of the sensor, lost sessions."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ema_assets.defs.alerts import deliver_alerts
from ema_assets.runtime.alert_worker import Configuration, deliver_until
from ema_assets.store.alert_listener import SESSION, Listener
from ema_assets.store.database import Database
from ema_assets_tests.alerts.webhook import Webhook

GROUP = '\n[[group]]\nsymbols = ["AAPL"]\n'


def told_by_webhook(database_url: str, hook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A watchlist whose alerts go to the webhook, whose address is in a variable; the path of the file."""
    for name in os.environ:
        if name.startswith(("EMA_", "DAGSTER_")):
            monkeypatch.delenv(name)
    path = tmp_path / "watchlist.toml"
    path.write_text('[[alert]]\nname = "mine"\non = ["crossover"]\nto = ["${HOOK}"]\ngroup_seconds = 0\n' + GROUP)
    settings = {
        "EMA_HOME": str(tmp_path / "home"),
        "EMA_WATCHLIST": str(path),
        "EMA_DATABASE_URL": database_url,
        # Its answer may come as late as a test wants: Apprise would wait for 4 s.
        "HOOK": f"{hook.url}?rto=3600",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return path


@contextmanager
def working(url: str) -> Iterator[list[str]]:
    """A worker in a thread of this process; what it says."""
    said: list[str] = []
    over = threading.Event()
    worker = threading.Thread(target=deliver_until, args=(over.is_set, url, Configuration(), said.append))
    worker.start()
    try:
        yield said
    finally:
        over.set()
        worker.join()


def evaluated() -> str:
    """What a tick of the sensor says."""
    from dagster import build_sensor_context

    found = deliver_alerts(build_sensor_context())
    return str(found.skip_message)


def end_sessions(database: Database) -> None:
    """End those of whoever delivers, as a restart of the server does."""
    with database.transaction() as transaction:
        transaction.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", SESSION)


def others_are_kept_out(url: str) -> bool:
    with Listener(url) as other:
        return not other.is_alone()
