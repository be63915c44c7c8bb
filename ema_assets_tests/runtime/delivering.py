"""Helpers for tests of the delivery of alerts: a worker in a thread, ticks of the sensor, and lost sessions."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ema_assets.defs.alerts import deliver_alerts
from ema_assets.runtime.alert_worker import Configuration, deliver_until
from ema_assets.store.alert_listener import SESSION, Listener
from ema_assets.store.database import Database

GROUP = '\n[[group]]\nsymbols = ["AAPL"]\n'


@contextmanager
def working(url: str) -> Iterator[list[str]]:
    """Run a worker in a thread of this process, and yield the list of its messages."""
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
    """Return the message of a tick of the sensor."""
    from dagster import build_sensor_context

    found = deliver_alerts(build_sensor_context())
    return str(found.skip_message)


def end_sessions(database: Database) -> None:
    """End the sessions of all processes that deliver alerts, as a restart of the server does."""
    with database.transaction() as transaction:
        transaction.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", SESSION)


def others_are_kept_out(url: str) -> bool:
    with Listener(url) as other:
        return not other.is_alone()
