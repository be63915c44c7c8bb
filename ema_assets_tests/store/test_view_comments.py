"""Tests of the comments that database clients show for the views of `results`."""

import pytest

from ema_assets.config.watchlist import Watchlist
from ema_assets.operations.sync_watchlist import adopt_graph
from ema_assets.refresh.graph import build
from ema_assets.store.database import Database

WATCHED = Watchlist((), {}, strategies=({"name": "slow", "rule": "crossover", "fast": 12, "slow": 26},))


@pytest.mark.broad
def test_every_view_has_a_comment_about_its_rows_and_is_created_once(database: Database) -> None:
    with database.transaction() as transaction:
        adopt_graph(transaction, build(WATCHED))
        found = dict(
            transaction.query(
                """
                SELECT relname::text AS view, obj_description(oid, 'pg_class') AS comment FROM pg_class
                WHERE relnamespace = 'results'::regnamespace AND relkind = 'v'
                """
            ).iter_rows()
        )
        assert found.keys() == {"bars", "signals", "trades", "performance", "screener", "screener_12_26"}
        assert all(str(comment).startswith("One row per ") for comment in found.values()), found
        made = "SELECT min(xmin::text) AS x FROM pg_class WHERE relnamespace = 'results'::regnamespace"
        before = transaction.query(made).item()
    with database.transaction() as transaction:
        adopt_graph(transaction, build(WATCHED))
        assert transaction.query(made).item() == before
