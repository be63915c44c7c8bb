"""Tests of lock waits: a change of tables or views does not wait forever for a reader while others queue behind it."""

from contextlib import closing

import psycopg2
import pytest

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.errors import StoreError
from ema_assets.operations.sync_watchlist import adopt_graph
from ema_assets.refresh.graph import build
from ema_assets.store import lock_waits
from ema_assets.store.database import Database

USUAL = build(Watchlist((), {}))


@pytest.mark.parametrize(
    ("read", "changed"),
    [
        ("results.screener", "COMMENT ON VIEW market.trade IS 'of another version'"),
        ("market.rsi", "UPDATE ema_assets.declaration SET sql = 'rsi text' WHERE table_name = 'rsi' AND part = 'rsi'"),
    ],
)
def test_a_change_gives_up_while_an_open_transaction_reads_and_succeeds_afterwards(
    database: Database, monkeypatch: pytest.MonkeyPatch, read: str, changed: str
) -> None:
    monkeypatch.setattr(lock_waits, "_SECONDS", 1)
    with database.transaction() as transaction:
        adopt_graph(transaction, USUAL)
    with database.transaction() as transaction:
        transaction.execute(changed)
    with closing(psycopg2.connect(database.url)) as dashboard, dashboard.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {read}")
        refused = pytest.raises(StoreError, match="in use by another session for 1 s, such as a dashboard")
        with refused, database.transaction() as transaction:
            adopt_graph(transaction, USUAL)
        # Other readers no longer wait.
        with closing(psycopg2.connect(database.url)) as other, other.cursor() as second:
            second.execute("SET lock_timeout = '5s'")
            second.execute(f"SELECT count(*) FROM {read}")
    with database.transaction() as transaction:
        adopt_graph(transaction, USUAL)
        # The limit does not apply to later locks of the transaction, such as rows that a run has locked.
        assert transaction.query("SELECT current_setting('lock_timeout') AS it").item() == "0"
