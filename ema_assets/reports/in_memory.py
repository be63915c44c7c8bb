"""Signals and trades computed in memory from bars that the caller has read. Reads no database, stores nothing."""

from collections.abc import Callable, Collection
from dataclasses import replace

import polars as pl

from ema_assets.market.calendars import with_trend_of
from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import KINDS
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.compute import side_by_side
from ema_assets.refresh.graph import Graph, Node
from ema_assets.strategies.simulator.bars import IS_SHUT, known_trend
from ema_assets.strategies.simulator.simulation import simulate
from ema_assets.strategies.trade_columns import SESSION_END, STATE_SCHEMA, WINDOW_END

_NO_STATES = pl.DataFrame(schema={"symbol": pl.String(), **STATE_SCHEMA})


class InMemory:
    """The assets of a graph, each computed once for all its readers: the rows that a full recomputation would store."""

    def __init__(
        self,
        graph: Graph,
        bars: Callable[[Timeframe], pl.DataFrame],
        placed: Callable[[pl.DataFrame, Timeframe], pl.DataFrame],
    ) -> None:
        """Compute from `bars`, which returns symbol, ts and the values of bars of a timeframe, sorted.

        `placed` adds the columns of `calendars.place` to bars, and the column `calendar`.
        """
        self._graph = graph
        self._bars = bars
        self._placed = placed
        self._known: dict[tuple[str, Timeframe], pl.DataFrame] = {}

    def rows(self, asset: str, timeframe: Timeframe) -> pl.DataFrame:
        """Return all rows of `asset`, sorted by symbol and time: symbol, the time column of its table, its values."""
        if (asset, timeframe) not in self._known:
            self._known[asset, timeframe] = self._computed(asset, timeframe)
        return self._known[asset, timeframe]

    def traded_bars(self, strategy: str, timeframe: Timeframe) -> pl.DataFrame:
        """Return the bars that `simulate` reads for `strategy`, with their inputs, one row per bar."""
        node = self._graph.nodes[strategy]
        assert node.variant is not None
        variant = node.variant.on(timeframe)
        bars = self._inputs(node, timeframe)
        if variant.reads_sessions:
            bars = self._placed(bars, timeframe)
        if (higher := variant.higher_timeframe) is not None:
            trend = self._placed(self.rows(variant.trend, higher), higher)
            bars = with_trend_of(bars, trend.select("symbol", "ts_end", known_trend(variant)))
        return bars

    def trades(
        self, strategy: str, timeframe: Timeframe, bars: pl.DataFrame, *, leaves_nothing_open: bool = False
    ) -> pl.DataFrame:
        """Return the trades of `strategy` on `bars`, all or some of its `traded_bars`; it begins without a trade.

        With `leaves_nothing_open`, a trade that is open at the last close of a symbol is closed there, and none begins
        at that close.
        """
        variant = self._graph.nodes[strategy].variant
        assert variant is not None
        variant = variant.on(timeframe)
        if not leaves_nothing_open:
            return simulate(bars, _NO_STATES, variant).trades
        is_last = pl.col("ts") == pl.col("ts").last().over("symbol")
        ends = pl.lit(value=False)
        if variant.exit_at_session_end:
            ends = pl.col("is_session_last").fill_null(value=False)
        else:
            # Make all bars of a symbol one session for the simulator: no trade outlives a session.
            bars = bars.with_columns(session=pl.col("ts").first().over("symbol"))
        last = bars.filter(is_last & ~ends).select("symbol", exit_ts="ts", is_forced=pl.lit(value=True))
        bars = bars.with_columns(ends.alias(IS_SHUT), is_session_last=ends | is_last)
        trades = simulate(bars, _NO_STATES, replace(variant, exit_at_session_end=True)).trades
        is_forced = pl.col("is_forced") & (pl.col("exit_reason") == SESSION_END)
        return (
            trades.join(last, on=["symbol", "exit_ts"], how="left", maintain_order="left")
            .with_columns(exit_reason=pl.when(is_forced).then(pl.lit(WINDOW_END)).otherwise("exit_reason"))
            .drop("is_forced")
        )

    def forget(self, assets: Collection[str]) -> None:
        """Drop the rows of `assets` from memory: they are computed again when they are needed."""
        self._known = {key: rows for key, rows in self._known.items() if key[0] not in assets}

    def _computed(self, asset: str, timeframe: Timeframe) -> pl.DataFrame:
        if asset == OHLC:
            return self._bars(timeframe)
        node = self._graph.nodes[asset]
        if node.signal is None:
            return self.trades(asset, timeframe, self.traded_bars(asset, timeframe))
        bars = self._inputs(node, timeframe).with_columns(is_new=pl.lit(True))
        if node.signal.has_sessions:
            bars = self._placed(bars, timeframe).drop("calendar", "ts_end", "is_session_last")
        kinds = {column.name: column.kind for column in node.columns}
        nothing = {"symbol": pl.String(), **{name: KINDS[kinds[name]] for name in node.signal.carries}}
        return node.signal.compute(bars, pl.DataFrame(schema=nothing), node.params)

    def _inputs(self, node: Node, timeframe: Timeframe) -> pl.DataFrame:
        parts = [
            self.rows(source, timeframe).select("symbol", "ts", *columns) for source, columns in node.reads.items()
        ]
        return side_by_side(parts)
