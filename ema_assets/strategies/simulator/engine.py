"""Steps through time once, for all series together, and keeps the book. Prices, stops, targets, sessions; no rule.

The order of events within a bar: first what was decided at the close before is executed at the open; then orders, stops
and targets within the bar, the worse for the trader first; then the rule decides at the close. docs/STRATEGIES.md has
the definitions.
"""

import numpy as np

from ema_assets.strategies.simulator.bars import Bars
from ema_assets.strategies.simulator.book import (
    AT_CLOSE,
    AT_OPEN,
    AT_STOP,
    AT_TARGET,
    BY_SESSION_END,
    BY_SESSION_MISSED,
    BY_SIGNAL,
    BY_STOP,
    BY_TARGET,
    BY_TRAILING_STOP,
    Book,
)
from ema_assets.strategies.simulator.layout import NEVER, Floats, Ints
from ema_assets.strategies.variant import Variant


def run(bars: Bars, book: Book, variant: Variant) -> None:
    """Take `book` from before the first bars to after the last ones."""
    rule = variant.rule
    edges = bars.layout.offsets.tolist()
    keeps = np.logical_or.reduceat(bars.is_kept, bars.layout.offsets[:-1]).tolist()
    for start, end, keep in zip(edges[:-1], edges[1:], keeps, strict=True):
        if variant.exit_at_session_end:
            _begin_session(bars, book, start, end)
        if variant.fills_at_open:
            _exit_at_open(bars, book, start, end)
        rule.fill_orders(bars, book, start, end)
        if variant.has_stops:
            _stops_and_targets(bars, book, start, end)
        if variant.exit_at_session_end:
            _end_session(bars, book, start, end)
        rule.at_close(bars, book, start, end, variant)
        if keep:
            ranks = np.flatnonzero(bars.is_kept[start:end])
            book.remember(ranks, ranks + start)


def _begin_session(bars: Bars, book: Book, start: int, end: int) -> None:
    """Close positions that should have closed at the end of the previous session, whose last bar is missing.

    Orders of that session are cancelled.
    """
    session, before = bars.session[start:end], book.session[: end - start]
    ranks = np.flatnonzero((session != before) & (before != NEVER))
    book.session[: end - start] = session
    if ranks.size:
        book.cancel(ranks)
        ranks = ranks[book.side[ranks] != 0]
        if ranks.size:
            reasons = np.where(book.exit_pending[ranks], np.int8(BY_SIGNAL), np.int8(BY_SESSION_MISSED))
            book.exit(ranks, ranks + start, bars.open[ranks + start], AT_OPEN, reasons)


def _exit_at_open(bars: Bars, book: Book, start: int, end: int) -> None:
    ranks = np.flatnonzero(book.exit_pending[: end - start])
    if ranks.size:
        book.exit(ranks, ranks + start, bars.open[ranks + start], AT_OPEN, BY_SIGNAL)


def _stops_and_targets(bars: Bars, book: Book, start: int, end: int) -> None:
    """Exit at the stop, else at the target. After a gap over either, the exit price is the open.

    In the bar of an entry within the bar, the open may lie before the entry: the entry price replaces the open there.
    """
    count = end - start
    side = book.side[:count]
    is_long = side > 0
    high, low = bars.high[start:end], bars.low[start:end]
    # No stop is NaN, and compares as False.
    hit = np.where(is_long, low <= book.stop_now[:count], high >= book.stop_now[:count])
    reached = np.where(is_long, high >= book.target[:count], low <= book.target[:count])
    for touched, level, how in ((hit, book.stop_now, AT_STOP), (reached & ~hit, book.target, AT_TARGET)):
        ranks = np.flatnonzero(touched)
        if not ranks.size:
            continue
        rows = ranks + start
        first = _first_prices(bars, book, ranks, rows)
        stands_below = (book.side[ranks] > 0) == (how == AT_STOP)
        prices = np.where(stands_below, np.minimum(first, level[ranks]), np.maximum(first, level[ranks]))
        if how == AT_STOP:
            moved = book.stop_now[ranks] != book.first_stop[ranks]
            reasons = np.where(moved, np.int8(BY_TRAILING_STOP), np.int8(BY_STOP))
        else:
            reasons = np.full(ranks.size, BY_TARGET, np.int8)
        book.exit(ranks, rows, prices, how, reasons)


def _first_prices(bars: Bars, book: Book, ranks: Ints, rows: Ints) -> Floats:
    return np.where(book.entered_at[ranks] == rows, book.entry_price[ranks], bars.open[rows])


def _end_session(bars: Bars, book: Book, start: int, end: int) -> None:
    ranks = np.flatnonzero(bars.ends[start:end])
    if ranks.size:
        ranks = ranks[book.side[ranks] != 0]
        if ranks.size:
            book.exit(ranks, ranks + start, bars.close[ranks + start], AT_CLOSE, BY_SESSION_END)
