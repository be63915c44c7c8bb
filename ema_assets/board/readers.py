"""Read-only connections: as `ema_reader`, with a consistent snapshot per transaction, a few at a time.

No SQL, no HTTP.
"""

import queue
from collections.abc import Iterator
from contextlib import contextmanager

from ema_assets.model.errors import StoreError
from ema_assets.store.database import Database, Transaction
from ema_assets.store.reader import become_reader

_CONNECTIONS = 3


class NothingYet(StoreError):
    """The database exists, but nothing was ever synced into it."""


class Readers:
    """A few connections to the database at `url`, opened when they are needed. A request that finds none free waits."""

    def __init__(self, url: str) -> None:
        self._idle: queue.LifoQueue[Database] = queue.LifoQueue()
        for number in range(_CONNECTIONS):
            self._idle.put(Database(url, f"ema-assets board {number + 1}"))
        # Whether the database lets the board be `ema_reader`; None until the first transaction.
        self.has_role: bool | None = None

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Yield a transaction that sees one consistent snapshot and cannot write.

        Raises:
            StoreUnavailable: when the database cannot be reached.
            NothingYet: when nothing was ever synced into it.
        """
        database = self._idle.get()
        try:
            with database.transaction() as transaction:
                rights = become_reader(transaction)
                if not rights.is_made:
                    raise NothingYet("nothing has been computed in this database yet; start with `ema-assets up`")
                self.has_role = rights.has_role
                yield transaction
        finally:
            self._idle.put(database)

    def close(self) -> None:
        """Close all connections that are not in use."""
        while not self._idle.empty():
            self._idle.get_nowait().close()
