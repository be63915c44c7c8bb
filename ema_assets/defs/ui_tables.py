"""Frames as the tables that the UI shows in metadata."""

import polars as pl
from dagster import MetadataValue, TableColumn, TableMetadataValue, TableRecord, TableSchema


def ui_table(rows: pl.DataFrame) -> TableMetadataValue:
    """`rows` as a table whose cells are texts."""
    records = [TableRecord({name: str(value) for name, value in row.items()}) for row in rows.iter_rows(named=True)]
    return MetadataValue.table(records, TableSchema([TableColumn(name, "string") for name in rows.columns]))
