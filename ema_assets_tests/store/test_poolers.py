"""What a pooler of connections does to the schema of a session is told before Dagster makes a table elsewhere."""

from typing import Any

import psycopg2
import pytest

from ema_assets.model.errors import StoreError
from ema_assets.store.database import Database
from ema_assets.store.poolers import check_direct

_connect = psycopg2.connect


def _dropping(url: str, *, options: str, **others: Any) -> Any:
    """As PgBouncer with `ignore_startup_parameters = options`."""
    assert options
    return _connect(url, **others)


def _refusing(_url: str, **_others: Any) -> Any:
    """As PgBouncer without it."""
    raise psycopg2.OperationalError("FATAL:  unsupported startup parameter: options\n")


def test_a_server_itself_is_accepted_and_one_that_is_away_is_left_to_others(database: Database) -> None:
    check_direct(database.url)
    check_direct("postgresql://ema@127.0.0.1:1/x")


@pytest.mark.parametrize("connect", [_dropping, _refusing])
def test_a_pooler_that_takes_no_schema_is_refused_in_a_sentence(
    database: Database, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psycopg2, "connect", connect)
    with pytest.raises(
        StoreError, match="schema of a session|no schema for a session.* pooler, such as PgBouncer; set"
    ):
        check_direct(database.url)
