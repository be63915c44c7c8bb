"""The pullback rule: a stop order beyond the bar that pulled back, and a stop that trails behind later ones. No I/O."""

import numpy as np

from ema_assets.strategies.bars import Bars
from ema_assets.strategies.book import AT_CLOSE, AT_ORDER, BY_SIGNAL, Book


def within(bars: Bars, book: Book, start: int, end: int) -> None:
    """Fill the orders that the bars from `start` to `end` trade through: at their price, or at an open beyond it."""
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


def at_close(bars: Bars, book: Book, start: int, end: int, *, fills_at_open: bool) -> None:
    """Trail the stops, leave what has lost its trend, and keep, replace or take back the orders."""
    _hold(bars, book, start, end, fills_at_open=fills_at_open)
    count = end - start
    flat = book.side[:count] == 0
    signal = bars.signal[start:end]
    ordered = book.order_side[:count]
    gone = np.flatnonzero((ordered != 0) & (ordered != bars.keeps[start:end]))
    if gone.size:
        book.cancel(gone)
    ranks = np.flatnonzero(flat & (signal != 0))
    if ranks.size:
        rows = ranks + start
        is_long = bars.signal[rows] > 0
        high, low = bars.high[rows], bars.low[rows]
        prices, stops = np.where(is_long, high, low), np.where(is_long, low, high)
        book.order(ranks, bars.signal[rows], bars.atr[rows], prices, stops)


def _hold(bars: Bars, book: Book, start: int, end: int, *, fills_at_open: bool) -> None:
    side = book.side[: end - start]
    ranks = np.flatnonzero(side)
    if not ranks.size:
        return
    rows = ranks + start
    held = side[ranks]
    over = (bars.turn[rows] != held) & bars.is_known[rows]
    trailed = bars.dip[rows] == held
    if trailed.any():
        moving, at = ranks[trailed], rows[trailed]
        stops = book.stop_now[moving]
        book.stop_now[moving] = np.where(
            held[trailed] > 0, np.maximum(stops, bars.low[at]), np.minimum(stops, bars.high[at])
        )
    if over.any():
        leaving, at = ranks[over], rows[over]
        if fills_at_open:
            book.exit_pending[leaving] = True
        else:
            book.leave(leaving, at, bars.close[at], AT_CLOSE, BY_SIGNAL)
