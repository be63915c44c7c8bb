"""Tests of named database sessions, which show that the process of a run is alive."""

import pytest

from ema_assets.store import worker_sessions
from ema_assets.store.database import Database


def living(database: Database, *names: str) -> set[str]:
    with database.transaction() as transaction:
        return worker_sessions.living(transaction, names)


def test_renaming_applies_to_the_open_session_and_to_later_ones(database: Database) -> None:
    with Database(database.url, "the first") as worker:
        with worker.transaction() as transaction:
            (session,) = transaction.query("SELECT pg_backend_pid() AS pid")["pid"]
        assert living(database, "the first", "the second") == {"the first"}
        worker_sessions.rename(worker, "the second")
        assert living(database, "the first", "the second") == {"the second"}
        with worker.transaction() as transaction:
            assert transaction.query("SELECT pg_backend_pid() AS pid")["pid"].to_list() == [session]
        worker.close()
        with worker.transaction() as transaction:
            transaction.query("SELECT 1 AS one")
        assert living(database, "the first", "the second") == {"the second"}


def test_a_new_name_is_kept_after_a_failed_transaction(database: Database) -> None:
    with Database(database.url, "the first") as worker:
        worker_sessions.rename(worker, "the second")
        with pytest.raises(Exception, match="division by zero"), worker.transaction() as transaction:
            transaction.query("SELECT 1 / 0 AS never")
        assert living(database, "the first", "the second") == {"the second"}
