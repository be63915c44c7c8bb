"""Bars as the simulator sees them: arrays in the order of steps, with what the rule says about each bar.

What a rule says about a bar depends on that bar alone, so it is computed for all bars at once. What follows from it
depends on the open trade and the pending order, and is decided while engine.py steps through time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from ema_assets.strategies.rule import Evaluation, Rule
from ema_assets.strategies.simulator.layout import (
    NEVER,
    Flags,
    Floats,
    Ints,
    Layout,
    Sides,
    floats,
    named_sides,
    times,
)
from ema_assets.strategies.variant import Variant

# States are kept of every bar whose number this divides, and of the newest bars of a series.
STATE_EVERY = 256
NEWEST_STATES = 8


@dataclass(frozen=True, slots=True)
class Bars:
    """One entry per row, in the order of steps. Sides are 1 for long, -1 for short, 0 for neither.

    Attributes:
        layout: of the rows.
        ts: the opening time, microseconds; `session` likewise.
        open: price; `high`, `low`, `close` likewise.
        session: opening time of the bar's session; NEVER unless trades end with it.
        atr: NaN when unknown or not wanted.
        ends: the bar is the last of its session and trades end with it.
        direction: the side that the rule says the bar favours.
        entry: the side for which the bar asks for an entry, all filters passed.
        allowed: `direction` where the filters let an entry on that side, else 0.
        marks: the rule's own arrays, by name.
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
    direction: Sides
    entry: Sides
    allowed: Sides
    marks: Mapping[str, npt.NDArray[np.generic]]
    is_kept: Flags


def read_bars(frame: pl.DataFrame, layout: Layout, variant: Variant) -> Bars:
    """Bars from a frame with the columns that `simulate` names.

    Raises:
        ValueError: when the rule's `evaluate` returns something else than one entry per row.
    """
    place = layout.place
    size = frame.height
    evaluation = variant.rule.evaluate(frame, variant.params)
    _check(variant.rule, evaluation, size)
    direction, entry = place(evaluation.direction), place(evaluation.entry)
    if variant.exit_at_session_end:
        session = place(times(frame["session"]))
        ends = place(frame["is_session_last"].fill_null(value=False).to_numpy())
    else:
        session, ends = np.full(size, NEVER), np.zeros(size, np.bool_)
    long, short = _open_to(frame, layout, variant, ends)
    atr = np.full(size, np.nan)
    long_entry, short_entry = long, short
    if variant.uses_atr:
        atr = place(floats(frame["atr"]))
        is_known = ~np.isnan(atr)
        long_entry, short_entry = long & is_known, short & is_known
    return Bars(
        layout=layout,
        ts=place(times(frame["ts"])),
        open=place(floats(frame["open"])),
        high=place(floats(frame["high"])),
        low=place(floats(frame["low"])),
        close=place(floats(frame["close"])),
        session=session,
        atr=atr,
        ends=ends,
        direction=direction,
        entry=_where_open(entry, long_entry, short_entry),
        allowed=_where_open(direction, long, short),
        marks={name: place(values) for name, values in evaluation.marks.items()},
        is_kept=_is_kept(frame["bar_number"], layout),
    )


def known_trend(variant: Variant) -> pl.Expr:
    """The `trend` of a higher timeframe's bars, null where the variant waits for it to converge (by `bar_number`)."""
    return pl.when(pl.col("bar_number") >= variant.converged_after).then("trend").alias("trend")


def _check(rule: Rule, evaluation: Evaluation, size: int) -> None:
    sides = {"direction": evaluation.direction, "entry": evaluation.entry}
    for name, values in {**sides, **evaluation.marks}.items():
        if values.shape != (size,) or (name in sides and values.dtype != np.int8):
            raise ValueError(
                f"rule {rule.name!r}: `{name}` of its evaluation must have one entry per bar, {size}, of int8 for "
                f"a side; received shape {values.shape} of {values.dtype}"
            )


def _open_to(frame: pl.DataFrame, layout: Layout, variant: Variant, ends: Flags) -> tuple[Flags, Flags]:
    """After which bars the variant's sides and filters let a long trade begin, and after which a short one."""
    passes = ~ends
    if variant.converged_after:
        passes &= layout.place(frame["bar_number"].fill_null(0).to_numpy()) >= variant.converged_after
    if variant.min_spread_pct > 0:
        # Unknown compares as False.
        passes &= layout.place(np.abs(floats(frame["spread_pct"]))) >= variant.min_spread_pct
    if variant.higher_timeframe is None:
        return passes & variant.allow_long, passes & variant.allow_short
    trend = layout.place(named_sides(frame["higher_trend"]))
    return passes & (trend == 1) & variant.allow_long, passes & (trend == -1) & variant.allow_short


def _where_open(sides: Sides, long: Flags, short: Flags) -> Sides:
    """`sides` where a trade on that side may begin, else 0."""
    return np.where((sides == 1) & long | (sides == -1) & short, sides, np.int8(0))


def _is_kept(bar_numbers: pl.Series, layout: Layout) -> Flags:
    steps = np.repeat(np.arange(layout.offsets.size - 1), np.diff(layout.offsets))
    ranks = np.arange(steps.size) - layout.offsets[steps]
    newest: Flags = steps >= layout.lengths[ranks] - NEWEST_STATES
    numbered: Flags = layout.place(bar_numbers.fill_null(1).cast(pl.Int64).to_numpy()) % STATE_EVERY == 0
    return newest | numbered
