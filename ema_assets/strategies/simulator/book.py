"""The book of a series: its open trade, its order and its session at one moment. It is read from stored states.

The same record is the book while the simulator runs, a finished trade, and a state to continue from. In Python it is a
`Book`. In machine code it is one element of an array of RECORD, with the same fields.
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
    """The state of one series at one moment. Times are microseconds, NEVER for none. NaN means that there is no price.

    The fields that are not listed here are the columns of STATE_SCHEMA. The fields of a trade have no meaning while
    `side` is 0.

    Attributes:
        series: Index of the series among the series of the call.
        ts: Opening time of the current bar.
        number: Index that the next finished trade gets among all trades of the call.
        reason: Why the trade was closed, one of the reasons of events.py; 0 while it is open.
        entered_row: Row of the bar of the entry; -1 when it was before the first bar of the call.
        is_entered_at_close: Whether the open trade was entered at the close of this bar.
        equity: Equity of the open trade, as of its last bar.
        bar_growth: The factor by which earlier trades of this bar have changed equity within it; 1 without any.
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

# The column kinds of the stored fields, and of the time of a state.
_KINDS = {"ts": "timestamptz", **{column.name: column.kind for column in STATE_COLUMNS}}
# Fields read from states. `entry_reason` follows from the rule and the side.
_STORED = tuple(name for name in _KINDS if name not in ("ts", "entry_reason"))


def read_books(states: pl.DataFrame) -> Records:
    """Return one book per row of `states`, which has STATE_SCHEMA. A row of nulls gives a blank book."""
    books = blank_books(states.height)
    for name in _STORED:
        column = states[name]
        if _KINDS[name] == "float8":
            # Not skipped when all are null: a null sum of a trade means that it is undefined, not that it is 0.
            books[name] = floats(column)
        elif column.null_count() == states.height:
            continue
        elif _KINDS[name] == "timestamptz":
            books[name] = times(column)
        else:
            books[name] = column.cast(pl.Int64).fill_null(0).to_numpy()
    return books


def blank_books(count: int) -> Records:
    """Return `count` blank books, numbered from series 0."""
    books = np.full(count, _BLANK)
    books["series"] = np.arange(count)
    return books


def as_books(records: Records) -> list[Book]:
    """Return the records as objects, for the event loop in Python."""
    return [Book(*record) for record in records.tolist()]


class Copies:
    """A list that books can be assigned to, like an array of records. It copies the values of each book."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []

    def __setitem__(self, place: int, book: Book) -> None:
        assert place == len(self._rows)
        self._rows.append(_VALUES(book))

    def records(self) -> Records:
        """Return the copies in the order in which they were added."""
        return np.array(self._rows, dtype=RECORD)
