"""How orders are filled, and how a rule enters and exits. General to all rules.

All functions work on the series `ranks` of one step. `rows` are the places of their bars.
"""

import numpy as np

from ema_assets.strategies.simulator.bars import Bars
from ema_assets.strategies.simulator.book import AT_CLOSE, AT_OPEN, AT_ORDER, BY_SIGNAL, Book
from ema_assets.strategies.simulator.layout import Ints
from ema_assets.strategies.variant import Variant


def fill_at_open(bars: Bars, book: Book, start: int, end: int) -> None:
    """Fill the orders of the close before at the open of the bars from `start` to `end`.

    On the last bar of a session that trades end with, an order is cancelled instead.
    """
    ranks = np.flatnonzero(book.order_side[: end - start])
    if not ranks.size:
        return
    filled = ranks[~bars.ends[ranks + start]]
    rows = filled + start
    sides, atr = book.order_side[filled], book.order_atr[filled]
    book.cancel(ranks)
    book.enter(filled, sides, rows, bars.open[rows], AT_OPEN, atr, np.full(filled.size, np.nan))


def fill_beyond_price(bars: Bars, book: Book, start: int, end: int) -> None:
    """Fill the stop orders that the bars from `start` to `end` trade through: at their price, or at an open beyond it.

    Touching the price is not enough. The last bar of a session that trades end with fills nothing.
    """
    ranks = np.flatnonzero(book.order_side[: end - start])
    if not ranks.size:
        return
    rows = ranks + start
    sides, prices = book.order_side[ranks], book.order_price[ranks]
    is_long = sides > 0
    through = np.where(is_long, bars.high[rows] > prices, bars.low[rows] < prices) & ~bars.ends[rows]
    if not through.any():
        return
    ranks, rows, sides, prices = ranks[through], rows[through], sides[through], prices[through]
    opens = bars.open[rows]
    paid = np.where(sides > 0, np.maximum(opens, prices), np.minimum(opens, prices))
    atr, stops = book.order_atr[ranks], book.order_stop[ranks]
    book.cancel(ranks)
    book.enter(ranks, sides, rows, paid, AT_ORDER, atr, stops)


def exit_by_signal(bars: Bars, book: Book, ranks: Ints, rows: Ints, variant: Variant) -> None:
    """Close the open trades of `ranks` at this close, or at the next open by the variant's `fill`."""
    if variant.fills_at_open:
        book.exit_pending[ranks] = True
    elif ranks.size:
        book.exit(ranks, rows, bars.close[rows], AT_CLOSE, BY_SIGNAL)


def enter_by_signal(bars: Bars, book: Book, ranks: Ints, rows: Ints, variant: Variant) -> None:
    """Enter on the side of `bars.entry` at this close, or at the next open by the variant's `fill`.

    A rule that uses it fills its orders by `fill_at_open`.
    """
    if not ranks.size:
        return
    sides, atr = bars.entry[rows], bars.atr[rows]
    if variant.fills_at_open:
        book.place_order(ranks, sides, atr)
    else:
        book.enter(ranks, sides, rows, bars.close[rows], AT_CLOSE, atr, np.full(ranks.size, np.nan))
