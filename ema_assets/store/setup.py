"""Making a database ready: migrations, then the table of bars. Other tables follow with the sync of the watchlist."""

from contextlib import closing

from ema_assets.store.database import Database
from ema_assets.store.migrations import Migration, apply_missing, connect
from ema_assets.store.tables.creation import ensure
from ema_assets.store.tables.table import BARS


def prepare_database(url: str) -> list[Migration]:
    """Bring the database at `url` (libpq form) to this version; return the migrations that were applied.

    The table of bars exists afterwards. The partition of a timeframe that was added later is made by the sync of the
    watchlist, as are all other tables.

    Raises:
        StoreUnavailable: when the database cannot be reached.
        StoreError: when it cannot be brought to this version; see `migrations.apply_missing`.
    """
    with closing(connect(url)) as connection:
        applied = apply_missing(connection, url)
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s) IS NULL", (f"market.{BARS.name}",))
            (is_missing,) = cursor.fetchone()
        if is_missing:
            with Database(url) as database, database.transaction() as transaction:
                ensure(transaction, [BARS])
    return applied
