"""`simulate`: bars to the trades of one variant, and to the states from which they go on. Frames in, frames out."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from ema_assets.model.kernels import Kernel, read_only
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.stretches import stretches
from ema_assets.strategies.rule import BySide
from ema_assets.strategies.simulator import events
from ema_assets.strategies.simulator.arrays import Ints, Records, record_type
from ema_assets.strategies.simulator.bars import Bar, Bars, Options, no_bars, read_bars, read_options
from ema_assets.strategies.simulator.book import RECORD, Copies, as_books, frame_of, read_books
from ema_assets.strategies.trade_columns import (
    CLOSED,
    LONG,
    OPEN,
    PATH_COLUMNS,
    SESSION_END,
    SESSION_MISSED,
    SHORT,
    STATE_SCHEMA,
    STOP,
    TARGET,
    TRADE_SCHEMA,
    TRAILING_STOP,
)
from ema_assets.strategies.variant import Variant

TRADE = Kernel(events.trade)

_BY_RULE = (events.BY_RULE_AT_OPEN, events.BY_RULE_AT_CLOSE)
_REASONS = {
    events.BY_STOP: STOP,
    events.BY_TRAILING_STOP: TRAILING_STOP,
    events.BY_TARGET: TARGET,
    events.BY_SESSION_END: SESSION_END,
    events.BY_SESSION_MISSED: SESSION_MISSED,
}
_TRADE_COLUMNS = ("symbol", *TRADE_SCHEMA)
_STATE_COLUMNS = ("symbol", "ts", *STATE_SCHEMA)
# Those of a state that stand without a trade.
_WITHOUT_TRADE = ("exit_pending", "order_side", "order_price", "order_stop", "order_atr", "session")
# What the rows of trades are made of.
_OF_A_TRADE = (
    *("side", "reason", "entry_ts", "entry_price", "stop_price", "stop_now", "target_price", "last_ts", "last_price"),
    *("bars_held", "worst_price", "best_price", *(column.name for column in PATH_COLUMNS)),
)


@dataclass(frozen=True, slots=True)
class Simulated:
    """What `simulate` returns.

    `trades` has symbol and TRADE_SCHEMA, sorted by symbol and entry_ts; `states` symbol, ts and STATE_SCHEMA, sorted by
    symbol and ts.
    """

    trades: pl.DataFrame
    states: pl.DataFrame


def simulate(bars: pl.DataFrame, carried: pl.DataFrame, variant: Variant) -> Simulated:
    """The trades of `variant`, for all symbols at once.

    However a history is cut into calls, the trades are the same, bit for bit.

    Args:
        bars: symbol, ts, the columns of `reads(variant)`; with `exit_at_session_end` also session (opening time of the
            bar's session, UTC) and is_session_last (whether the session has no further bar on this timeframe); with
            `higher_timeframe` also higher_trend (`up`, `down` or null, as it was known when the bar closed). Sorted by
            symbol and ts.
        carried: symbol, STATE_SCHEMA: the state just after the bar before a symbol's first bar here. Absent symbols
            start from nothing.
        variant: as it trades on the bars' timeframe: `variant.on(timeframe)`.

    Returns:
        The trades that were open before `bars` or are entered in it. The states after every bar whose bar_number is
        divisible by STATE_EVERY, and after the NEWEST_STATES last bars of each symbol.

    Raises:
        ValueError: when the rule's `evaluate` returns something else than it may.
    """
    symbols, begins = stretches(bars["symbol"])
    idle = carried.filter(pl.col("side") != 0, ~pl.col("symbol").is_in(symbols.implode()))
    unmoved = [_unmoved(idle, variant)] if bars.is_empty() or not idle.is_empty() else []
    if bars.is_empty():
        states = pl.DataFrame(schema={"symbol": pl.String(), "ts": UTC_TIME, **STATE_SCHEMA})
        return Simulated(unmoved[0].sort("symbol", "entry_ts"), states)
    seen = read_bars(bars, begins, variant)
    before = symbols.to_frame("symbol").join(carried, on="symbol", how="left", maintain_order="left")
    trades, kept = _run(seen, begins, read_books(before), read_options(seen, variant))
    found, states = _trade_rows(trades, symbols, variant), _state_rows(kept, symbols, variant)
    if unmoved or not symbols.is_sorted():
        found = pl.concat([found, *unmoved]).sort("symbol", "entry_ts")
        states = states.sort("symbol", "ts")
    return Simulated(found, states)


def _run(bars: Bars, begins: Ints, books: Records, options: Options) -> tuple[Records, Records]:
    """The trades and the states that come of it, in Python or by machine code."""
    if not TRADE.is_worth_it(len(bars.ts)):
        return _run_python(bars, begins, books, options)
    return _run_machine_code(bars, begins, books, options)


def warm_up() -> None:
    """Make the machine code ready: it is read from the cache in half a second, or compiled in three."""
    nothing = Options(cost=0.0, atr_stop=0.0, atr_target=0.0, by_order=0, fills_at_open=0, ends_with_session=0)
    _run_machine_code(no_bars(), np.zeros(1, np.int64), np.empty(0, RECORD), nothing)


def _run_machine_code(bars: Bars, begins: Ints, books: Records, options: Options) -> tuple[Records, Records]:
    # Each trade comes from a bar that asks for it, or from the state before the first bar: a trade, and an order.
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
    record: np.void = np.array([astuple(values)], record_type(type(values)))[0]
    return record


@cache
def _by_side(words: BySide) -> pl.Expr:
    return pl.when(pl.col("side") > 0).then(pl.lit(words.long)).otherwise(pl.lit(words.short))


def _trade_rows(trades: Records, symbols: pl.Series, variant: Variant) -> pl.DataFrame:
    frame = frame_of(trades, _OF_A_TRADE).with_columns(
        symbols.gather(trades["series"]).alias("symbol"),
        *_in_words(variant.rule.entry_reasons, variant.rule.exit_reasons),
    )
    return _figures(frame, variant.cost_bps / 10_000)


@cache
def _in_words(entry_reasons: BySide, exit_reasons: BySide) -> Sequence[pl.Expr]:
    """The columns is_closed, entry_reason and exit_reason, from side and reason."""
    reason = pl.col("reason")
    return (
        (reason > 0).alias("is_closed"),
        _by_side(entry_reasons).alias("entry_reason"),
        pl.when(reason.is_in(_BY_RULE))
        .then(_by_side(exit_reasons))
        .otherwise(reason.replace_strict(_REASONS, default=None, return_dtype=pl.String))
        .alias("exit_reason"),
    )


def _unmoved(states: pl.DataFrame, variant: Variant) -> pl.DataFrame:
    """The open trades of `states` whose series have no further bar."""
    return _figures(
        states.with_columns(is_closed=pl.lit(value=False), exit_reason=pl.lit(None, pl.String)),
        variant.cost_bps / 10_000,
    )


def _figures(frame: pl.DataFrame, cost: float) -> pl.DataFrame:
    """Trades in their final columns, from side, entry, last price, worst and best price, stop and path."""
    return frame.select(_of_figures(cost)).select(_TRADE_COLUMNS)


@cache
def _of_figures(cost: float) -> Sequence[pl.Expr]:
    entry, last, side = pl.col("entry_price"), pl.col("last_price"), pl.col("side")

    def moved(price: pl.Expr) -> pl.Expr:
        """The gain at `price` as a fraction of the entry price; null where one of them is not above zero."""
        # Adding 0 makes the -0 of a short trade that has not moved a plain 0.
        return pl.when((entry > 0) & (price > 0)).then(side * (price / entry - 1) + 0.0)

    gain = moved(last)
    costs = cost + pl.when("is_closed").then(cost * (last / entry)).otherwise(0.0)
    risk = side * (entry - pl.col("stop_price"))
    exits = pl.when("is_closed")
    as_it_is = (
        "symbol",
        "entry_ts",
        "entry_price",
        "entry_reason",
        "exit_reason",
        "last_ts",
        "last_price",
        "bars_held",
    )
    return (
        pl.col(*as_it_is, "stop_price", "stop_now", "target_price", *(column.name for column in PATH_COLUMNS)),
        _by_side(BySide(LONG, SHORT)).alias("side"),
        exits.then("last_ts").alias("exit_ts"),
        exits.then("last_price").alias("exit_price"),
        (gain * 100).alias("return_pct"),
        ((gain - costs) * 100).alias("net_return_pct"),
        pl.when(risk > 0).then(side * (last - entry) / risk + 0.0).alias("r_multiple"),
        (moved(pl.col("worst_price")) * 100).alias("mae_pct"),
        (moved(pl.col("best_price")) * 100).alias("mfe_pct"),
        exits.then(pl.lit(CLOSED)).otherwise(pl.lit(OPEN)).alias("status"),
    )


def _state_rows(states: Records, symbols: pl.Series, variant: Variant) -> pl.DataFrame:
    of_trade = pl.col([name for name in STATE_SCHEMA if name not in ("side", *_WITHOUT_TRADE)])
    return (
        frame_of(states, ("ts", *(name for name in STATE_SCHEMA if name != "entry_reason")))
        .with_columns(
            symbols.gather(states["series"]).alias("symbol"), entry_reason=_by_side(variant.rule.entry_reasons)
        )
        .with_columns(pl.when(pl.col("side") != 0).then(of_trade))
        .select(_STATE_COLUMNS)
    )
