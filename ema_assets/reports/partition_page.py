"""What a trader reads on the page of a partition: newest values, the open trade, a chart. Writes nothing."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.prices import percent_text, price_text
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.graph import Node
from ema_assets.reports.charted_bars import averages_of, charted_bars
from ema_assets.reports.small_chart import BARS, small_chart
from ema_assets.signals.declaration import Signal
from ema_assets.store import tables
from ema_assets.store.database import Transaction
from ema_assets.strategies.trade_columns import OPEN

# The most charts per batch. A backfill of thousands of partitions is looked at as a whole, not chart by chart.
MOST_CHARTS = 100

_TRADE = ("side", "entry_price", "exit_ts", "exit_price", "exit_reason", "return_pct", "stop_now", "status")
# At least as many trades as fit into the bars of a chart, if each lasts at least one bar.
_MARKED_TRADES = BARS


def newest_rows(transaction: Transaction, node: Node, timeframe: Timeframe, symbols: Sequence[str]) -> pl.DataFrame:
    """Return the newest row of each symbol, with the columns that the functions below read; empty for bars."""
    if node.variant is not None:
        return tables.newest_rows(transaction, node.table, timeframe, symbols, _TRADE)
    if node.signal is None:
        return pl.DataFrame(schema={"symbol": pl.String()})
    return tables.newest_rows(transaction, node.table, timeframe, symbols, (*_shown(node.signal), *_flips(node)))


def newest_values(node: Node, newest: pl.DataFrame, symbols: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the values to show from `newest`, by symbol and name; values that are null are left out.

    For a signal: its `shown` columns. For a strategy: `open_trade` in words; while one is open, `open_trade_pct` before
    costs, else `last_trade` in words. Numbers are rounded to eight significant digits, times are text in UTC.
    """
    rows = newest.iter_rows(named=True)
    if node.variant is not None:
        found = {str(trade["symbol"]): _said_of(trade) for trade in rows}
        return {symbol: found.get(symbol, {"open_trade": "none so far"}) for symbol in symbols}
    shown = () if node.signal is None else _shown(node.signal)
    return {str(row["symbol"]): {name: _rounded(row[name]) for name in shown if row[name] is not None} for row in rows}


def _shown(signal: Signal) -> tuple[str, ...]:
    return signal.shown or signal.column_names[:1]


def _flips(node: Node) -> tuple[str, ...]:
    return ("crossover",) if _is_trend(node) else ()


def _is_trend(node: Node) -> bool:
    return node.table.flips == tables.CROSSOVERS


def _said_of(trade: Mapping[str, Any]) -> dict[str, Any]:
    entered = f"{trade['side']} since {_at(trade['entry_ts'])} at {price_text(trade['entry_price'])}"
    if trade["status"] == OPEN:
        stop = "" if trade["stop_now"] is None else f", stop {price_text(trade['stop_now'])}"
        made = {} if trade["return_pct"] is None else {"open_trade_pct": _rounded(trade["return_pct"])}
        return {"open_trade": entered + stop, **made}
    made_pct = "" if trade["return_pct"] is None else f", {percent_text(trade['return_pct'])}"
    until = f"{_at(trade['exit_ts'])} at {price_text(trade['exit_price'])}"
    said = f"{entered.replace(' since ', ' from ')} to {until} ({trade['exit_reason']}){made_pct}"
    return {"open_trade": "none", "last_trade": said}


def _rounded(value: Any) -> Any:
    if isinstance(value, datetime):  # of a user's signal; Dagster refuses times that are no text
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    return float(f"{value:.8g}") if isinstance(value, float) else value


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def events(node: Node, newest: pl.DataFrame, last: Mapping[str, datetime | None]) -> set[str]:
    """Return the symbols in whose newest bar (opening at `last`) the trend flipped or a trade was entered or closed."""
    if node.variant is not None:
        times = newest.select("symbol", "entry_ts", "exit_ts").iter_rows()
        return {symbol for symbol, *moments in times if last[symbol] is not None and last[symbol] in moments}
    if _is_trend(node):
        return set(newest.filter(pl.col("crossover").is_not_null())["symbol"])
    return set()


def charts(transaction: Transaction, node: Node, timeframe: Timeframe, symbols: Collection[str]) -> dict[str, str]:
    """Return Markdown with a small chart for each of `symbols` that has bars; only for the trend and for strategies.

    A chart shows candles, the averages that the asset is computed from, and the strategy's entries and exits.
    """
    if not symbols or (node.variant is None and not _is_trend(node)):
        return {}
    chosen = sorted(symbols)[:MOST_CHARTS]
    bars = charted_bars(transaction, timeframe, chosen, BARS, averages_of(node))
    trades: dict[tuple[object, ...], pl.DataFrame] = {}
    if node.variant is not None:
        rows = tables.newest_rows(transaction, node.table, timeframe, chosen, ("exit_ts",), _MARKED_TRADES)
        trades = rows.partition_by("symbol", as_dict=True)
    found = {}
    for (symbol,), mine in bars.partition_by("symbol", as_dict=True).items():
        mine_trades = trades.get((symbol,))
        entries, exits = (
            ([], []) if mine_trades is None else (_rows_at(mine, mine_trades[name]) for name in ("entry_ts", "exit_ts"))
        )
        found[str(symbol)] = small_chart(f"{symbol} {timeframe.key}", mine, entries, exits)
    return found


def _rows_at(bars: pl.DataFrame, times: pl.Series) -> list[int]:
    """Return the row numbers of `bars` whose ts is among `times`."""
    return bars.with_row_index().filter(pl.col("ts").is_in(times.drop_nulls().to_list()))["index"].to_list()


def row_counts(transaction: Transaction, node: Node, timeframe: Timeframe, symbols: Sequence[str]) -> dict[str, int]:
    """Return how many rows each of `symbols` has."""
    return tables.row_counts(transaction, node.table, timeframe, symbols)


def remark(node: Node, last: datetime | None, *, is_served: bool = True) -> str | None:
    """Return the remark on a series that has no rows or is not served; None when all is well.

    `last` is the time of its newest row. A series is not served when its whole history was requested and no bar came.
    """
    if node.name == OHLC and last is not None and not is_served:
        return "the provider returned no bars; what is stored stays as it was"
    if last is not None:
        return None
    if node.name == OHLC:
        return "the provider returned no bars for this series"
    return f"no rows: there are none of {node.main_input} on this series"
