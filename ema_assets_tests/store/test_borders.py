"""Tests of the checks of frames that are passed to the store."""

from collections.abc import Callable

import polars as pl
import pytest

from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import (
    BAR_SCHEMA,
    COMPLETED_SCHEMA,
    GRAPH_ASSETS_SCHEMA,
    GRAPH_INPUTS_SCHEMA,
    SchemaMismatch,
)
from ema_assets.store import ledger, tables
from ema_assets.store.database import Database, Transaction
from ema_assets.strategies.trade_columns import STATE_COLUMNS
from ema_assets_tests.timeframes import M5

STATES = tables.Table("strategy_9_30_ema_state", "ts", STATE_COLUMNS)
STARTS = pl.DataFrame(schema={"symbol": pl.String(), "from_ts": pl.Datetime("us", "UTC")})


@pytest.mark.parametrize(
    ("hand_over", "said"),
    [
        (
            lambda t: tables.write_bars(t, M5, BAR_SCHEMA.to_frame().drop("volume"), "test"),
            "bars to be stored: `volume`",
        ),
        (
            lambda t: tables.write_computed(t, STATES, M5, pl.DataFrame(schema={"symbol": pl.String()}), STARTS),
            "rows of strategy_9_30_ema_state: `ts`",
        ),
        (
            lambda t: ledger.complete(t, OHLC, M5, COMPLETED_SCHEMA.to_frame().drop("dirty_end"), "1"),
            "completed series of ohlc: `dirty_end`",
        ),
        (
            lambda t: ledger.sync_assets(
                t, GRAPH_ASSETS_SCHEMA.to_frame(), GRAPH_INPUTS_SCHEMA.to_frame().drop("reads")
            ),
            "inputs of assets: `reads`",
        ),
        (
            lambda t: ledger.sync_assets(
                t, GRAPH_ASSETS_SCHEMA.to_frame().drop("is_on"), GRAPH_INPUTS_SCHEMA.to_frame()
            ),
            "assets: `is_on`",
        ),
    ],
)
def test_a_frame_with_a_missing_column_is_refused_and_the_column_is_named(
    database: Database, hand_over: Callable[[Transaction], object], said: str
) -> None:
    with database.transaction() as transaction, pytest.raises(SchemaMismatch, match=said):
        hand_over(transaction)
