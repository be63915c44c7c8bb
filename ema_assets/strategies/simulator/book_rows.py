"""Conversion of books to rows: the columns of trades and of states, with their figures. Events belong in events.py.

The columns are made from arrays and not by polars expressions. With thirty columns and few rows, one expression per
column took most of the time of a simulation.
"""

from functools import cache

import numpy as np
import polars as pl

from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.stretches import as_rows
from ema_assets.strategies.rule import BySide
from ema_assets.strategies.simulator import events
from ema_assets.strategies.simulator.arrays import NEVER, Flags, Floats, Ints, Records
from ema_assets.strategies.trade_columns import (
    CLOSED,
    LONG,
    OPEN,
    SESSION_END,
    SESSION_MISSED,
    SHORT,
    STATE_COLUMNS,
    STATE_SCHEMA,
    STOP,
    TARGET,
    TRADE_SCHEMA,
    TRAILING_STOP,
)
from ema_assets.strategies.variant import Variant

# Exit reasons by their number in events.py, in that order. The rule's own reasons depend on the side.
_REASONS = {
    events.BY_STOP: STOP,
    events.BY_TRAILING_STOP: TRAILING_STOP,
    events.BY_TARGET: TARGET,
    events.BY_SESSION_END: SESSION_END,
    events.BY_SESSION_MISSED: SESSION_MISSED,
}
_STATUS = pl.Series([OPEN, CLOSED])
_BY_RULE = (events.BY_RULE_AT_OPEN, events.BY_RULE_AT_CLOSE)

_KINDS = {column.name: column.kind for column in STATE_COLUMNS}
# The columns of a state that are set without an open trade, too.
_WITHOUT_TRADE = ("side", "exit_pending", "order_side", "order_price", "order_stop", "order_atr", "session")


def trade_rows(trades: Records, symbols: pl.Series, variant: Variant) -> pl.DataFrame:
    """Return symbol and TRADE_SCHEMA, one row per book with a trade. `symbols` has one symbol per series."""
    side, entry, last = (np.ascontiguousarray(trades[name]) for name in ("side", "entry_price", "last_price"))
    stop, reason = np.ascontiguousarray(trades["stop_price"]), np.ascontiguousarray(trades["reason"])
    is_long, is_closed = side > 0, reason > 0
    growth = _ratio(last, entry)
    gain = _gain(side, growth)
    cost = variant.cost
    costs = cost + np.where(is_closed, cost * growth, 0.0)
    risk = side * (entry - stop)
    rows, rule = as_rows(is_long), variant.rule
    made = {
        "side": _by_side(BySide(LONG, SHORT))[rows],
        "entry_reason": _by_side(rule.entry_reasons)[rows],
        "exit_ts": _times(np.where(is_closed, trades["last_ts"], NEVER)),
        "exit_price": _floats(np.where(is_closed, last, np.nan)),
        "exit_reason": _exit_reasons(rule.exit_reasons)[as_rows(2 * reason + is_long)],
        "return_pct": _floats(gain * 100),
        "net_return_pct": _floats((gain - costs) * 100),
        "r_multiple": _floats(_ratio(side * (last - entry), risk, is_defined=risk > 0) + 0.0),
        "mae_pct": _floats(_gain(side, _ratio(np.ascontiguousarray(trades["worst_price"]), entry)) * 100),
        "mfe_pct": _floats(_gain(side, _ratio(np.ascontiguousarray(trades["best_price"]), entry)) * 100),
        "status": _STATUS[as_rows(is_closed)],
    }
    columns = [made[name] if name in made else _column(trades, name) for name in TRADE_SCHEMA]
    return _frame(trades, symbols, ("symbol", *TRADE_SCHEMA), columns)


def state_rows(states: Records, symbols: pl.Series, variant: Variant) -> pl.DataFrame:
    """Return symbol, ts and STATE_SCHEMA, one row per book. `symbols` has one symbol per series."""
    is_flat = states["side"] == 0
    if not is_flat.any():
        is_flat = None
    columns = [_times(np.ascontiguousarray(states["ts"]))]
    for name in STATE_SCHEMA:
        if name == "entry_reason":
            reasons = _by_side(variant.rule.entry_reasons)[as_rows(states["side"] > 0)]
            columns.append(reasons if is_flat is None else _without(reasons, is_flat))
        else:
            columns.append(_column(states, name, None if name in _WITHOUT_TRADE else is_flat))
    return _frame(states, symbols, ("symbol", "ts", *STATE_SCHEMA), columns)


def _frame(records: Records, symbols: pl.Series, names: tuple[str, ...], columns: list[pl.Series]) -> pl.DataFrame:
    named = zip(names, (symbols[as_rows(records["series"])], *columns), strict=True)
    return pl.DataFrame([column.alias(name) for name, column in named])


@cache
def _by_side(words: BySide) -> pl.Series:
    """Return the word for a short trade, then the word for a long trade."""
    return pl.Series([words.short, words.long], dtype=pl.String)


@cache
def _exit_reasons(by_rule: BySide) -> pl.Series:
    """Return two words per reason of events.py, from 0 on: for a short trade, then for a long trade."""
    words: list[str | None] = [None, None]
    for reason in range(1, events.BY_SESSION_MISSED + 1):
        word = _REASONS.get(reason)
        words += by_rule[::-1] if reason in _BY_RULE else (word, word)
    return pl.Series(words, dtype=pl.String)


# --- figures ----------------------------------------------------------------------------------------------------------


def _ratio(one: Floats, other: Floats, is_defined: Flags | None = None) -> Floats:
    """Return `one` as a multiple of `other`; NaN where undefined.

    By default, it is undefined where one of them is not above zero.
    """
    if is_defined is None:
        is_defined = (one > 0) & (other > 0)
    ratio: Floats = np.divide(one, other, out=np.full(len(one), np.nan), where=is_defined)
    return ratio


def _gain(side: Ints, growth: Floats) -> Floats:
    """Return the gain of a trade as a fraction of the entry price. `growth` is the price as a multiple of it."""
    # Adding 0 turns the -0 of a short trade whose price has not moved into 0.
    gain: Floats = side * (growth - 1) + 0.0
    return gain


# --- columns ----------------------------------------------------------------------------------------------------------


def _column(records: Records, name: str, is_null: Flags | None = None) -> pl.Series:
    """Return the field `name` as a column of the type that rows have; null for NaN, for NEVER and where `is_null`."""
    values, kind = np.ascontiguousarray(records[name]), _KINDS[name]
    if kind == "float8":
        return _floats(values if is_null is None else np.where(is_null, np.nan, values))
    if kind == "timestamptz":
        return _times(values if is_null is None else np.where(is_null, NEVER, values))
    column = pl.Series(values != 0 if kind == "boolean" else values)
    return column if is_null is None else _without(column, is_null)


def _floats(values: Floats) -> pl.Series:
    return pl.Series(values, nan_to_null=True)


def _times(values: Ints) -> pl.Series:
    return _without(pl.Series(values), values == NEVER).cast(UTC_TIME)


def _without(column: pl.Series, is_null: Flags) -> pl.Series:
    return column.set(pl.Series(is_null), None) if is_null.any() else column
