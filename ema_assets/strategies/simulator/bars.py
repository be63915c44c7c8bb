"""Bars as arrays for the event loop, with the signals of the rule and of the variant's filters for each bar.

The signals of a rule depend on their own bar alone, so they are computed for all bars at once. What follows from them
depends on the open trade and the pending order, and is decided in events.py.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from ema_assets.model.errors import RuleError, UnsoundRule
from ema_assets.model.kernels import floats
from ema_assets.model.own_modules import TooLong, in_time, is_own, line_of, told
from ema_assets.model.symbols import DOWN, UP
from ema_assets.strategies.rule import FLAGS, PRICES, Rule
from ema_assets.strategies.simulator import own_rows
from ema_assets.strategies.simulator.arrays import NEVER, Flags, Floats, Ints, Sides, times
from ema_assets.strategies.variant import Variant

# States are kept of every bar whose number is divisible by this power of two, and of the newest bars of a series.
STATE_EVERY = 256
NEWEST_STATES = 8

# In a walk-forward, trades also end at the last close of a window, and orders are filled in its last bar. This column
# of bars says in which bars none is.
IS_SHUT = "is_shut"

_NAN = float("nan")


class Bars(NamedTuple):
    """Columns with one entry per bar, sorted by series and time. They are arrays, or lists.

    Attributes:
        ts: Opening time of the bar, microseconds.
        open: Price; likewise `high`, `low` and `close`.
        session: Opening time of the bar's session, microseconds; empty unless trades end with the session.
        atr: NaN when unknown; empty unless the variant uses it.
        is_end: Whether open trades end at this close, as that of the last bar of a session; empty unless they ever do.
        is_shut: Whether no order is filled in this bar, as in the last one of a session; empty as `is_end` is.
        is_kept: Whether the state after this bar is kept.
        entry: The side for which the bar requests an entry that passes all filters: 1 for long, -1 for short, else 0.
        leave_long: Whether an open long trade ends at this close; `leave_short` likewise.
        keep_long: Whether a pending order to buy stays; `keep_short` likewise. Empty unless entries are made by orders.
        order_price: Price of the order that the bar places; empty unless entries are made by orders.
        entry_stop: Stop of the trade that the bar requests, NaN for none; empty when the rule sets no stops.
        trail_long: New stop of a long trade, NaN for no change; empty when the rule does not trail such stops.
        trail_short: The same for a short trade.
    """

    ts: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    session: Ints
    atr: Floats
    is_end: Flags
    is_shut: Flags
    is_kept: Flags
    entry: Sides
    leave_long: Flags
    leave_short: Flags
    keep_long: Flags
    keep_short: Flags
    order_price: Floats
    entry_stop: Floats
    trail_long: Floats
    trail_short: Floats


def no_bars() -> Bars:
    """Return empty columns of the right types."""
    kinds = {Ints: np.int64, Floats: np.float64, Flags: np.bool_, Sides: np.int8}
    return Bars(*(np.empty(0, kinds[kind]) for kind in Bars.__annotations__.values()))


@dataclass(slots=True)
class Bar:
    """One bar of `Bars`, at `row`. Fields whose column is empty keep these defaults. A flag is 1 or 0."""

    row: int = -1
    ts: int = NEVER
    open: float = _NAN
    high: float = _NAN
    low: float = _NAN
    close: float = _NAN
    session: int = NEVER
    atr: float = _NAN
    is_end: int = 0
    is_shut: int = 0
    entry: int = 0
    leave_long: int = 0
    leave_short: int = 0
    keep_long: int = 0
    keep_short: int = 0
    order_price: float = _NAN
    entry_stop: float = _NAN
    trail_long: float = _NAN
    trail_short: float = _NAN


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a variant for the event loop. A flag is 1 or 0.

    Attributes:
        cost: Costs per side of a trade, as a fraction of the traded value.
        atr_stop: A multiple of the ATR, NaN for none; `atr_target` likewise.
        by_order: Whether entries are made by stop orders. Otherwise they are made at the close or the next open.
        fills_at_open: Whether decisions at a close are executed at the next open.
        ends_with_session: Whether no trade and no order stays overnight.
    """

    cost: float
    atr_stop: float
    atr_target: float
    by_order: int
    fills_at_open: int
    ends_with_session: int


def read_options(bars: Bars, variant: Variant) -> Options:
    """Return the options of `variant`. `bars` tell whether its rule enters by orders."""
    return Options(
        cost=variant.cost,
        atr_stop=_NAN if variant.atr_stop is None else variant.atr_stop,
        atr_target=_NAN if variant.atr_target is None else variant.atr_target,
        by_order=int(len(bars.order_price) > 0),
        fills_at_open=int(variant.fills_at_open),
        ends_with_session=int(variant.exit_at_session_end),
    )


def read_bars(frame: pl.DataFrame, begins: Ints, variant: Variant) -> Bars:
    """Return the bars of `frame` as arrays, with the signals of the rule.

    Args:
        frame: The columns that `simulate` names.
        begins: The first row of each series, and the number of rows.
        variant: As it trades on the bars' timeframe.

    Raises:
        RuleError: when the rule's `evaluate` fails, returns anything that it must not, or looks at other bars.
    """
    said = _Said(frame, variant)
    ends = (
        frame["is_session_last"].fill_null(value=False).to_numpy()
        if variant.exit_at_session_end
        else np.empty(0, np.bool_)
    )
    may_long, may_short = _open_to(frame, variant, ends)
    atr = np.empty(0)
    enters_long, enters_short = said.flag("enter_long", may_long), said.flag("enter_short", may_short)
    if variant.uses_atr:
        atr = floats(frame["atr"])
        is_known = ~np.isnan(atr)
        enters_long, enters_short = enters_long & is_known, enters_short & is_known
    # A bar that requests both sides enters neither.
    entry = enters_long.astype(np.int8) - enters_short.astype(np.int8)
    by_order = said.has("order_long", "order_short")
    nothing = np.empty(0, np.bool_)
    return Bars(
        ts=times(frame["ts"]),
        open=floats(frame["open"]),
        high=floats(frame["high"]),
        low=floats(frame["low"]),
        close=floats(frame["close"]),
        session=times(frame["session"]) if variant.exit_at_session_end else np.empty(0, np.int64),
        atr=atr,
        is_end=ends,
        is_shut=frame[IS_SHUT].to_numpy() if IS_SHUT in frame.columns else ends,
        is_kept=_is_kept(frame["bar_number"], begins),
        entry=_where_priced(entry, said.by_side("order", entry)) if by_order else entry,
        leave_long=said.flag("leave_long"),
        leave_short=said.flag("leave_short"),
        keep_long=may_long & ~said.flag("cancel_long") if by_order else nothing,
        keep_short=may_short & ~said.flag("cancel_short") if by_order else nothing,
        order_price=said.by_side("order", entry),
        entry_stop=said.by_side("stop", entry),
        trail_long=said.price("trail_long"),
        trail_short=said.price("trail_short"),
    )


def known_trend(variant: Variant) -> pl.Expr:
    """Return the `trend` of a higher timeframe's bars, null while `bar_number` says that it has not converged yet."""
    return pl.when(pl.col("bar_number") >= variant.converged_after).then("trend").alias("trend")


class _Said:
    """The checked result of the rule's `evaluate` for the bars of `frame`."""

    def __init__(self, frame: pl.DataFrame, variant: Variant) -> None:
        said = _evaluated(variant, frame)
        # Rules of the package are not checked here, because tests check them.
        unlike = (
            own_rows.difference(frame, said, partial(_evaluated, variant)) if is_own(variant.rule.evaluate) else None
        )
        if unlike is not None:
            column, row = unlike
            symbol, ts = frame["symbol"][row], frame["ts"][row]
            raise UnsoundRule(
                f"rule {variant.rule.name!r}{variant.rule.place}: `evaluate` must use only the row of each bar, but "
                f"`{column}` of {symbol} at {ts:%Y-%m-%d %H:%M} UTC changes when bars around it are left out; what "
                "looks back is a signal's business (docs/SIGNALS.md)"
            )
        self._size = frame.height
        self._frame = said

    def has(self, *names: str) -> bool:
        return any(name in self._frame.columns for name in names)

    def flag(self, name: str, where: Flags | np.bool_ = np.True_) -> Flags:
        """Return a column of flags. It is False outside `where`, and everywhere when the rule left it out."""
        flags = np.zeros(self._size, np.bool_)
        if self.has(name) and where.any():
            # Few flags are true. Converting the bits of all bars into bytes takes twice as long.
            flags[self._frame[name].cast(pl.Boolean).arg_true().to_numpy()] = True
            if where.ndim:
                flags &= where
        return flags

    def price(self, name: str) -> Floats:
        """Return a column of prices, NaN for none; empty when the rule left it out."""
        return floats(self._frame[name]) if self.has(name) else np.empty(0)

    def by_side(self, name: str, side: Sides) -> Floats:
        """Return `<name>_long` where `side` is long, else `<name>_short`; empty when the rule left out both."""
        if not self.has(f"{name}_long", f"{name}_short"):
            return np.empty(0)
        long, short = (
            self.price(each) if self.has(each) else np.full(self._size, np.nan)
            for each in (f"{name}_long", f"{name}_short")
        )
        return np.where(side > 0, long, short)


def _evaluated(variant: Variant, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the result of the rule's `evaluate` for `frame`: one row per bar, with allowed columns only."""
    rule = variant.rule
    try:
        if is_own(rule.evaluate):
            # Copies, as for a signal of the user's own.
            said = in_time(lambda: rule.evaluate(frame.clone(), dict(variant.params)), frame.height)
        else:
            said = rule.evaluate(frame, variant.params)
    except MemoryError:
        raise
    except TooLong as error:
        where = _where(rule, error.__cause__ or error)
        raise UnsoundRule(f"rule {rule.name!r}: `evaluate`{where} {error}") from None
    except (Exception, SystemExit) as error:
        raise RuleError(f"rule {rule.name!r}: `evaluate` failed{_where(rule, error)} {told(error)}") from error
    problem = _problem(said, frame.height)
    if problem is None and is_own(rule.evaluate):
        problem = _infinite(said)
    if problem is not None:
        raise RuleError(f"rule {rule.name!r}{rule.place}: `evaluate` must return {problem}")
    return said


def _where(rule: Rule, error: BaseException) -> str:
    """Return the file and line in which the rule failed as text; a colon when unknown."""
    code = getattr(rule.evaluate, "__code__", None)
    line = "" if code is None else line_of(error, code.co_filename)
    return f" in {code.co_filename},{line}" if code is not None and line else ":"


def _problem(said: Any, size: int) -> str | None:
    """Return what `evaluate` must return but did not; None when the result is valid."""
    if not isinstance(said, pl.DataFrame):
        return f"a polars frame, received {type(said).__name__}"
    if said.height != size:
        return f"one row per bar, received {'fewer' if said.height < size else 'more'} rows than bars"
    for name, dtype in said.schema.items():
        if name not in (*FLAGS, *PRICES):
            return f"columns among {', '.join((*FLAGS, *PRICES))}, received {name!r}"
        if dtype != pl.Null and not (dtype == pl.Boolean if name in FLAGS else dtype.is_numeric()):
            return f"{'true or false' if name in FLAGS else 'prices'} in `{name}`, received {dtype}"
    return None


def _infinite(said: pl.DataFrame) -> str | None:
    """Return what to return in place of an infinite price: a stop there would be hit at once or never."""
    for name, dtype in said.schema.items():
        if name in PRICES and dtype.is_float() and said[name].is_infinite().any():
            return f"a finite price or null in `{name}`, received infinity; is something divided by 0?"
    return None


def _open_to(frame: pl.DataFrame, variant: Variant, ends: Flags) -> tuple[Flags | np.bool_, Flags | np.bool_]:
    """Return after which bars the variant's sides and filters allow a long trade to begin, and a short one.

    Each result is a single flag for all bars when it does not depend on the bar.
    """
    passes: Flags | np.bool_ = ~ends if variant.exit_at_session_end else np.True_
    if variant.converged_after:
        passes = passes & (frame["bar_number"].fill_null(0).to_numpy() >= variant.converged_after)
    if variant.min_spread_pct > 0:
        # NaN, an unknown spread, compares as False.
        passes = passes & (np.abs(floats(frame["spread_pct"])) >= variant.min_spread_pct)
    if variant.higher_timeframe is None:
        return passes & variant.allow_long, passes & variant.allow_short
    is_up, is_down = ((frame["higher_trend"] == trend).fill_null(value=False).to_numpy() for trend in (UP, DOWN))
    return passes & is_up & variant.allow_long, passes & is_down & variant.allow_short


def _where_priced(entry: Sides, prices: Floats) -> Sides:
    """Return `entry` where the order has a price, else 0."""
    return np.where(np.isnan(prices), np.int8(0), entry)


def _is_kept(bar_numbers: pl.Series, begins: Ints) -> Flags:
    numbers = bar_numbers.cast(pl.Int64)
    whole = (numbers.fill_null(1) if numbers.null_count() else numbers).to_numpy()
    # For a power of two, these bits are the remainder. A division takes ten times as long.
    is_kept: Flags = np.bitwise_and(whole, STATE_EVERY - 1, dtype=np.int16, casting="unsafe") == 0
    ends = begins[1:]
    for back in range(1, NEWEST_STATES + 1):
        rows = ends - back
        is_kept[rows[rows >= begins[:-1]]] = True
    return is_kept
