"""The newest bars with two averages, as small and large charts show them. Draws nothing."""

from collections.abc import Sequence

import polars as pl

from ema_assets.model.asset_names import EMA_SIGNALS, EMA_TREND
from ema_assets.model.averages import (
    FAST_SPAN,
    SLOW_SPAN,
    asset_of,
    ema_name,
    spans_of,
    spans_text,
    trend_spans,
    wma_name,
)
from ema_assets.model.errors import not_one_of
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.graph import Graph, Node
from ema_assets.signals.ema_trend import ema_trend
from ema_assets.store import tables
from ema_assets.store.database import Transaction

# The columns of the faster and the slower average.
Averages = tuple[str, str]
USUAL: Averages = (ema_name(FAST_SPAN), ema_name(SLOW_SPAN))


def averages_of(node: Node) -> Averages | None:
    """Return the averages to draw for `node`: those of its own spans, else EMA 9 and 30; None if it reads neither."""
    reads = node.reads if node.variant is None else node.variant.rule_reads
    columns = [column for asset in reads for column in reads[asset]]
    if node.variant is not None and (spans := trend_spans(node.variant.trend)) != (FAST_SPAN, SLOW_SPAN):
        assert spans is not None
        slow = wma_name(spans[1])
        return ema_name(spans[0]), slow if slow in columns else ema_name(spans[1])
    if node.table.flips == tables.CROSSOVERS and (spans := trend_spans(node.name)) is not None:
        return ema_name(spans[0]), ema_name(spans[1])
    return USUAL if {EMA_SIGNALS, EMA_TREND} & node.reads.keys() else None


def chosen_averages(graph: Graph, named: str | None, strategy: str | None) -> Averages:
    """Return the averages to draw: those `named`, such as `12/26`, else those of `strategy`, else EMA 9 and 30.

    Raises:
        ConfigurationError: when no strategy compares the named ones.
    """
    if named is None:
        return USUAL if strategy is None else averages_of(graph.nodes[strategy]) or USUAL
    known, spans = dict.fromkeys((spans_text((FAST_SPAN, SLOW_SPAN)), *graph.averages)), spans_of(named)
    if spans is None or named not in known:
        raise not_one_of("averages", named, known)
    return ema_name(spans[0]), ema_name(spans[1])


def are_there(transaction: Transaction, graph: Graph, timeframe: Timeframe, averages: Averages) -> bool:
    """Return whether `averages` are on and have been computed on `timeframe`."""
    return all(
        graph.has(asset) and tables.has_part(transaction, graph.nodes[asset].table, timeframe)
        for asset in map(asset_of, averages)
    )


def label_of(average: str) -> str:
    """Return the label of a column with an average in a legend: `EMA 9`."""
    return average.upper().replace("_", " ")


def newest_spread(bars: pl.DataFrame) -> float | None:
    """Return how far `fast` is from `slow` at the newest of `bars`, in percent; None where `ema_trend` has none."""
    averages = bars.tail(1).select(
        "ts", "fast", "slow", symbol=pl.lit(""), trend=pl.lit(None), bars_since_cross=pl.lit(None), bar_number=pl.lit(0)
    )
    spread: float | None = ema_trend(averages, averages.clear(), "fast", "slow")["spread_pct"].item()
    return spread


def charted_bars(
    transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str], rows: int, averages: Averages | None
) -> pl.DataFrame:
    """Return the newest `rows` bars of each symbol: symbol, ts, a bar's values, `fast` and `slow`.

    Sorted by symbol and ts. Without averages, such as when they are switched off, `fast` and `slow` are null.
    """
    bars = tables.newest_rows(transaction, tables.BARS, timeframe, symbols, tables.BARS.values, rows)
    if averages is None:
        return bars.with_columns(fast=pl.lit(None, pl.Float64), slow=pl.lit(None, pl.Float64))
    named = dict(zip(averages, ("fast", "slow"), strict=True))
    for asset in dict.fromkeys(map(asset_of, averages)):
        columns = tuple(column for column in averages if asset_of(column) == asset)
        found = tables.newest_rows(transaction, tables.Table(asset, "ts"), timeframe, symbols, columns, rows)
        bars = bars.join(found.rename(named, strict=False), on=["symbol", "ts"], how="left", maintain_order="left")
    return bars
