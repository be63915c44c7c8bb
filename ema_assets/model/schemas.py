"""The kinds of column that tables have, by the names that Postgres gives them, and what polars calls each."""

from collections.abc import Mapping

import polars as pl

UTC_TIME = pl.Datetime("us", "UTC")

KINDS: Mapping[str, pl.DataType] = {
    "float8": pl.Float64(),
    "int8": pl.Int64(),
    "int2": pl.Int16(),
    "text": pl.String(),
    "boolean": pl.Boolean(),
    "timestamptz": UTC_TIME,
}
