"""The session that delivers alerts: it holds the lock on delivery and is notified when alerts are raised. SQL only.

It has its own psycopg2 connection because ADBC does not receive notifications.
"""

import select
from contextlib import suppress
from typing import Self

import psycopg2

from ema_assets.model.errors import StoreUnavailable
from ema_assets.model.urls import masked_url, named_url
from ema_assets.store.advisory_locks import AdvisoryLock

SESSION = "ema-assets alerts"


class Listener:
    """A session at `url` (libpq form), the only one to deliver alerts once `is_alone` returns True.

    Raises:
        StoreUnavailable: from every method except `close`, when the session was lost; another one may deliver then.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            self._connection = psycopg2.connect(named_url(url, SESSION), connect_timeout=10)
            self._connection.autocommit = True
            with self._connection.cursor() as cursor:
                cursor.execute("LISTEN ema_assets_alerts")
        except psycopg2.Error as error:
            raise self._lost(error) from None
        self._is_alone = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def is_alone(self) -> bool:
        """Take the lock if nobody has it; return whether this session has it."""
        if not self._is_alone:
            self._is_alone = self._ask("SELECT pg_try_advisory_lock(%s)")
        return self._is_alone

    def check(self) -> None:
        """Check that the session, and with it the lock, is alive."""
        self._ask("SELECT %s > 0")

    def wait(self, seconds: float, wake: int | None = None) -> bool:
        """Wait until alerts are raised, the file descriptor `wake` can be read, or `seconds` are over.

        Returns:
            False if the time is over, otherwise True.
        """
        ready: list[object] = []
        try:
            if not self._connection.notifies:
                watched = [self._connection] if wake is None else [self._connection, wake]
                ready, _, _ = select.select(watched, [], [], max(seconds, 0))
                self._connection.poll()
            is_raised = bool(self._connection.notifies)
            self._connection.notifies.clear()
        except psycopg2.Error as error:
            raise self._lost(error) from None
        return is_raised or wake in ready

    def close(self) -> None:
        """Give the lock back and end the session.

        The lock also ends with the session, but the server ends a session a moment after its client has left. A process
        that asked for the lock in that moment would believe that another one delivers.
        """
        if self._is_alone:
            with suppress(psycopg2.Error), self._connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", (int(AdvisoryLock.ALERT_DELIVERY),))
            self._is_alone = False
        with suppress(psycopg2.Error):
            self._connection.close()

    def _ask(self, sql: str) -> bool:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, (int(AdvisoryLock.ALERT_DELIVERY),))
                return bool((cursor.fetchone() or (False,))[0])
        except psycopg2.Error as error:
            raise self._lost(error) from None

    def _lost(self, error: psycopg2.Error) -> StoreUnavailable:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return StoreUnavailable(f"the session of alerts at {masked_url(self._url)} was lost: {reason}")
