"""The limit on how long a change of tables or views waits for sessions that use them. SQL only."""

from collections.abc import Iterator
from contextlib import contextmanager

import adbc_driver_manager

from ema_assets.model.errors import StoreError
from ema_assets.store.database import Transaction

# Sessions that want to read the table or view meanwhile wait as well. A batch that is being written ends before this.
_SECONDS = 15
# SQLSTATE lock_not_available.
_NOT_AVAILABLE = "55P03"


@contextmanager
def limited(transaction: Transaction) -> Iterator[None]:
    """Limit how long each statement of the block waits for locks of other sessions to 15 s.

    Raises:
        StoreError: when a statement did not get its lock in time.
    """
    transaction.execute(f"SET LOCAL lock_timeout = '{_SECONDS}s'")
    try:
        yield
    except adbc_driver_manager.Error as error:
        if error.sqlstate != _NOT_AVAILABLE:
            raise
        raise StoreError(
            f"a table or view that is to be changed was in use by another session for {_SECONDS} s, such as a "
            "dashboard with an open transaction, a long query or a backup: end it, or wait until it is over"
        ) from error
    transaction.execute("SET LOCAL lock_timeout TO DEFAULT")
