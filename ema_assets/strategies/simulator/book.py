"""The book of a series: its open trade, its order and its session at one moment. Read from states, made into columns.

One record serves as the book while the simulator runs, as a trade that is done, and as a state to go on from. In Python
it is a `Book`; machine code has the same fields in one element of an array of RECORD.
"""

from dataclasses import dataclass, fields
from operator import attrgetter

import numpy as np
import polars as pl

from ema_assets.model.kernels import floats
from ema_assets.strategies.simulator.arrays import NEVER, Records, record_type, times
from ema_assets.strategies.trade_columns import STATE_COLUMNS

_NAN = float("nan")


@dataclass(slots=True)
class Book:
    """What is known of one series at one moment. Times are microseconds, NEVER for none; NaN is no price.

    The columns of STATE_SCHEMA have its names there. What belongs to a trade means nothing while `side` is 0.

    Attributes:
        series: its place among the series of the call.
        ts: opening time of the bar that is looked at.
        number: the place that its next finished trade gets among all trades of the call.
        reason: why the trade was closed, one of the reasons of events.py; 0 while it is open.
        entered_row: the row of the bar of the entry; -1 when that was before the first bar here.
        is_entered_at_close: the open trade was entered at the close of this bar.
        equity: of the open trade, as of its last bar.
        bar_growth: the factor by which an earlier trade of this bar has changed equity within it; 1 without one.
    """

    series: int = 0
    ts: int = NEVER
    number: int = 0
    reason: int = 0
    entered_row: int = -1
    is_entered_at_close: int = 0
    equity: float = 1.0
    bar_growth: float = 1.0
    side: int = 0
    entry_ts: int = NEVER
    entry_price: float = _NAN
    stop_price: float = _NAN
    stop_now: float = _NAN
    target_price: float = _NAN
    last_ts: int = NEVER
    last_price: float = _NAN
    bars_held: int = -1
    worst_price: float = _NAN
    best_price: float = _NAN
    bar_returns_sum: float = 0.0
    bar_returns_square_sum: float = 0.0
    bar_returns_negative_square_sum: float = 0.0
    equity_peak: float = _NAN
    equity_peak_ts: int = NEVER
    equity_trough: float = _NAN
    equity_trough_ts: int = NEVER
    drawdown: float = 0.0
    drawdown_peak_ts: int = NEVER
    drawdown_trough_ts: int = NEVER
    exit_pending: int = 0
    order_side: int = 0
    order_price: float = _NAN
    order_stop: float = _NAN
    order_atr: float = _NAN
    session: int = NEVER


RECORD = record_type(Book)
_BLANK = np.array(tuple(field.default for field in fields(Book)), RECORD)
_VALUES = attrgetter(*(field.name for field in fields(Book)))

# Of the fields that are stored, and of the time of a state.
_KINDS = {"ts": "timestamptz", **{column.name: column.kind for column in STATE_COLUMNS}}
# The words of a reason are the rule's.
_STORED = tuple(name for name in _KINDS if name not in ("ts", "entry_reason"))


def read_books(states: pl.DataFrame) -> Records:
    """One book per row of `states`: the columns of STATE_SCHEMA, all of them null where there is no state."""
    books = blank_books(states.height)
    for name in _STORED:
        column = states[name]
        if _KINDS[name] == "float8":
            # Also where all are null: a sum of a trade is null when it is not defined, not when it has not begun.
            books[name] = floats(column)
        elif column.null_count() == states.height:
            continue
        elif _KINDS[name] == "timestamptz":
            books[name] = times(column)
        else:
            books[name] = column.cast(pl.Int64).fill_null(0).to_numpy()
    return books


def blank_books(count: int) -> Records:
    """Books of so many series of which nothing is known."""
    books = np.full(count, _BLANK)
    books["series"] = np.arange(count)
    return books


def as_books(records: Records) -> list[Book]:
    """The same as objects, for Python."""
    return [Book(*record) for record in records.tolist()]


class Copies:
    """Takes books as an array of records does, in Python: what is put here is kept as it is now."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []

    def __setitem__(self, place: int, book: Book) -> None:
        assert place == len(self._rows)
        self._rows.append(_VALUES(book))

    def records(self) -> Records:
        """What was put here, in its order."""
        return np.array(self._rows, dtype=RECORD)
