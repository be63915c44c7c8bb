"""What the catalog of the UI says of an asset before any run: its table, its columns, and where its code is."""

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dagster import BetaWarning, CodeReferencesMetadataValue, LocalFileCodeReference, TableColumn, TableSchema

from ema_assets.refresh.graph import Node

_KEY = (
    TableColumn("symbol", "text", "Instrument, such as AAPL or BTC-USD"),
    TableColumn("timeframe", "text", "Length of the bar, such as 5m, 1h or 1d"),
)


def catalog_metadata(node: Node, source: Callable[..., object]) -> dict[str, Any]:
    """The metadata of the asset of `node`, whose rows `source` makes."""
    found: dict[str, Any] = {
        "dagster/column_schema": TableSchema(
            [*_KEY, *(TableColumn(column.name, column.kind, column.description) for column in node.columns)]
        ),
        "dagster/table_name": f"market.{node.name}",
    }
    path = inspect.getsourcefile(source)
    if path is not None:
        line = inspect.unwrap(source).__code__.co_firstlineno
        with warnings.catch_warnings():
            # Beta to Dagster, and to users one line per asset.
            warnings.simplefilter("ignore", BetaWarning)
            place = LocalFileCodeReference(file_path=path, line_number=line, label=Path(path).name)
            found["dagster/code_references"] = CodeReferencesMetadataValue(code_references=[place])
    return found
