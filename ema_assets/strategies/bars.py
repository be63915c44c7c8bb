"""Bars as the simulator sees them: arrays in the order of steps, with what each bar's close says already decided.

What a bar says depends on that bar alone, so it is worked out for all bars at once. What is made of it depends on the
trade and the order of the moment, and is in engine.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from ema_assets.strategies.layout import NEVER, Flags, Floats, Ints, Layout, Sides, floats, times
from ema_assets.strategies.variant import CROSSOVER, Variant

# States are kept of every bar with a number that this divides, and of the newest bars of a series.
STATE_EVERY = 256
NEWEST_STATES = 8

_DIRECTIONS: Mapping[str, int] = {"bullish": 1, "bearish": -1, "up": 1, "down": -1}


@dataclass(frozen=True, slots=True)
class Bars:
    """One entry a row, in the order of steps. Sides are 1 for long, -1 for short, 0 for neither.

    Attributes:
        layout: of the rows.
        ts: the opening time, microseconds; `session` likewise.
        open: price; `high`, `low`, `close` likewise.
        session: opening time of the bar's session.
        atr: NaN when unknown or not wanted.
        ends: the bar is the last of its session and trades end with it.
        turn: crossover: the side of the crossover on this bar. pullback: the side on which EMA 9 lies of WMA 30.
        is_known: both averages exist.
        dip: pullback: the side of which this bar's close is a pullback: 1 below EMA 9, -1 above.
        signal: the side for which this bar asks for an entry, all filters passed.
        keeps: pullback: the side whose waiting order outlives this bar.
        is_kept: the state after this bar is wanted.
    """

    layout: Layout
    ts: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    session: Ints
    atr: Floats
    ends: Flags
    turn: Sides
    is_known: Flags
    dip: Sides
    signal: Sides
    keeps: Sides
    is_kept: Flags


def read_bars(frame: pl.DataFrame, layout: Layout, variant: Variant) -> Bars:
    """Bars from a frame with the columns that `simulate` names."""
    place = layout.place
    size = frame.height
    close = place(floats(frame["close"]))
    if variant.rule == CROSSOVER:
        turn = place(_directions(frame["crossover"]))
        is_known = np.ones(size, np.bool_)
        dip = np.zeros(size, np.int8)
        wanted = turn
    else:
        fast, slow = place(floats(frame["ema_9"])), place(floats(frame["wma_30"]))
        turn = _signs(fast - slow)
        is_known = ~(np.isnan(fast) | np.isnan(slow))
        dip = _signs(fast - close)
        wanted = np.where(turn == dip, turn, np.int8(0))
    if variant.exit_at_session_end:
        session, ends = (
            place(times(frame["session"])),
            place(frame["is_session_last"].fill_null(value=False).to_numpy()),
        )
    else:
        session, ends = np.full(size, NEVER), np.zeros(size, np.bool_)
    atr = place(floats(frame["atr"])) if variant.uses_atr else np.full(size, np.nan)
    passes = _passes(frame, layout, variant, turn) & ~ends
    has_atr = ~np.isnan(atr) if variant.uses_atr else np.ones(size, np.bool_)
    return Bars(
        layout=layout,
        ts=place(times(frame["ts"])),
        open=place(floats(frame["open"])),
        high=place(floats(frame["high"])),
        low=place(floats(frame["low"])),
        close=close,
        session=session,
        atr=atr,
        ends=ends,
        turn=turn,
        is_known=is_known,
        dip=dip,
        signal=np.where(passes & has_atr, wanted, np.int8(0)),
        keeps=np.where(passes, turn, np.int8(0)),
        is_kept=_is_kept(frame["bar_number"], layout),
    )


def _passes(frame: pl.DataFrame, layout: Layout, variant: Variant, turn: Sides) -> Flags:
    """Whether the filters let a trade in the direction of `turn` begin after this bar."""
    passes: Flags = (turn == 1) & variant.allow_long | (turn == -1) & variant.allow_short
    if variant.min_spread_pct > 0:
        # Unknown compares as False.
        passes &= layout.place(np.abs(floats(frame["spread_pct"]))) >= variant.min_spread_pct
    if variant.higher_timeframe is not None:
        passes &= layout.place(_directions(frame["higher_trend"])) == turn
    return passes


def _directions(column: pl.Series) -> Sides:
    return column.cast(pl.String).replace_strict(_DIRECTIONS, default=0, return_dtype=pl.Int8).to_numpy()


def _signs(differences: Floats) -> Sides:
    return (differences > 0).astype(np.int8) - (differences < 0).astype(np.int8)


def _is_kept(bar_numbers: pl.Series, layout: Layout) -> Flags:
    steps = np.repeat(np.arange(layout.offsets.size - 1), np.diff(layout.offsets))
    ranks = np.arange(steps.size) - layout.offsets[steps]
    newest: Flags = steps >= layout.lengths[ranks] - NEWEST_STATES
    numbered: Flags = layout.place(bar_numbers.fill_null(1).cast(pl.Int64).to_numpy()) % STATE_EVERY == 0
    return newest | numbered
