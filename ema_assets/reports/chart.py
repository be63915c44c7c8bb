"""A large chart of one series: candles, averages, trades with their stops, volume. Drawn by matplotlib, on demand.

matplotlib is an extra (`ema-assets[chart]`): it takes 45 MB and a second to import, which runs must not pay. It has
been maintained for twenty years and writes PNG, SVG and PDF without a browser, which Plotly and Altair need or bundle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from ema_assets.model.errors import ConfigurationError, not_one_of
from ema_assets.model.prices import price_text
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.graph import Graph
from ema_assets.reports.charted_bars import USUAL, Averages, are_there, charted_bars, chosen_averages, label_of
from ema_assets.store import tables
from ema_assets.store.database import Transaction
from ema_assets.strategies.trade_columns import LONG

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
MOST_BARS = 2_000
USUAL_BARS = 150
_UP, _DOWN, _FAST, _SLOW, _STOP = "#00897b", "#e53935", "#fb8c00", "#5e35b1", "#9e9e9e"
_TIMES_SHOWN = 8
# The room for this many bars is shown, also where there are fewer.
_LEAST_PLACES = 30
_LEGEND_HEIGHT = 0.08  # as a share of the height of the prices
_TRADE = (
    *("side", "entry_price", "exit_ts", "exit_price", "last_ts", "last_price"),
    *("stop_price", "stop_now", "return_pct"),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """The data of one series that a chart shows.

    Attributes:
        bars: symbol, ts, open, high, low, close, volume, fast, slow; oldest first, at least one row.
        trades: entry_ts, side, entry_price, exit_ts, exit_price, last_ts, last_price, stop_price, stop_now, return_pct;
            trades that lie at least partly within `bars`.
        averages: the columns that `fast` and `slow` are.
    """

    symbol: str
    timeframe: Timeframe
    bars: pl.DataFrame
    trades: pl.DataFrame
    strategy: str | None
    averages: Averages = USUAL


def picture_of(
    transaction: Transaction,
    graph: Graph,
    symbol: str,
    timeframe: Timeframe,
    bars: int = USUAL_BARS,
    strategy: str | None = None,
    averages: str | None = None,
) -> Picture:
    """Return the newest `bars` stored bars of a series, and the trades of `strategy` in them.

    `averages` names two EMAs, such as `12/26`; the default is those that the strategy compares. The default of
    `strategy` is the first one that compares `averages`, or else the first one.

    Raises:
        ConfigurationError: when there is no bar, no such strategy, or nothing compares these averages.
    """
    if strategy is not None and strategy not in graph.strategies:
        raise not_one_of("strategy", strategy, graph.strategies)
    name = strategy or _first_strategy(graph, averages)
    drawn = chosen_averages(graph, averages, name)
    if not tables.has_part(transaction, tables.BARS, timeframe):
        raise ConfigurationError(f"there are no bars on {timeframe.key}: it was never on")
    beside = drawn if are_there(transaction, graph, timeframe, drawn) else None
    found = charted_bars(transaction, timeframe, [symbol], bars, beside)
    if found.is_empty():
        raise ConfigurationError(f"there are no bars of {symbol} on {timeframe.key} yet; `ema-assets status` says why")
    if name is None:
        trades = pl.DataFrame(schema=dict.fromkeys(("entry_ts", *_TRADE), pl.Null()))
    else:
        table = graph.nodes[name].table
        trades = tables.newest_rows(transaction, table, timeframe, [symbol], _TRADE, bars)
        trades = trades.filter(pl.col("last_ts") >= found["ts"][0])
    return Picture(symbol, timeframe, found, trades, name, drawn)


def _first_strategy(graph: Graph, averages: str | None) -> str | None:
    compared = None if averages is None else graph.averages.get(averages)
    variants = {name: graph.nodes[name].variant for name in graph.strategies}
    fitting = (name for name, variant in variants.items() if variant is not None and variant.trend == compared)
    return next(fitting, None) or next(iter(variants), None)


def draw(picture: Picture, note: str = "") -> "Figure":
    """Return the chart as a matplotlib figure, to be written by `savefig`.

    `note` is added to the title, for example that prices are synthetic. One step to the right is one bar: nights and
    weekends take no space.

    Raises:
        ConfigurationError: when matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigurationError("charts are drawn by matplotlib: pip install 'ema-assets[chart]'") from None
    figure = Figure(figsize=(14, 8), layout="constrained")
    prices, volumes = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    _draw_candles(prices, picture.bars)
    _draw_averages(prices, picture)
    for trade in picture.trades.iter_rows(named=True):
        _draw_trade(prices, picture.bars["ts"].to_list(), trade)
    _draw_volume(volumes, picture.bars)
    _name_axes(prices, volumes, picture, note)
    return figure


def _colors(bars: pl.DataFrame) -> list[str]:
    return [_UP if close >= opened else _DOWN for opened, close in bars.select("open", "close").iter_rows()]


def _draw_candles(axes: "Axes", bars: pl.DataFrame) -> None:
    places, colors = range(bars.height), _colors(bars)
    axes.vlines(places, bars["low"].to_list(), bars["high"].to_list(), colors=colors, linewidth=0.8)
    bodies = bars.select(low=pl.min_horizontal("open", "close"), size=(pl.col("close") - pl.col("open")).abs())
    axes.bar(places, bodies["size"].to_list(), 0.7, bodies["low"].to_list(), color=colors, edgecolor=colors)
    # A bar whose price did not move still has a body.
    left, right = [at - 0.35 for at in places], [at + 0.35 for at in places]
    axes.hlines(bars["close"].to_list(), left, right, colors=colors, linewidth=0.8)


def _draw_averages(axes: "Axes", picture: Picture) -> None:
    bars = picture.bars
    for name, color, column in zip(("fast", "slow"), (_FAST, _SLOW), picture.averages, strict=True):
        if bars[name].null_count() < bars.height:
            values = [float("nan") if value is None else value for value in bars[name]]
            axes.plot(range(bars.height), values, color=color, linewidth=1.4, label=label_of(column))


def _draw_trade(axes: "Axes", times: Sequence[datetime], trade: Mapping[str, Any]) -> None:
    """Draw entry, path and exit of a trade, and its stops at entry and now; an earlier entry is at the first bar."""
    begin = _place(times, trade["entry_ts"])
    end = _place(times, trade["last_ts"]) or 0
    is_long = trade["side"] == LONG
    # By prices: a trade at prices of zero or less has no return in percent.
    gained = trade["last_price"] - trade["entry_price"]
    color = _UP if (gained if is_long else -gained) >= 0 else _DOWN
    first = 0 if begin is None else begin
    axes.plot([first, end], [trade["entry_price"], trade["last_price"]], color=color, linewidth=1.2, linestyle="--")
    if begin is not None:
        marker = "^" if is_long else "v"
        axes.plot([begin], [trade["entry_price"]], marker, color=color, markersize=9)
    if trade["exit_ts"] is not None:
        axes.plot([end], [trade["exit_price"]], "x", color=color, markersize=9, markeredgewidth=2)
    for stop in dict.fromkeys((trade["stop_price"], trade["stop_now"])):
        if isinstance(stop, float):
            axes.hlines([stop], [first - 0.5], [end + 0.5], colors=_STOP, linewidth=1, linestyles=":")


def _place(times: Sequence[datetime], moment: datetime) -> int | None:
    """Return the position of the bar at `moment`; None when there is none, as before the first bar."""
    return times.index(moment) if moment in times else None


def _draw_volume(axes: "Axes", bars: pl.DataFrame) -> None:
    axes.bar(range(bars.height), bars["volume"].fill_null(0).to_list(), 0.7, color=_colors(bars), alpha=0.6)
    axes.set_ylabel("volume")
    axes.yaxis.set_major_formatter(lambda volume, _: _volume_text(volume))
    if not any(bars["volume"]):
        # An axis of its own choice would go below zero.
        axes.set_ylim(0, 1)
        axes.set_yticks([0])


def _volume_text(volume: float) -> str:
    """Return a volume of an axis as 250M, not as 0.25 below a power of ten."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if volume >= size:
            return f"{volume / size:g}{letter}"
    return f"{volume:g}"


def _name_axes(prices: "Axes", volumes: "Axes", picture: Picture, note: str) -> None:
    bars, timeframe = picture.bars, picture.timeframe
    form = "%Y-%m-%d" if not timeframe.is_intraday else "%m-%d %H:%M"
    step = max(bars.height // _TIMES_SHOWN, 1)
    places = range(bars.height - 1, -1, -step)
    volumes.set_xticks(list(places), [f"{bars['ts'][place]:{form}}" for place in places])
    if bars.height < _LEAST_PLACES:
        # A candle as wide as the picture is none. The newest bar is on the right, as with many bars.
        prices.set_xlim(bars.height - _LEAST_PLACES - 0.5, bars.height - 0.5)
    volumes.set_xlabel("opening time of the bar, UTC")
    last = bars.row(-1, named=True)
    told = [f"{picture.symbol} {timeframe.key}"]
    told.append(f"bar of {last['ts']:%Y-%m-%d %H:%M} UTC, close {price_text(last['close'])}")
    if picture.strategy is not None:
        told.append(f"trades of {picture.strategy}")
    # Dollar signs would begin a formula.
    prices.set_title("  ·  ".join([*told, *([note] if note else [])]).replace("$", r"\$"), loc="left")
    prices.yaxis.set_major_formatter(lambda price, _: price_text(price))
    prices.grid(alpha=0.25)
    prices.margins(x=0.01)
    if prices.get_legend_handles_labels()[0]:
        # One line above the highest price, where it covers no candle.
        low, high = prices.get_ylim()
        prices.set_ylim(low, high + _LEGEND_HEIGHT * (high - low))
        prices.legend(loc="upper left", ncols=2)
