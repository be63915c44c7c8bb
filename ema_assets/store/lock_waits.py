"""How long a change of tables or views waits for sessions that use them. SQL only."""

from collections.abc import Iterator
from contextlib import contextmanager

import adbc_driver_manager

from ema_assets.model.errors import StoreError
from ema_assets.store.database import Transaction

# Whoever comes to read the table or view meanwhile waits as well. A batch that is being written is over by then.
_SECONDS = 15
# SQLSTATE lock_not_available.
_NOT_AVAILABLE = "55P03"


@contextmanager
def limited(transaction: Transaction) -> Iterator[None]:
    """Let the statements of the block wait for locks of other sessions for so long each, and no longer.

    Raises:
        StoreError: when one has waited in vain.
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
