"""Connections of the store to copies of one database. The ADBC driver reads the types of the original only once.

Before its first connection to a database, the driver reads all types and columns in it. This takes 50 ms of CPU time
in this process and 10 ms in the server. A copy has the same types as its original, with the same numbers. The driver
does not know types that are created in the copy later, as with any connection that was open before.
"""

import threading
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import adbc_driver_manager
import adbc_driver_postgresql
import adbc_driver_postgresql.dbapi as adbc
import pytest

_connect = adbc.connect


class Copies:
    """Databases on one server that are copies of the one at the URL `original`, or copies of such copies."""

    def __init__(self, original: str) -> None:
        self._server = urlsplit(original).netloc
        self._names: set[str] = set()
        self._turn = threading.Lock()
        self._driver = adbc_driver_postgresql.connect(original)

    def add(self, name: str) -> None:
        """Register the database `name` as a copy."""
        self._names.add(name)

    def discard(self, name: str) -> None:
        """Remove the database `name`, which was dropped."""
        self._names.discard(name)

    def __contains__(self, url: str) -> bool:
        parts = urlsplit(url)
        return parts.netloc == self._server and parts.path.strip("/") in self._names

    def connect(self, url: str, **options: Any) -> adbc.Connection:
        """Open a new connection with its own session, as `adbc.connect` does."""
        if url not in self:
            return _connect(url, **options)
        settings = options.get("conn_kwargs") or {}
        with self._turn:
            self._driver.set_options(uri=url)
            connection = adbc_driver_manager.AdbcConnection(self._driver, **settings)
        # With an empty stack, closing the connection does not close the driver.
        return adbc.Connection(ExitStack(), connection, conn_kwargs=settings)

    def put_in(self, patched: pytest.MonkeyPatch) -> None:
        """Make the store use `connect`."""
        patched.setattr(adbc, "connect", self.connect)

    def close(self) -> None:
        """Close the driver, unless a connection is still open. Dagster's resources keep theirs open to the end."""
        with suppress(RuntimeError):
            self._driver.close()
