"""The screener over all symbols: rows of the view `results.screener`, filtered and sorted. Writes nothing."""

from collections.abc import Mapping, Sequence

import polars as pl

from ema_assets.model.asset_names import EMA_TREND
from ema_assets.model.averages import FAST_SPAN, SLOW_SPAN
from ema_assets.model.symbols import UP
from ema_assets.model.timeframes import Timeframe
from ema_assets.store import ledger, results
from ema_assets.store.database import Transaction

# How far the next close must move against the trend to flip it, in percent; negative if an unchanged one flips it.
NEEDED_PCT = pl.when(pl.col("trend") == UP).then(-pl.col("cross_distance_pct")).otherwise(pl.col("cross_distance_pct"))

# The orders: the column, and whether its largest values come first.
SORTS: Mapping[str, tuple[str, bool]] = {
    "alignment": ("alignment", True),
    "atr": ("atr_pct", True),
    # Nearest to a cross: the smallest move of the price comes first.
    "cross": ("needed", False),
    "return": ("trade_return_pct", True),
    "rsi": ("rsi", True),
    "since": ("bars_since_cross", False),
    "spread": ("spread_pct", True),
    "stop": ("to_stop", False),
    "symbol": ("symbol", False),
}


def screen(  # noqa: PLR0913 - what one may ask, all by name
    transaction: Transaction,
    timeframe: Timeframe,
    *,
    symbols: Sequence[str] | None = None,
    trend: str | None = None,
    crossed_within: int | None = None,
    sort: str = "spread",
    reverse: bool = False,
    limit: int | None = None,
    strategy: str | None = None,
    averages: tuple[int, int] = (FAST_SPAN, SLOW_SPAN),
) -> pl.DataFrame:
    """Return rows of the screener of `averages` on `timeframe`, one per symbol; columns as in the view.

    `crossed_within` keeps rows whose trend flipped at most this number of bars ago. `sort` is one of SORTS; rows
    without a value come last, and equal ones are sorted by symbol. If `strategy` is given, the trades are its trades.
    """
    view = results.screener_view(averages).rpartition(".")[2]
    rows = results.select(transaction, view, timeframe.key, symbols)
    if strategy is not None:
        trades = results.open_trades(transaction, strategy, timeframe.key, symbols)
        rows = (
            rows.drop(*trades.columns[1:])
            .join(trades, on="symbol", how="left")
            .with_columns(
                stop_distance_pct=pl.when((pl.col("close") > 0) & (pl.col("stop_price") > 0)).then(
                    (pl.col("close") / pl.col("stop_price") - 1) * 100
                )
            )
            .select(rows.columns)
        )
    if trend is not None:
        rows = rows.filter(pl.col("trend") == trend)
    if crossed_within is not None:
        rows = rows.filter(pl.col("bars_since_cross") <= crossed_within)
    column, largest_first = SORTS[sort]
    rows = rows.with_columns(needed=NEEDED_PCT, to_stop=pl.col("stop_distance_pct").abs()).sort(
        column, "symbol", descending=[largest_first != reverse, False], nulls_last=True
    )
    rows = rows.drop("needed", "to_stop")
    return rows if limit is None else rows.head(limit)


def computed(transaction: Transaction, timeframe: Timeframe, trend: str = EMA_TREND) -> tuple[int, int, int]:
    """Return for how many symbols the `trend` on `timeframe` has been computed, and for how many it should be.

    The third number are the others, of which the provider has no bars.
    """
    found = ledger.summary(transaction).filter(asset=trend, timeframe=timeframe.key)
    series, missing, empty = (int(found[name].sum()) for name in ("series", "never_computed", "without_bars"))
    return series - missing - empty, series - empty, empty


def trends(row: Mapping[str, object], timeframes: Sequence[Timeframe]) -> str:
    """Return the trend on each of `timeframes`: one arrow each, a dot where there is none."""
    return "".join({"up": "↑", "down": "↓"}.get(str(row.get(f"trend_{each.sql_name}")), "·") for each in timeframes)


def screener_columns(timeframes: Sequence[Timeframe]) -> list[tuple[str, str, str]]:
    """Return the columns of `results.screener`, in their order: name, SQL type and meaning."""
    trends_on = [(f"trend_{each.sql_name}", "text", f"The trend on {each.key}") for each in timeframes]
    return [*_BEFORE_TRENDS, *trends_on, *_BEHIND_TRENDS]


_BEFORE_TRENDS = (
    ("symbol", "text", "Instrument, such as AAPL or BTC-USD"),
    ("timeframe", "text", "Length of the bar, such as 5m, 1h or 1d"),
    ("ts", "timestamptz", "Opening time of the newest bar, UTC"),
    ("close", "float8", "Its close"),
    ("trend", "text", "up or down, at that bar"),
    ("bars_since_cross", "int8", "Bars since the trend has flipped"),
    ("spread_pct", "float8", "EMA 9 less EMA 30, in percent of EMA 30"),
    ("ema_9", "float8", "EMA of 9 closes"),
    ("ema_30", "float8", "EMA of 30 closes"),
    ("cross_price", "float8", "The next close at which EMA 9 and EMA 30 would be equal"),
    ("cross_distance_pct", "float8", "How far it is from the last close, in percent"),
    ("alignment", "int8", "On how many timeframes the trend is up, less on how many it is down"),
)
_BEHIND_TRENDS = (
    ("rsi", "float8", "RSI at that bar; null when it is switched off"),
    ("atr_pct", "float8", "ATR in percent of the close; null when it is switched off"),
    ("trade_side", "text", "Side of the open trade of strategy_9_30_ema; null without one"),
    ("trade_since", "timestamptz", "When it was entered, UTC"),
    ("trade_price", "float8", "At which price"),
    ("trade_return_pct", "float8", "What it has returned so far, in percent"),
    ("stop_price", "float8", "Where its stop is now"),
    ("stop_distance_pct", "float8", "How far the last close is above the stop, in percent"),
    ("is_preliminary", "bool", "The provider may still change the bar, and all of this with it"),
    ("is_warming_up", "bool", "The averages have not converged yet"),
    ("silent_since", "timestamptz", "The last bar of a symbol that has no bars any more"),
)
