"""The event loop turns the bars of each series into trades, one bar after the other, as docs/STRATEGIES.md describes.

It is plain Python over sequences: over lists it runs as Python, over arrays as machine code (see model/kernels.py).
numba compiles this module and nothing else, so it must not call functions of other modules.
"""

from math import isnan
from typing import Any

from ema_assets.strategies.simulator.arrays import NEVER
from ema_assets.strategies.simulator.bars import Bar, Bars, Options
from ema_assets.strategies.simulator.book import Book

# Why a trade was closed, which also determines the moment within its bar. Reasons are written into the book and not
# passed as arguments: numba would compile a function again for each constant that it is called with.
BY_RULE_AT_OPEN, BY_RULE_AT_CLOSE, BY_STOP, BY_TRAILING_STOP, BY_TARGET, BY_SESSION_END, BY_SESSION_MISSED = range(1, 8)

_NAN, _INFINITY = float("nan"), float("inf")


def trade(bars: Bars, begins: Any, books: Any, bar: Bar, options: Options, trades: Any, states: Any) -> int:
    """Trade all series, one after the other; return the number of trades.

    Args:
        bars: The bars of all series, sorted by series and time.
        begins: The row of the first bar of each series, and the number of rows.
        books: The books of the series, as they were before their first bar here.
        bar: A buffer for the current bar.
        options: The options of the variant.
        trades: Filled with one record per trade, by series and entry, including trades that are still open.
        states: Filled with the book after each bar that `bars.is_kept` marks.
    """
    count, kept = 0, 0
    for series in range(len(begins) - 1):
        book = books[series]
        book.number = count
        if book.side != 0:
            book.equity = _equity(book, book.last_price, options.cost)
        for row in range(begins[series], begins[series + 1]):
            # Without a trade and an order, nothing happens until a bar requests an entry.
            if book.side == 0 and book.order_side == 0 and bars.entry[row] == 0 and not bars.is_kept[row]:
                continue
            _look_at(bar, bars, row)
            book.ts, book.bar_growth = bar.ts, 1.0
            _see(book, bar, options, trades)
            if bars.is_kept[row]:
                states[kept] = book
                kept += 1
        count = book.number
        if book.side != 0:
            trades[count] = book
            count += 1
    return count


def _look_at(bar: Bar, bars: Bars, row: int) -> None:
    """Copy one bar from the columns into `bar`. Columns that the variant does not need are empty."""
    bar.row, bar.ts = row, bars.ts[row]
    bar.open, bar.high, bar.low, bar.close = bars.open[row], bars.high[row], bars.low[row], bars.close[row]
    bar.entry, bar.leave_long, bar.leave_short = bars.entry[row], bars.leave_long[row], bars.leave_short[row]
    if len(bars.session) > 0:
        bar.session, bar.is_end, bar.is_shut = bars.session[row], bars.is_end[row], bars.is_shut[row]
    if len(bars.order_price) > 0:
        bar.order_price, bar.keep_long, bar.keep_short = (
            bars.order_price[row],
            bars.keep_long[row],
            bars.keep_short[row],
        )
    if len(bars.atr) > 0:
        bar.atr = bars.atr[row]
    if len(bars.entry_stop) > 0:
        bar.entry_stop = bars.entry_stop[row]
    if len(bars.trail_long) > 0:
        bar.trail_long = bars.trail_long[row]
    if len(bars.trail_short) > 0:
        bar.trail_short = bars.trail_short[row]


def _see(book: Book, bar: Bar, options: Options, trades: Any) -> None:
    """Process one bar, in the order of its events."""
    if options.ends_with_session:
        _begin_session(book, bar, options, trades)
    if book.exit_pending:
        book.reason = BY_RULE_AT_OPEN
        _exit(book, bar, options, trades, bar.open)
    if book.order_side != 0:
        _fill_order(book, bar, options)
    if book.side != 0:
        _check_stop_and_target(book, bar, options, trades)
    if book.side != 0 and bar.is_end:
        book.reason = BY_SESSION_END
        _exit(book, bar, options, trades, bar.close)
    _decide(book, bar, options, trades)
    if book.side != 0:
        _mark(book, bar, options, bar.close)


# --- at the open ------------------------------------------------------------------------------------------------------


def _begin_session(book: Book, bar: Bar, options: Options, trades: Any) -> None:
    """Close the trade that should have closed at the end of the previous session, whose last bar is missing.

    An order of that session is cancelled.
    """
    before, book.session = book.session, bar.session
    if before in (NEVER, book.session):
        return
    _cancel(book)
    if book.side != 0:
        book.reason = BY_RULE_AT_OPEN if book.exit_pending else BY_SESSION_MISSED
        _exit(book, bar, options, trades, bar.open)


def _fill_order(book: Book, bar: Bar, options: Options) -> None:
    """Enter at the open, or where the bar trades through the price of the order; touching it is not enough.

    In the last bar of a session that trades end with, nothing is filled.
    """
    if bar.is_shut:
        if not options.by_order:
            _cancel(book)
        return
    side, price = book.order_side, bar.open
    if options.by_order:
        is_through = bar.high > book.order_price if side > 0 else bar.low < book.order_price
        if not is_through:
            return
        price = _higher(price, book.order_price) if side > 0 else _lower(price, book.order_price)
    stop, atr = book.order_stop, book.order_atr
    _cancel(book)
    _enter(book, bar, options, side, price, stop, atr)


# --- within the bar ---------------------------------------------------------------------------------------------------


def _check_stop_and_target(book: Book, bar: Bar, options: Options, trades: Any) -> None:
    """Exit at the stop, else at the target. After a gap over either, the exit price is the open.

    In the bar of an entry within the bar, the open may lie before the entry: the entry price replaces the open there.
    """
    is_long = book.side > 0
    high, low, stop, target = bar.high, bar.low, book.stop_now, book.target_price
    first = book.entry_price if book.entered_row == bar.row else bar.open
    # A missing stop or target is NaN, which compares as False.
    if (low <= stop) if is_long else (high >= stop):
        book.reason = BY_STOP if stop == book.stop_price else BY_TRAILING_STOP
        _exit(book, bar, options, trades, _lower(first, stop) if is_long else _higher(first, stop))
    elif (high >= target) if is_long else (low <= target):
        book.reason = BY_TARGET
        _exit(book, bar, options, trades, _higher(first, target) if is_long else _lower(first, target))


# --- at the close -----------------------------------------------------------------------------------------------------


def _decide(book: Book, bar: Bar, options: Options, trades: Any) -> None:
    """Apply the decisions of the rule and the filters at the close: leave or trail the stop, cancel, order or enter."""
    if book.side != 0:
        if bar.leave_long if book.side > 0 else bar.leave_short:
            if options.fills_at_open:
                book.exit_pending = 1
            else:
                book.reason = BY_RULE_AT_CLOSE
                _exit(book, bar, options, trades, bar.close)
        else:
            # The close that ends a trade moves no stop, because that stop would never be active.
            _trail(book, bar)
    if options.by_order and book.order_side != 0 and not (bar.keep_long if book.order_side > 0 else bar.keep_short):
        _cancel(book)
    side = bar.entry
    if side == 0:
        return
    stop, atr = bar.entry_stop, bar.atr
    if options.by_order:
        if book.side == 0:
            _order(book, side, bar.order_price, stop, atr)
    elif book.side == 0 or book.exit_pending:
        if options.fills_at_open:
            _order(book, side, _NAN, stop, atr)
        else:
            _enter(book, bar, options, side, bar.close, stop, atr)
            book.is_entered_at_close = 1


def _trail(book: Book, bar: Bar) -> None:
    """Move the stop to where the rule wants it, never away from the price."""
    stop = book.stop_now
    if book.side > 0:
        price = bar.trail_long
        is_nearer = price > stop
    else:
        price = bar.trail_short
        is_nearer = price < stop
    if is_nearer or (isnan(stop) and not isnan(price)):
        book.stop_now = price


# --- entries, exits and orders ----------------------------------------------------------------------------------------


def _enter(book: Book, bar: Bar, options: Options, side: int, price: float, stop: float, atr: float) -> None:
    """Begin a trade. An ATR stop of the variant replaces `stop`; NaN means none."""
    if not isnan(options.atr_stop):
        stop = price - side * (options.atr_stop * atr)
    book.side, book.entry_ts, book.entry_price = side, book.ts, price
    book.stop_price, book.stop_now = stop, stop
    book.target_price = price + side * (options.atr_target * atr)
    book.entered_row, book.is_entered_at_close = bar.row, 0
    book.bars_held, book.last_ts, book.last_price = -1, NEVER, price
    book.worst_price, book.best_price = price, price
    book.bar_returns_sum, book.bar_returns_square_sum, book.bar_returns_negative_square_sum = 0.0, 0.0, 0.0
    # Any first equity is higher and lower than these.
    book.equity, book.equity_peak, book.equity_trough = 1.0, -_INFINITY, _INFINITY
    book.drawdown, book.drawdown_peak_ts, book.drawdown_trough_ts = 0.0, NEVER, NEVER


def _exit(book: Book, bar: Bar, options: Options, trades: Any, price: float) -> None:
    """End the trade at `price`, for the reason in the book."""
    _mark(book, bar, options, price)
    trades[book.number] = book
    book.number += 1
    book.side, book.exit_pending, book.reason = 0, 0, 0


def _order(book: Book, side: int, price: float, stop: float, atr: float) -> None:
    """Replace the order."""
    book.order_side, book.order_price, book.order_stop, book.order_atr = side, price, stop, atr


def _cancel(book: Book) -> None:
    book.order_side, book.order_price, book.order_stop, book.order_atr = 0, _NAN, _NAN, _NAN


# --- what adds up over the bars of a trade ----------------------------------------------------------------------------


def _mark(book: Book, bar: Bar, options: Options, price: float) -> None:
    """Update the trade for this bar up to `price`: the close, or the exit price when the book has a reason."""
    book.last_price, book.last_ts = price, book.ts
    book.bars_held += 1
    _add_excursions(book, bar, price)
    _add_return(book, options.cost, price)
    _add_extremes(book)
    book.is_entered_at_close = 0


def _add_excursions(book: Book, bar: Bar, price: float) -> None:
    is_long = book.side > 0
    high, low = bar.high, bar.low
    against, along = (low, high) if is_long else (high, low)
    if book.is_entered_at_close:
        # No price of a bar lies within a trade that is entered at its close.
        against, along = book.entry_price, book.entry_price
    # In a bar with an exit before its close, a favourable price counts only when it must have come before the exit. An
    # adverse price counts when it may have.
    if book.reason not in (0, BY_RULE_AT_CLOSE, BY_SESSION_END):
        along = price
        if book.reason != BY_TARGET:
            against = price
    if is_long:
        book.worst_price, book.best_price = _lower(book.worst_price, against), _higher(book.best_price, along)
    else:
        book.worst_price, book.best_price = _higher(book.worst_price, against), _lower(book.best_price, along)


def _add_return(book: Book, cost: float, price: float) -> None:
    costs = cost
    if book.reason != 0:
        costs = cost + cost * _ratio(price, book.entry_price)
    equity = _equity(book, price, costs)
    # Equity that is zero or undefined does not grow.
    growth = equity / book.equity if book.equity > 0.0 else 1.0
    before = book.bar_growth - 1.0
    after = book.bar_growth * growth - 1.0
    if isnan(equity):  # once equity is undefined, the sums over the bars are undefined, too
        after = _NAN
    book.bar_returns_sum += after - before
    book.bar_returns_square_sum += after * after - before * before
    lost_before, lost_after = _lower(before, 0.0), _lower(after, 0.0)
    book.bar_returns_negative_square_sum += lost_after * lost_after - lost_before * lost_before
    if not isnan(growth):  # an undefined growth must not affect a later trade in this bar
        book.bar_growth *= growth
    book.equity = equity


def _add_extremes(book: Book) -> None:
    equity = book.equity
    if isnan(equity):  # with undefined equity, peak, trough and drawdown are undefined, too
        book.equity_peak, book.equity_trough, book.drawdown = _NAN, _NAN, _NAN
        book.equity_peak_ts, book.equity_trough_ts = NEVER, NEVER
        book.drawdown_peak_ts, book.drawdown_trough_ts = NEVER, NEVER
    # NaN compares as False, so undefined figures stay undefined.
    if equity > book.equity_peak:
        book.equity_peak, book.equity_peak_ts = equity, book.ts
    if equity < book.equity_trough:
        book.equity_trough, book.equity_trough_ts = equity, book.ts
    # Without positive equity, there is nothing to lose.
    if book.equity_peak > 0.0:
        fall = 1.0 - equity / book.equity_peak
        if fall > book.drawdown:
            book.drawdown, book.drawdown_peak_ts, book.drawdown_trough_ts = fall, book.equity_peak_ts, book.ts


def _equity(book: Book, price: float, costs: float) -> float:
    """Return equity at `price`, as a multiple of the equity at entry before costs; at least 0, NaN where undefined.

    `costs` are a multiple of the same equity.
    """
    equity = 1.0 + book.side * (_ratio(price, book.entry_price) - 1.0) - costs
    return _higher(equity, 0.0)


def _ratio(price: float, entry: float) -> float:
    """Return `price` as a multiple of `entry`; NaN, because undefined, when one of them is not above zero."""
    return price / entry if price > 0.0 and entry > 0.0 else _NAN


# Python's and numba's `min` and `max` treat NaN differently. These functions return `one` when it is NaN.


def _lower(one: float, other: float) -> float:
    return other if other < one else one  # noqa: FURB136


def _higher(one: float, other: float) -> float:
    return other if other > one else one  # noqa: FURB136
