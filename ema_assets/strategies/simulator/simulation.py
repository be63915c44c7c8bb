"""`simulate`: bars to the trades of one variant, and to the states from which they go on. Frames in, frames out."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from ema_assets.model.schemas import UTC_TIME
from ema_assets.strategies.rule import BySide
from ema_assets.strategies.simulator.bars import Bars, read_bars
from ema_assets.strategies.simulator.book import (
    BY_SESSION_END,
    BY_SESSION_MISSED,
    BY_SIGNAL,
    BY_STOP,
    BY_TARGET,
    BY_TRAILING_STOP,
    Book,
    Snapshots,
    Trades,
)
from ema_assets.strategies.simulator.engine import run
from ema_assets.strategies.simulator.layout import Ints, Layout, float_column, floats, time_column, times
from ema_assets.strategies.simulator.path import Path, add_up
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

_REASONS = {
    BY_STOP: STOP,
    BY_TRAILING_STOP: TRAILING_STOP,
    BY_TARGET: TARGET,
    BY_SESSION_END: SESSION_END,
    BY_SESSION_MISSED: SESSION_MISSED,
}
_TRADE_COLUMNS = ("symbol", *TRADE_SCHEMA)
_STATE_COLUMNS = ("symbol", "ts", *STATE_SCHEMA)


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
        ValueError: when the rule's `evaluate` returns something else than one entry per bar.
    """
    idle = carried.filter(pl.col("side") != 0).join(bars.select("symbol").unique(), on="symbol", how="anti")
    unmoved = _unmoved(idle, variant)
    if bars.is_empty():
        states = pl.DataFrame(schema={"symbol": pl.String(), "ts": UTC_TIME, **STATE_SCHEMA})
        return Simulated(unmoved.sort("symbol", "entry_ts"), states)
    layout = Layout.of(bars["symbol"])
    seen = read_bars(bars, layout, variant)
    before = layout.symbols.to_frame("symbol").join(carried, on="symbol", how="left", maintain_order="left")
    before = before.with_columns(
        pl.col("side", "order_side").fill_null(0), pl.col("exit_pending").fill_null(value=False)
    )
    book = _book_of(before, variant)
    run(seen, book, variant)
    trades, snapshots = book.trades(), book.snapshots()
    carried_trades = before.filter(pl.col("side") != 0)
    path, kept = add_up(seen, trades, Path.read(carried_trades), snapshots, _cost(variant))
    entries = _entries(seen, trades, carried_trades, variant)
    rows = _trade_rows(entries, trades, path, variant)
    states = _state_rows(seen, entries, snapshots, kept)
    return Simulated(
        pl.concat([rows, unmoved]).sort("symbol", "entry_ts"),
        states.sort("symbol", "ts"),
    )


def _cost(variant: Variant) -> float:
    return variant.cost_bps / 10_000


def _book_of(before: pl.DataFrame, variant: Variant) -> Book:
    """The book that the states `before` describe, one per series by rank."""
    book = Book(before.height, variant)
    ranks = np.flatnonzero(before["side"].to_numpy())
    trades = before[ranks]
    sides = trades["side"].cast(pl.Int8).to_numpy()
    book.carry(
        ranks, sides, floats(trades["entry_price"]), floats(trades["stop_price"]), floats(trades["target_price"])
    )
    book.stop_now[ranks] = floats(trades["stop_now"])
    book.exit_pending[:] = before["exit_pending"].to_numpy()
    book.order_side[:] = before["order_side"].cast(pl.Int8).to_numpy()
    book.order_price[:] = floats(before["order_price"])
    book.order_stop[:] = floats(before["order_stop"])
    book.order_atr[:] = floats(before["order_atr"])
    book.session[:] = times(before["session"])
    return book


def _entries(bars: Bars, trades: Trades, carried: pl.DataFrame, variant: Variant) -> pl.DataFrame:
    """One row per trade, by number: symbol, side (1 or -1), the columns of its entry, stop_price, target_price."""
    entry_ts = bars.ts[np.maximum(trades.entry_row, 0)]
    entry_ts[: carried.height] = times(carried["entry_ts"])
    frame = pl.DataFrame(
        [
            bars.layout.symbols.gather(trades.rank).alias("symbol"),
            pl.Series("side", trades.side, dtype=pl.Int64),
            time_column("entry_ts", entry_ts),
            float_column("entry_price", trades.entry_price),
            float_column("stop_price", trades.stop),
            float_column("target_price", trades.target),
        ]
    )
    return frame.with_columns(entry_reason=_by_side(variant.rule.entry_reasons))


def _by_side(words: BySide) -> pl.Expr:
    return pl.when(pl.col("side") > 0).then(pl.lit(words.long)).otherwise(pl.lit(words.short))


def _path_columns(path: Path) -> list[pl.Series]:
    columns = [pl.Series("bars_held", path.bars_held, dtype=pl.Int64)]
    columns += [time_column("last_ts", path.last_ts), float_column("last_price", path.last_price)]
    columns += [float_column(name, getattr(path, name)) for name in ("worst_price", "best_price")]
    for column in PATH_COLUMNS:
        make = time_column if column.kind == "timestamptz" else float_column
        columns.append(make(column.name, getattr(path, column.name)))
    return columns


def _trade_rows(entries: pl.DataFrame, trades: Trades, path: Path, variant: Variant) -> pl.DataFrame:
    is_closed = pl.Series("is_closed", trades.exit_row >= 0)
    frame = entries.with_columns(
        *_path_columns(path),
        is_closed,
        pl.Series("reason", trades.reason, dtype=pl.Int8),
        float_column("stop_now", trades.stop_now),
    )
    by_rule = _by_side(variant.rule.exit_reasons)
    reason = pl.col("reason").replace_strict(_REASONS, default=None, return_dtype=pl.String)
    frame = frame.with_columns(exit_reason=pl.when(pl.col("reason") == BY_SIGNAL).then(by_rule).otherwise(reason))
    return _figures(frame, _cost(variant))


def _unmoved(states: pl.DataFrame, variant: Variant) -> pl.DataFrame:
    """The open trades of `states` whose series have no further bar."""
    return _figures(
        states.with_columns(is_closed=pl.lit(value=False), exit_reason=pl.lit(None, pl.String)), _cost(variant)
    )


def _figures(frame: pl.DataFrame, cost: float) -> pl.DataFrame:
    """Trades in their final columns, from side, entry, last price, worst and best price, stop and path."""
    entry, last, side = pl.col("entry_price"), pl.col("last_price"), pl.col("side")

    def moved(price: pl.Expr) -> pl.Expr:
        """The gain at `price` as a fraction of the entry price; null where one of them is not above zero."""
        # Adding 0 makes the -0 of a short trade that has not moved a plain 0.
        return pl.when((entry > 0) & (price > 0)).then(side * (price / entry - 1) + 0.0)

    gain = moved(last)
    costs = cost + pl.when("is_closed").then(cost * (last / entry)).otherwise(0.0)
    risk = side * (entry - pl.col("stop_price"))
    exits = pl.when("is_closed")
    return frame.select(
        "symbol",
        "entry_ts",
        _by_side(BySide(LONG, SHORT)).alias("side"),
        "entry_price",
        "entry_reason",
        exits.then("last_ts").alias("exit_ts"),
        exits.then("last_price").alias("exit_price"),
        "exit_reason",
        "last_ts",
        "last_price",
        (gain * 100).alias("return_pct"),
        ((gain - costs) * 100).alias("net_return_pct"),
        "bars_held",
        "stop_price",
        "stop_now",
        "target_price",
        pl.when(risk > 0).then(side * (last - entry) / risk + 0.0).alias("r_multiple"),
        (moved(pl.col("worst_price")) * 100).alias("mae_pct"),
        (moved(pl.col("best_price")) * 100).alias("mfe_pct"),
        exits.then(pl.lit(CLOSED)).otherwise(pl.lit(OPEN)).alias("status"),
        *(column.name for column in PATH_COLUMNS),
    ).select(_TRADE_COLUMNS)


def _state_rows(bars: Bars, entries: pl.DataFrame, snapshots: Snapshots, kept: Path) -> pl.DataFrame:
    rows = snapshots.row
    symbols = bars.layout.symbols.gather(_ranks(bars.layout, rows))
    moment = pl.DataFrame(
        [
            symbols.alias("symbol"),
            time_column("ts", bars.ts[rows]),
            float_column("stop_now", snapshots.stop_now),
            pl.Series("exit_pending", snapshots.exit_pending),
            pl.Series("order_side", snapshots.order_side, dtype=pl.Int64),
            float_column("order_price", snapshots.order_price),
            float_column("order_stop", snapshots.order_stop),
            float_column("order_atr", snapshots.order_atr),
            time_column("session", bars.session[rows]),
        ]
    )
    is_open = pl.Series(snapshots.trade >= 0)
    picks = pl.Series(snapshots.trade).set(~is_open, None)
    trade = entries.drop("symbol").select(pl.all().gather(picks))
    path = pl.DataFrame(_path_columns(kept)).select(pl.when(is_open).then(pl.all()))
    frame = pl.concat([moment, trade, path], how="horizontal")
    return frame.with_columns(pl.col("side").fill_null(0)).select(_STATE_COLUMNS)


def _ranks(layout: Layout, rows: Ints) -> Ints:
    return rows - layout.offsets[np.searchsorted(layout.offsets, rows, side="right") - 1]
