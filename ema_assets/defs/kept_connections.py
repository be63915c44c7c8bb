"""Connections of Dagster's storage: kept between statements, and replaced when they were lost. No tables here."""

import select
import time
from typing import Any

import psycopg2
import sqlalchemy
from sqlalchemy.exc import DisconnectionError

from ema_assets.model.urls import watched_url

# A connection that has been idle for this long is tested before its next use.
_TRUSTED_SECONDS = 10.0
# Threads of the daemon often use this many at a time. A process with one thread opens one.
_HELD_CONNECTIONS = 3


def new_engine(url: str) -> sqlalchemy.Engine:
    """Return an engine that keeps its connections between statements.

    Dagster opens one for every event it stores; for a refresh of 100 series that was half of the run's 6 s.
    """
    engine = sqlalchemy.create_engine(
        watched_url(url),
        isolation_level="AUTOCOMMIT",
        pool_size=_HELD_CONNECTIONS,
        # The least recently used connections then rest long enough to be tested before their next use.
        pool_use_lifo=True,
        max_overflow=20,
        pool_recycle=3600,
        pool_pre_ping=False,
    )
    keep_usable(engine)
    return engine


def keep_usable(engine: sqlalchemy.Engine) -> None:
    """Have a lost connection of `engine` noticed before its next use, so that a process survives a restart of Postgres.

    Its sessions do not wait for the disk at a commit.
    """

    @sqlalchemy.event.listens_for(engine, "checkout")
    def check(connection: Any, record: Any, _proxy: Any) -> None:
        # A test statement would double the cost of the many small ones. A connection that the server has closed is
        # recognised without one: there is something to read. A connection that the network has dropped is not.
        waiting = select.poll()
        waiting.register(connection, select.POLLIN)
        is_silent = not waiting.poll(0)
        if is_silent and time.monotonic() - record.info.get("used_at", 0.0) < _TRUSTED_SECONDS:
            return
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except psycopg2.Error as error:
            raise DisconnectionError from error

    @sqlalchemy.event.listens_for(engine, "connect")
    def relax(connection: Any, _record: Any) -> None:
        # Dagster commits every event by itself. A crash of the server can lose the last moment's events; events of a
        # materialization are on disk before the ledger's own commit says that they are recorded.
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")

    @sqlalchemy.event.listens_for(engine, "checkin")
    def note(_connection: Any, record: Any) -> None:
        record.info["used_at"] = time.monotonic()


class ForWebserver:
    """A part of the storage whose engine in the webserver, which is one of Dagster, notices lost connections, too."""

    _engine: sqlalchemy.Engine

    def optimize_for_webserver(self, *arguments: Any, **named: Any) -> None:
        """Replace the engine as Dagster does."""
        super().optimize_for_webserver(*arguments, **named)  # type: ignore[misc]  # of the other base class
        keep_usable(self._engine)
