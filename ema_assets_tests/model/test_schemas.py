"""Tests of the check of frames that one package passes to another."""

import re

import polars as pl
import pytest

from ema_assets.model.schemas import BAR_SCHEMA, CHANGE_SCHEMA, SchemaMismatch, check_frame


def test_a_frame_may_have_more_columns_in_any_order() -> None:
    frame = BAR_SCHEMA.to_frame().select(*reversed(BAR_SCHEMA.names()), extra=pl.lit(1))
    check_frame("bars", frame, BAR_SCHEMA)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            CHANGE_SCHEMA.to_frame().drop("written"),
            "changes: `written` must be Int64, received no such column; the columns are symbol, changed_from",
        ),
        (
            CHANGE_SCHEMA.to_frame().with_columns(pl.col("changed_from").dt.replace_time_zone(None)),
            (
                "changes: `changed_from` must be Datetime(time_unit='us', time_zone='UTC'), received "
                "Datetime(time_unit='us', time_zone=None); the columns are symbol, changed_from, written"
            ),
        ),
        (pl.DataFrame(), "changes: `symbol` must be String, received no such column"),
    ],
)
def test_a_mismatch_names_the_frame_what_was_received_and_what_is_expected(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(SchemaMismatch, match=re.escape(message)):
        check_frame("changes", frame, CHANGE_SCHEMA)
