"""Frames as the tables that the UI shows in metadata."""

from datetime import datetime

import polars as pl
from dagster import MetadataValue, TableColumn, TableMetadataValue, TableRecord, TableSchema


def ui_table(rows: pl.DataFrame) -> TableMetadataValue:
    """Return `rows` as a table whose cells are strings; a cell without a value is empty."""
    records = [TableRecord({name: _cell(value) for name, value in row.items()}) for row in rows.iter_rows(named=True)]
    return MetadataValue.table(records, TableSchema([TableColumn(name, "string") for name in rows.columns]))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        # UTC, with seconds only when they are not zero: half the width of Python's default format.
        return f"{value:%Y-%m-%d %H:%M}" + (f":{value:%S}" if value.second else "")
    return str(value)
