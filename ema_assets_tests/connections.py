"""Connections of the store to copies of one database: ADBC's driver reads the types of the original, once for all.

Before its first connection to a database the driver reads all types and all columns in it, which takes 50 ms of
processor time here and 10 ms there. A copy has the types of its original under the same numbers. What is made in the
copy later, the driver does not know, as in any connection that was open before.
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
    """Databases that are copies of the one at the URL `original`, or copies of copies; all on one server."""

    def __init__(self, original: str) -> None:
        self._server = urlsplit(original).netloc
        self._names: set[str] = set()
        self._turn = threading.Lock()
        self._driver = adbc_driver_postgresql.connect(original)

    def add(self, name: str) -> None:
        """Count the database `name` as one of them."""
        self._names.add(name)

    def discard(self, name: str) -> None:
        """The database `name` is none of them any more: it was dropped."""
        self._names.discard(name)

    def __contains__(self, url: str) -> bool:
        parts = urlsplit(url)
        return parts.netloc == self._server and parts.path.strip("/") in self._names

    def connect(self, url: str, **options: Any) -> adbc.Connection:
        """As `adbc.connect`: a new connection of its own, in a session of its own."""
        if url not in self:
            return _connect(url, **options)
        settings = options.get("conn_kwargs") or {}
        with self._turn:
            self._driver.set_options(uri=url)
            connection = adbc_driver_manager.AdbcConnection(self._driver, **settings)
        # What the connection closes with itself is not the driver.
        return adbc.Connection(ExitStack(), connection, conn_kwargs=settings)

    def put_in(self, patched: pytest.MonkeyPatch) -> None:
        """Have the store connect so."""
        patched.setattr(adbc, "connect", self.connect)

    def close(self) -> None:
        """Let the driver go, unless the process still holds a connection: resources of Dagster keep theirs to its end."""
        with suppress(RuntimeError):
            self._driver.close()
