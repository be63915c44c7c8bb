"""The crossover rule: in at a crossover, out at the opposite one. No I/O."""

import numpy as np

from ema_assets.strategies.bars import Bars
from ema_assets.strategies.book import AT_CLOSE, AT_OPEN, BY_SIGNAL, Book


def at_open(bars: Bars, book: Book, start: int, end: int) -> None:
    """Enter at the open of the bars from `start` to `end` what was ordered at the close before."""
    ranks = np.flatnonzero(book.order_side[: end - start])
    if not ranks.size:
        return
    filled = ranks[~bars.ends[ranks + start]]
    rows = filled + start
    sides, atr = book.order_side[filled], book.order_atr[filled]
    book.cancel(ranks)
    book.enter(filled, sides, rows, bars.open[rows], AT_OPEN, atr, np.full(filled.size, np.nan))


def at_close(bars: Bars, book: Book, start: int, end: int, *, fills_at_open: bool) -> None:
    """Act on the crossovers at the close of these bars, or order it for the next open."""
    ranks = np.flatnonzero(bars.turn[start:end])
    if not ranks.size:
        return
    rows = ranks + start
    held = book.side[ranks]
    leaves = held == -bars.turn[rows]
    enters = (bars.signal[rows] != 0) & ((held == 0) | leaves)
    leaving, entering = ranks[leaves], ranks[enters]
    if fills_at_open:
        book.exit_pending[leaving] = True
        book.order(entering, bars.signal[rows[enters]], bars.atr[rows[enters]], None, None)
        return
    if leaving.size:
        book.leave(leaving, rows[leaves], bars.close[rows[leaves]], AT_CLOSE, BY_SIGNAL)
    if entering.size:
        rows = rows[enters]
        nothing = np.full(entering.size, np.nan)
        book.enter(entering, bars.signal[rows], rows, bars.close[rows], AT_CLOSE, bars.atr[rows], nothing)
