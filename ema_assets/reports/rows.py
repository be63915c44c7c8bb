"""Results out of the store, as they are or as they stood at some moment."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from ema_assets.market import adjustment
from ema_assets.market.calendars import place, reach, with_trend_of
from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import KINDS
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.compute import side_by_side
from ema_assets.refresh.graph import Graph, Node
from ema_assets.store import action_facts, results, sessions, tables
from ema_assets.store.database import Transaction
from ema_assets.strategies.simulator.bars import known_trend
from ema_assets.strategies.simulator.simulation import simulate
from ema_assets.strategies.trade_columns import STATE_SCHEMA


def rows_of(
    transaction: Transaction,
    node: Node,
    timeframe: Timeframe,
    symbols: Sequence[str] | None,
    start: datetime | None,
    end: datetime | None,
) -> pl.DataFrame:
    """The stored rows of `node` from `start` to before `end` (None: all), sorted by symbol and time.

    Columns: symbol, the time column of the table's key, its values.
    """
    return tables.read_range(transaction, node.table, timeframe, symbols, start, end)


def with_preliminary(
    transaction: Transaction, rows: pl.DataFrame, timeframe: Timeframe, symbols: Sequence[str] | None, ts: str
) -> pl.DataFrame:
    """`rows` with `is_preliminary`: the bar at the column `ts`, on which the row rests, may still change."""
    since = results.preliminary_since(transaction, timeframe, symbols)
    return (
        rows.join(since, on="symbol", how="left", maintain_order="left")
        .with_columns(is_preliminary=(pl.col(ts) >= pl.col("since")).fill_null(False))
        .drop("since")
    )


def adjusted_bars(
    transaction: Transaction,
    timeframe: Timeframe,
    symbols: Sequence[str] | None,
    start: datetime | None,
    end: datetime | None,
    adjust: str,
) -> pl.DataFrame:
    """The stored bars as `rows_of` gives them, with other corporate actions allowed for: one of ADJUSTMENTS."""
    bars = tables.read_range(transaction, tables.BARS, timeframe, symbols, start, end)
    if adjust == adjustment.SPLITS:
        return bars
    applied = action_facts.applied(transaction, timeframe, symbols)
    if adjust == adjustment.NONE:
        return adjustment.adjusted(bars, adjustment.undoing(applied))
    dividends = action_facts.dividends(transaction, timeframe, symbols)
    return adjustment.adjusted(bars, adjustment.of_dividends(dividends, applied))


def rows_as_of(
    transaction: Transaction,
    graph: Graph,
    asset: str,
    timeframe: Timeframe,
    symbols: Sequence[str] | None,
    moment: datetime,
) -> pl.DataFrame:
    """All rows of `asset` as they stood at `moment`, sorted by symbol and time; columns as `rows_of`.

    Bars are what was stored then, later corrections undone. Everything else is computed from them by the code of today:
    it is what the tables held once the bars known at `moment` had been computed, which takes seconds.
    """
    return _AsOf(transaction, graph, symbols, moment).rows(asset, timeframe)


class _AsOf:
    """What was known at a moment; each asset is computed once for all that read it."""

    def __init__(self, transaction: Transaction, graph: Graph, symbols: Sequence[str] | None, moment: datetime) -> None:
        self._transaction = transaction
        self._graph = graph
        self._symbols = symbols
        self._moment = moment
        self._known: dict[tuple[str, Timeframe], pl.DataFrame] = {}

    def rows(self, asset: str, timeframe: Timeframe) -> pl.DataFrame:
        if (asset, timeframe) not in self._known:
            node = self._graph.nodes[asset]
            compute = self._signal if node.signal is not None else self._trades
            self._known[asset, timeframe] = (
                tables.bars_as_of(self._transaction, timeframe, self._symbols, self._moment)
                if asset == OHLC
                else compute(node, timeframe)
            )
        return self._known[asset, timeframe]

    def _signal(self, node: Node, timeframe: Timeframe) -> pl.DataFrame:
        assert node.signal is not None
        bars = self._inputs(node, timeframe).with_columns(is_new=pl.lit(True))
        if node.signal.has_sessions:
            bars = self._placed(bars, timeframe).drop("calendar", "ts_end", "is_session_last")
        kinds = {column.name: column.kind for column in node.columns}
        nothing = {"symbol": pl.String(), **{name: KINDS[kinds[name]] for name in node.signal.carries}}
        return node.signal.compute(bars, pl.DataFrame(schema=nothing), node.params)

    def _trades(self, node: Node, timeframe: Timeframe) -> pl.DataFrame:
        assert node.variant is not None
        variant = node.variant.on(timeframe)
        bars = self._placed(self._inputs(node, timeframe), timeframe)
        if (higher := variant.higher_timeframe) is not None:
            trend = self._placed(self.rows(variant.trend, higher), higher)
            bars = with_trend_of(bars, trend.select("symbol", "ts_end", known_trend(variant)))
        return simulate(bars, pl.DataFrame(schema={"symbol": pl.String(), **STATE_SCHEMA}), variant).trades

    def _inputs(self, node: Node, timeframe: Timeframe) -> pl.DataFrame:
        parts = [
            self.rows(source, timeframe).select("symbol", "ts", *columns) for source, columns in node.reads.items()
        ]
        return side_by_side(parts)

    def _placed(self, bars: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
        calendars = sessions.calendars_of(self._transaction, bars["symbol"].unique().to_list())
        first, around = bars["ts"].min(), reach(timeframe)
        trading = sessions.between(
            self._transaction,
            calendars["calendar"].unique().to_list(),
            (first if isinstance(first, datetime) else self._moment) - around,
            self._moment + around,
        )
        return place(bars.join(calendars, on="symbol", how="left", maintain_order="left"), timeframe, trading)
