"""Tests of the cells of tables in Dagster's UI."""

from datetime import UTC, datetime

import polars as pl

from ema_assets.defs.ui_tables import ui_table


def test_times_are_short_and_missing_values_are_empty() -> None:
    opened = datetime(2026, 11, 25, 17, 30, tzinfo=UTC)
    rows = pl.DataFrame({"symbol": ["AAPL"], "first_ts": [opened], "next": [opened.replace(second=30)], "why": [None]})
    (record,) = ui_table(rows).records
    assert record.data == {
        "symbol": "AAPL",
        "first_ts": "2026-11-25 17:30",
        "next": "2026-11-25 17:30:30",
        "why": "",
    }
