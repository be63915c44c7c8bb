"""`simulate` turns bars into the trades of one variant and the states to continue from. Frames in, frames out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ema_assets.model.kernels import Kernel, read_only
from ema_assets.model.stretches import of_each, stretches
from ema_assets.strategies.simulator import events
from ema_assets.strategies.simulator.arrays import Ints, Records, record_type
from ema_assets.strategies.simulator.bars import Bar, Bars, Options, no_bars, read_bars, read_options
from ema_assets.strategies.simulator.book import RECORD, Copies, as_books, blank_books, read_books
from ema_assets.strategies.simulator.book_rows import state_rows, trade_rows
from ema_assets.strategies.variant import Variant

TRADE = Kernel(events.trade)


@dataclass(frozen=True, slots=True)
class Simulated:
    """The result of `simulate`.

    Attributes:
        trades: symbol and TRADE_SCHEMA, sorted by symbol and entry_ts.
        states: symbol, ts and STATE_SCHEMA, sorted by symbol and ts.
    """

    trades: pl.DataFrame
    states: pl.DataFrame


def simulate(bars: pl.DataFrame, carried: pl.DataFrame, variant: Variant) -> Simulated:
    """Simulate the trades of `variant`, for all symbols at once.

    However a history is cut into calls, the trades are the same, bit for bit.

    Args:
        bars: symbol, ts, the columns of `reads(variant)`; with `exit_at_session_end` also session (opening time of the
            bar's session, UTC) and is_session_last (whether the session has no further bar on this timeframe); with
            `higher_timeframe` also higher_trend (`up`, `down` or null, as it was known when the bar closed). Sorted by
            symbol and ts.
        carried: symbol, STATE_SCHEMA: the state just after the bar that precedes a symbol's first bar in `bars`. Absent
            symbols start from nothing.
        variant: As it trades on the bars' timeframe: `variant.on(timeframe)`.

    Returns:
        The trades that were open before `bars` or are entered in it, and the states after every bar whose bar_number is
        divisible by STATE_EVERY, and after the NEWEST_STATES last bars of each symbol.

    Raises:
        RuleError: when the rule's `evaluate` fails, returns anything that it must not, or looks at other bars.
    """
    symbols, begins = stretches(bars["symbol"])
    idle = carried.filter(pl.col("side") != 0, ~pl.col("symbol").is_in(symbols.implode())) if len(carried) else carried
    # The open trades of series without a bar in this call.
    unmoved = [] if idle.is_empty() else [trade_rows(read_books(idle), idle["symbol"], variant)]
    if bars.is_empty():
        trades, kept = np.empty(0, RECORD), np.empty(0, RECORD)
    else:
        seen = read_bars(bars, begins, variant)
        books = blank_books(len(symbols)) if carried.is_empty() else read_books(of_each(symbols, carried))
        trades, kept = _run(seen, begins, books, read_options(seen, variant))
    found, states = trade_rows(trades, symbols, variant), state_rows(kept, symbols, variant)
    if unmoved or not symbols.is_sorted():
        found = pl.concat([found, *unmoved]).sort("symbol", "entry_ts")
        states = states.sort("symbol", "ts")
    return Simulated(found, states)


def _run(bars: Bars, begins: Ints, books: Records, options: Options) -> tuple[Records, Records]:
    """Return the trades and the states, computed in Python or by machine code."""
    if not TRADE.is_worth_it(len(bars.ts)):
        return _run_python(bars, begins, books, options)
    return _run_machine_code(bars, begins, books, options)


def warm_up() -> None:
    """Load the machine code from the cache, which takes half a second, or compile it, which takes three seconds."""
    nothing = Options(cost=0.0, atr_stop=0.0, atr_target=0.0, by_order=0, fills_at_open=0, ends_with_session=0)
    _run_machine_code(no_bars(), np.zeros(1, np.int64), np.empty(0, RECORD), nothing)


def _run_machine_code(bars: Bars, begins: Ints, books: Records, options: Options) -> tuple[Records, Records]:
    # Each trade comes from a bar that requests an entry, or from the state before the first bar, which may have an open
    # trade and an order.
    most = np.count_nonzero(bars.entry) + 2 * len(books)
    trades, states = np.empty(most, RECORD), np.empty(np.count_nonzero(bars.is_kept), RECORD)
    columns: Any = Bars(*map(read_only, bars))
    count = TRADE.machine_code(columns, read_only(begins), books, _record(Bar()), _record(options), trades, states)
    return trades[:count], states


def _run_python(bars: Bars, begins: Ints, books: Records, options: Options) -> tuple[Records, Records]:
    trades, states = Copies(), Copies()
    columns: Any = Bars(*(each.tolist() for each in bars))
    TRADE.python(columns, begins.tolist(), as_books(books), Bar(), options, trades, states)
    return trades.records(), states.records()


def _record(values: Bar | Options) -> np.void:
    kind = record_type(type(values))
    record: np.void = np.array([tuple(getattr(values, name) for name in kind.names or ())], kind)[0]
    return record
