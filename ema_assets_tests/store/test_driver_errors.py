"""Tests of how errors of the database are explained."""

import adbc_driver_manager
import pytest

from ema_assets.store.database import Database
from ema_assets.store.driver_errors import refusal

ADVICE = (
    "; the tables of a new signal, strategy or timeframe are created when the watchlist is synced: within seconds by "
    "`ema-assets up`, or by `ema-assets refresh`"
)


@pytest.mark.parametrize(
    ("table", "advice"),
    [("market.strategy_new_1h", ADVICE), ("market.ema_20_state", ADVICE), ("market.lost", ""), ("other.new_1h", "")],
)
def test_a_missing_table_of_a_new_asset_is_explained(database: Database, table: str, advice: str) -> None:
    with database.transaction() as transaction:
        transaction.execute("CREATE SCHEMA other")
    with pytest.raises(adbc_driver_manager.Error) as caught, database.transaction() as transaction:
        transaction.query(f"SELECT * FROM {table}")
    sentence = refusal(caught.value)
    assert sentence == f'the database or its driver refused: relation "{table}" does not exist{advice}'
