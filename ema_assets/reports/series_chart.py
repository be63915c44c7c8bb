"""The data of a series for an interactive chart: bars, averages, chosen signals, trades. Draws nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ema_assets.model.asset_names import EMA_SIGNALS
from ema_assets.model.errors import not_one_of
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.graph import Graph, Node
from ema_assets.reports.charted_bars import Averages, are_there, charted_bars, chosen_averages
from ema_assets.store import tables
from ema_assets.store.database import Transaction

MOST_BARS = 5_000
USUAL_BARS = 500

PERCENT, PERCENT_SUFFIX = "percent", "_pct"

_TRADE = (
    *("side", "entry_price", "entry_reason", "exit_ts", "exit_price", "exit_reason", "last_ts", "last_price"),
    *("return_pct", "net_return_pct", "bars_held", "stop_price", "stop_now", "target_price", "status"),
)
_OHLCV = ("open", "high", "low", "close", "volume", "fast", "slow")


@dataclass(frozen=True, slots=True)
class Line:
    """A column of a signal as it is drawn: over the bars when `on_price`, else in its signal's pane below them.

    `unit` is `percent` if the name of the column says so, else None: the unit of its signal. Lines with different units
    do not share a scale.
    """

    signal: str
    column: str
    on_price: bool
    unit: str | None

    @property
    def place(self) -> str:
        """The name of its column in `SeriesChart.bars`, with its signal because two signals may share column names."""
        return f"{self.signal}.{self.column}"


@dataclass(frozen=True, slots=True)
class SeriesChart:
    """The newest bars of a series, oldest first.

    Attributes:
        bars: ts, open, high, low, close, volume, fast, slow, and the `place` of each of `lines`.
        averages: the columns that `fast` and `slow` are.
        lines: the columns of the chosen signals.
        trades: entry_ts, side, entry_price, exit_ts, exit_price … of trades that reach into `bars`; oldest first.
        is_whole: False when the series has older bars.
    """

    bars: pl.DataFrame
    averages: Averages
    lines: tuple[Line, ...]
    trades: pl.DataFrame
    is_whole: bool


def drawable(graph: Graph) -> dict[str, tuple[Line, ...]]:
    """Return the lines of each signal that a chart can draw in addition to the averages, by the signal's name."""
    found = {node.name: _lines(node) for node in graph.computed if node.signal is not None}
    return {name: lines for name, lines in found.items() if lines and name != EMA_SIGNALS}


def _lines(node: Node) -> tuple[Line, ...]:
    assert node.signal is not None
    kinds = {column.name: column.kind for column in node.columns}
    shown = node.signal.shown or node.signal.column_names[:1]
    return tuple(line_of(node.name, name, node.signal.on_price) for name in shown if kinds[name] == "float8")


def line_of(signal: str, column: str, on_price: bool) -> Line:
    """Return how a column of a signal is drawn; `on_price` says that its columns are prices. Percentages never are."""
    is_share = column.endswith(PERCENT_SUFFIX)
    return Line(signal, column, on_price and not is_share, PERCENT if is_share else None)


def series_chart(
    transaction: Transaction,
    graph: Graph,
    symbol: str,
    timeframe: Timeframe,
    *,
    bars: int = USUAL_BARS,
    signals: Sequence[str] = (),
    strategy: str | None = None,
    averages: str | None = None,
) -> SeriesChart:
    """Return the newest `bars` bars of a series with their `signals`, and the trades of `strategy` in them.

    `averages` names two EMAs, such as `12/26`; the default is those that the strategy compares, else EMA 9 and 30.
    A series without bars gives empty frames. One more bar is read than is shown, to know whether there are more.

    Raises:
        ConfigurationError: when there is no such signal or strategy, or when nothing compares these averages.
    """
    known = drawable(graph)
    for name in signals:
        if name not in known:
            raise not_one_of("signals", name, known)
    if strategy is not None and strategy not in graph.strategies:
        raise not_one_of("strategy", strategy, graph.strategies)
    drawn = chosen_averages(graph, averages, strategy)
    if not tables.has_part(transaction, tables.BARS, timeframe):
        return _nothing(drawn)
    beside = drawn if are_there(transaction, graph, timeframe, drawn) else None
    found = charted_bars(transaction, timeframe, [symbol], bars + 1, beside)
    is_whole = found.height <= bars
    found = found.tail(bars).select("ts", *_OHLCV)
    lines: list[Line] = []
    for name in dict.fromkeys(signals):
        table = graph.nodes[name].table
        if not tables.has_part(transaction, table, timeframe):
            continue
        lines += known[name]
        columns = tuple(line.column for line in known[name])
        rows = tables.newest_rows(transaction, table, timeframe, [symbol], columns, bars + 1)
        rows = rows.select("ts", *(pl.col(line.column).alias(line.place) for line in known[name]))
        found = found.join(rows, on="ts", how="left", maintain_order="left")
    if strategy is None or found.is_empty():
        return SeriesChart(found, drawn, tuple(lines), _no_trades(), is_whole)
    trades = tables.newest_rows(transaction, graph.nodes[strategy].table, timeframe, [symbol], _TRADE, bars)
    return SeriesChart(found, drawn, tuple(lines), trades.filter(pl.col("last_ts") >= found["ts"][0]), is_whole)


def _no_trades() -> pl.DataFrame:
    return pl.DataFrame(schema=dict.fromkeys(("entry_ts", *_TRADE), pl.Null()))


def _nothing(averages: Averages) -> SeriesChart:
    bars = pl.DataFrame(schema=dict.fromkeys(("ts", *_OHLCV), pl.Null()))
    return SeriesChart(bars, averages, (), _no_trades(), is_whole=True)
