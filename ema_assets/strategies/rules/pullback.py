"""The pullback rule: a stop order beyond the bar that pulled back, and a stop that trails behind later pullbacks."""

import numpy as np
import polars as pl

from ema_assets.model.asset_names import EMA_SIGNALS
from ema_assets.strategies.rule import BySide, Evaluation, Params, Rule
from ema_assets.strategies.simulator.bars import Bars
from ema_assets.strategies.simulator.book import Book
from ema_assets.strategies.simulator.layout import Ints, floats, signs
from ema_assets.strategies.simulator.orders import exit_by_signal, fill_beyond_price
from ema_assets.strategies.variant import Variant

# Marks: the side whose trend this close pulls back from, and whether both averages exist.
_PULLBACK, _IS_KNOWN = "pullback", "is_known"


def evaluate(bars: pl.DataFrame, _: Params) -> Evaluation:
    """The trend by the side on which EMA 9 lies of WMA 30, and whether each close pulls back from it."""
    close, fast, slow = floats(bars["close"]), floats(bars["ema_9"]), floats(bars["wma_30"])
    trend, pullback = signs(fast - slow), signs(fast - close)
    return Evaluation(
        direction=trend,
        entry=np.where(trend == pullback, trend, np.int8(0)),
        marks={_PULLBACK: pullback, _IS_KNOWN: ~(np.isnan(fast) | np.isnan(slow))},
    )


def at_close(bars: Bars, book: Book, start: int, end: int, variant: Variant) -> None:
    """Close the trades whose trend has ended, trail the stops of the others, then cancel, replace or place orders."""
    ranks = np.flatnonzero(book.side[: end - start])
    if ranks.size:
        rows = ranks + start
        has_ended = (bars.direction[rows] != book.side[ranks]) & bars.marks[_IS_KNOWN][rows]
        # A stop that moved with the close that ends its trade would never be in force.
        _trail(bars, book, ranks[~has_ended], rows[~has_ended])
        exit_by_signal(bars, book, ranks[has_ended], rows[has_ended], variant)
    count = end - start
    ordered = book.order_side[:count]
    cancelled = np.flatnonzero((ordered != 0) & (ordered != bars.allowed[start:end]))
    if cancelled.size:
        book.cancel(cancelled)
    ranks = np.flatnonzero((book.side[:count] == 0) & (bars.entry[start:end] != 0))
    if ranks.size:
        rows = ranks + start
        sides, high, low = bars.entry[rows], bars.high[rows], bars.low[rows]
        prices, stops = np.where(sides > 0, high, low), np.where(sides > 0, low, high)
        book.place_order(ranks, sides, bars.atr[rows], prices, stops)


def _trail(bars: Bars, book: Book, ranks: Ints, rows: Ints) -> None:
    """Move the stop of each open trade to the low or high of a bar that pulls back, never away from the price."""
    moves = bars.marks[_PULLBACK][rows] == book.side[ranks]
    if moves.any():
        ranks, rows = ranks[moves], rows[moves]
        stops = book.stop_now[ranks]
        book.stop_now[ranks] = np.where(
            book.side[ranks] > 0, np.maximum(stops, bars.low[rows]), np.minimum(stops, bars.high[rows])
        )


RULE = Rule(
    name="pullback",
    title="9/30 pullback",
    description=(
        "Enters when a bar trades beyond an earlier bar that closed on the wrong side of EMA 9 while the trend by "
        "WMA 30 lasts, exits when that trend ends."
    ),
    version="2",
    reads={EMA_SIGNALS: ("ema_9",), "wma": ("wma_30",)},
    evaluate=evaluate,
    fill_orders=fill_beyond_price,
    at_close=at_close,
    entry_reasons=BySide(long="pullback", short="pullback"),
    exit_reasons=BySide(long="trend_end", short="trend_end"),
    sets_stops=True,
    table="strategy_9_30_pullback",
)
