"""Tests of the detection of connection poolers that drop or refuse the schema that Dagster needs."""

from typing import Any

import psycopg2
import pytest

from ema_assets.model.errors import StoreError
from ema_assets.store.database import Database
from ema_assets.store.poolers import check_direct

_connect = psycopg2.connect


def _dropping(url: str, *, options: str, **others: Any) -> Any:
    """Connect like PgBouncer with `ignore_startup_parameters = options`."""
    assert options
    return _connect(url, **others)


def _refusing(_url: str, **_others: Any) -> Any:
    """Refuse to connect like PgBouncer without that setting."""
    raise psycopg2.OperationalError("FATAL:  unsupported startup parameter: options\n")


def test_a_direct_server_is_accepted_and_an_unreachable_one_is_ignored(database: Database) -> None:
    check_direct(database.url)
    check_direct("postgresql://ema@127.0.0.1:1/x")


@pytest.mark.parametrize("connect", [_dropping, _refusing])
def test_a_pooler_that_keeps_no_schema_is_refused(
    database: Database, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psycopg2, "connect", connect)
    with pytest.raises(
        StoreError, match="schema of a session|no schema for a session.* pooler, such as PgBouncer; set"
    ):
        check_direct(database.url)
