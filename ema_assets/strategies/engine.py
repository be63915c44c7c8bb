"""Goes through time once, for all series together, and keeps the book. No I/O.

The order of things within a bar: what was decided at the close before is done at the open; then orders, stops and
targets within the bar, the worse for the trader first; then what the close says. docs/STRATEGIES.md states the rules.
"""

import numpy as np

from ema_assets.strategies import crossover, pullback
from ema_assets.strategies.bars import Bars
from ema_assets.strategies.book import (
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
from ema_assets.strategies.layout import NEVER, Floats, Ints
from ema_assets.strategies.variant import CROSSOVER, NEXT_OPEN, Variant


def run(bars: Bars, book: Book, variant: Variant) -> None:
    """Take `book` from before the first bars to after the last ones."""
    at_open, at_close = (
        (crossover.at_open, crossover.at_close) if variant.rule == CROSSOVER else (pullback.within, pullback.at_close)
    )
    fills_at_open = variant.fill == NEXT_OPEN
    has_stops = variant.uses_atr or variant.rule != CROSSOVER
    edges = bars.layout.offsets.tolist()
    keeps = np.logical_or.reduceat(bars.is_kept, bars.layout.offsets[:-1]).tolist()
    for start, end, keep in zip(edges[:-1], edges[1:], keeps, strict=True):
        if variant.exit_at_session_end:
            _begin_session(bars, book, start, end)
        if fills_at_open:
            _exit_at_open(bars, book, start, end)
        at_open(bars, book, start, end)
        if has_stops:
            _stops_and_targets(bars, book, start, end)
        if variant.exit_at_session_end:
            _end_session(bars, book, start, end)
        at_close(bars, book, start, end, fills_at_open=fills_at_open)
        if keep:
            ranks = np.flatnonzero(bars.is_kept[start:end])
            book.remember(ranks, ranks + start)


def _begin_session(bars: Bars, book: Book, start: int, end: int) -> None:
    """Out of what the last bar of the session before, that does not exist, should have ended."""
    session, before = bars.session[start:end], book.session[: end - start]
    ranks = np.flatnonzero((session != before) & (before != NEVER))
    book.session[: end - start] = session
    if ranks.size:
        book.cancel(ranks)
        held = ranks[book.side[ranks] != 0]
        if held.size:
            rows = held + start
            reasons = np.where(book.exit_pending[held], np.int8(BY_SIGNAL), np.int8(BY_SESSION_MISSED))
            book.leave(held, rows, bars.open[rows], AT_OPEN, reasons)


def _exit_at_open(bars: Bars, book: Book, start: int, end: int) -> None:
    ranks = np.flatnonzero(book.exit_pending[: end - start])
    if ranks.size:
        book.leave(ranks, ranks + start, bars.open[ranks + start], AT_OPEN, BY_SIGNAL)


def _stops_and_targets(bars: Bars, book: Book, start: int, end: int) -> None:
    """Out at the stop, else at the target; a price that gapped over either gives the open.

    In the bar of an entry within the bar, the open may lie before it: the entry price stands for the open then.
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
        book.leave(ranks, rows, prices, how, reasons)


def _first_prices(bars: Bars, book: Book, ranks: Ints, rows: Ints) -> Floats:
    return np.where(book.entered_at[ranks] == rows, book.entry_price[ranks], bars.open[rows])


def _end_session(bars: Bars, book: Book, start: int, end: int) -> None:
    ranks = np.flatnonzero(bars.ends[start:end])
    if ranks.size:
        held = ranks[book.side[ranks] != 0]
        if held.size:
            book.leave(held, held + start, bars.close[held + start], AT_CLOSE, BY_SESSION_END)
