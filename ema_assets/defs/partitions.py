"""The partitions that every asset shares: symbol by timeframe. Both follow the watchlist, symbols without a reload."""

from dagster import MultiPartitionsDefinition, StaticPartitionsDefinition

from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.refresh.graph import Graph

SYMBOLS = ALONE.symbols


def series_of(graph: Graph, namespace: Namespace = ALONE) -> MultiPartitionsDefinition:
    """Return the partitions of every asset of `graph`, such as `AAPL|5m`.

    A symbol whose group has fewer timeframes than others has partitions that stay empty: they are materialized only
    when a person chooses them.
    """
    timeframes = StaticPartitionsDefinition([timeframe.key for timeframe in graph.with_bars])
    return MultiPartitionsDefinition({"symbol": namespace.symbols, "timeframe": timeframes})
