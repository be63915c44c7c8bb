"""What the catalog of the UI says about an asset before any run: its table, columns, owner and code."""

import inspect
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypedDict

from dagster import (
    BetaWarning,
    CodeReferencesMetadataValue,
    FreshnessPolicy,
    LocalFileCodeReference,
    TableColumn,
    TableColumnDep,
    TableColumnLineage,
    TableSchema,
)

import ema_assets
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.model.asset_names import CHAIN, ROWS_TAG
from ema_assets.refresh.graph import Node

OWNER = "team:ema-assets"
# The owner of a signal or a rule that lies in a folder of the user's.
_OWN = "team:yours"

# Dagster considers an asset fresh while any of its partitions is, and knows no calendar. No exchange is closed for as
# long as these limits: a long weekend takes five days, the longest holidays of Asia eleven. The check
# `series_are_fresh` names the series that are late on their own calendar.
_WARN_AFTER, _FAIL_AFTER = timedelta(days=5), timedelta(days=12)

_KEY = (
    TableColumn("symbol", "text", "Instrument, such as AAPL or BTC-USD"),
    TableColumn("timeframe", "text", "Length of the bar, such as 5m, 1h or 1d"),
)


class Filed(TypedDict):
    """Arguments of `dagster.asset` that say how an asset is filed."""

    owners: list[str]
    kinds: set[str]
    tags: dict[str, str]
    freshness_policy: FreshnessPolicy


def described(node: Node, source: Callable[..., object]) -> Filed:
    """Return owners, kinds, tags and the coarse freshness policy of the asset of `node`, whose rows `source` makes."""
    path = inspect.getsourcefile(inspect.unwrap(source))
    is_ours = path is not None and Path(path).is_relative_to(Path(ema_assets.__file__).parent)
    return {
        "owners": [OWNER if is_ours else _OWN],
        "kinds": {"postgres", "polars"},
        "tags": {ROWS_TAG: "trades" if node.variant is not None else "bars"}
        | ({"ema_assets/chain": ""} if node.name in CHAIN else {}),
        "freshness_policy": FreshnessPolicy.time_window(fail_window=_FAIL_AFTER, warn_window=_WARN_AFTER),
    }


def catalog_metadata(node: Node, source: Callable[..., object], namespace: Namespace = ALONE) -> dict[str, Any]:
    """Return the metadata of the asset of `node`, whose rows `source` makes."""
    found: dict[str, Any] = {
        "dagster/column_schema": TableSchema(
            [*_KEY, *(TableColumn(column.name, column.kind, column.description) for column in node.columns)]
        ),
        "dagster/table_name": f"market.{node.name}",
    }
    if node.reads:
        found["dagster/column_lineage"] = _column_lineage(node, namespace)
    written = inspect.unwrap(source)
    path = inspect.getsourcefile(written)
    if path is not None:
        line = written.__code__.co_firstlineno
        with warnings.catch_warnings():
            # Dagster marks this as beta and would print a warning per asset.
            warnings.simplefilter("ignore", BetaWarning)
            place = LocalFileCodeReference(file_path=path, line_number=line, label=Path(path).name)
            found["dagster/code_references"] = CodeReferencesMetadataValue(code_references=[place])
    return found


def _column_lineage(node: Node, namespace: Namespace) -> TableColumnLineage:
    """Return a lineage in which each column comes from all columns that are read: a declaration does not say which."""
    read = [TableColumnDep(namespace.key(asset), name) for asset, names in node.reads.items() for name in names]
    keys = {column.name: [TableColumnDep(namespace.key(asset), column.name) for asset in node.reads] for column in _KEY}
    return TableColumnLineage({**keys, **{column.name: read for column in node.columns}})
