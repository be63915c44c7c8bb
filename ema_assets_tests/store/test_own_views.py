"""Tests of the user's own views: those that read the product's views and tables survive a configuration change."""

from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.errors import StoreError
from ema_assets.operations.sync_watchlist import adopt_graph
from ema_assets.refresh.graph import build
from ema_assets.store import own_views, results
from ema_assets.store.database import Database
from ema_assets_tests.conftest import Databases

OWN = """
    CREATE SCHEMA bi;
    CREATE VIEW bi.open_trades WITH (security_barrier) AS SELECT symbol, entry_ts FROM results.trades WHERE status = 'open';
    CREATE VIEW bi."Open" AS SELECT count(*) AS trades FROM bi.open_trades;
    CREATE VIEW results.averages AS SELECT symbol, ema_9 FROM market.ema_signals;
    CREATE MATERIALIZED VIEW bi.newest AS SELECT symbol, timeframe, max(ts) AS ts FROM results.bars GROUP BY 1, 2;
    CREATE UNIQUE INDEX newest_key ON bi.newest (symbol, timeframe);
    CREATE VIEW bi.unrelated AS SELECT 1 AS one;
    COMMENT ON VIEW bi.open_trades IS 'what is ''open''';
    GRANT SELECT ON bi.open_trades TO ema_reader;
    GRANT SELECT ON bi."Open" TO PUBLIC;
"""


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    made = databases.make()
    with Database(made) as database, database.transaction() as transaction:
        adopt_graph(transaction, build(Watchlist((), {})))
    with closing(psycopg2.connect(made)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(OWN)
    yield made
    databases.drop(made)


def catalog(url: str) -> list[tuple[object, ...]]:
    """Read the user's views and indexes from the catalogs of PostgreSQL, without their ids."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT c.oid::regclass::text, relkind, pg_get_viewdef(c.oid), relacl::text, reloptions,
                   obj_description(c.oid), pg_get_userbyid(relowner)
            FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE nspname = 'bi' OR (nspname = 'results' AND relname = 'averages') ORDER BY 1
            """
        )
        return cursor.fetchall()


@pytest.mark.broad
def test_own_views_are_unchanged_after_the_views_and_tables_below_them_are_recreated(url: str) -> None:
    before = catalog(url)
    with Database(url) as database, database.transaction() as transaction:
        noted = own_views.noted(transaction, results.VIEWS)
        assert [view.name for view in noted][-1] == 'bi."Open"'
        assert {view.name for view in noted} == {"bi.open_trades", 'bi."Open"', "results.averages", "bi.newest"}
        # Another strategy changes the view results.trades, and a table with another declaration is recreated.
        transaction.execute("UPDATE ema_assets.declaration SET sql = 'another' WHERE table_name = 'ema_signals'")
        strategies = ({"name": "more", "rule": "crossover", "side": "both"},)
        assert "ema_signals" in adopt_graph(transaction, build(Watchlist((), {}, strategies=strategies)))
    assert catalog(url) == before
    assert len(before) == 6


def test_an_own_view_that_cannot_be_recreated_is_named_and_nothing_changes(url: str) -> None:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE VIEW bi.strong AS SELECT symbol, rsi FROM results.signals WHERE rsi > 70")
    before = catalog(url)
    with (
        Database(url) as database,
        pytest.raises(StoreError, match=r'the view bi\.strong of yours .*column .*"?rsi"? does not exist.*change or'),
        database.transaction() as transaction,
    ):
        adopt_graph(transaction, build(Watchlist((), {}, signals_off=("rsi",))))
    assert catalog(url) == before
