"""Checks that a user's signal computes each symbol alone, and the same values however a history is cut. No I/O.

Exceptions and invalid results are reported with the name, file and line of the signal.

Signals of the package have tests for this. A user's signal is checked while it computes, on its own bars: some bars are
computed again, as the increments of later days would, and both results must be the same. Otherwise the values of a
forgotten `.over("symbol")`, of too few `bars_before` or of a look-ahead would be stored, and differ with each new bar.
For a window of 50 bars on 100 symbols, the check takes 12 ms in addition to 19 ms over 5,000 bars, and 1 ms for a new
bar.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import wraps
from itertools import pairwise

import numpy as np
import polars as pl
from polars.exceptions import ColumnNotFoundError

from ema_assets.model.errors import SignalError, UnsoundSignal
from ema_assets.model.own_modules import TooLong, in_time, line_of, told
from ema_assets.model.schemas import KINDS
from ema_assets.model.stretches import Rows, stretches
from ema_assets.signals.declaration import Column, Params, Signal

Compute = Callable[[pl.DataFrame, pl.DataFrame, Params], pl.DataFrame]

# How many first bars of a symbol are computed alone, in addition to `bars_before`.
_FIRST_BARS = 64
# How many symbols are continued, at how many places of their history, and for how many bars.
_SYMBOLS, _PLACES, _BARS = 8, 8, 4
# These symbols are also computed without the later part of their history: the first symbol keeps the first share of its
# bars, the last symbol the second.
_KEPT = 0.5, 0.6
# Tolerances. Relative to a value: another beginning may weigh a millionth, as in converged averages. Relative to the
# largest value of a column: the rounding errors of running sums.
_RELATIVE, _ABSOLUTE = 1e-6, 1e-9
_KEYS = ("symbol", "ts")
# The share of bars in which a column that is not a float may differ, such as a flag that compares such sums.
_FEW = 0.05
_NARROW = (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32)


def checked(signal: Signal, origin: str) -> Signal:
    """Return the signal of the file `origin` with a checked `compute`.

    It raises SignalError when the signal's `compute` fails or returns an invalid result, and UnsoundSignal, a
    SignalError, when the values depend on anything that they must not depend on.
    """
    compute = _named(signal, origin)

    @wraps(signal.compute)  # the catalog of the UI leads there
    def computed(bars: pl.DataFrame, carried: pl.DataFrame, params: Params) -> pl.DataFrame:
        rows = compute(bars, carried, params)
        call = _Call(signal, compute, params, bars, carried)
        problem = None if rows.is_empty() else next(call.problems(rows), None)
        if problem is not None:
            raise UnsoundSignal(f"signal `{signal.name}` in {origin}{_line(signal.compute)}: {problem}")
        return rows

    return replace(signal, compute=computed)


def _named(signal: Signal, origin: str) -> Compute:
    """Return the `compute` of `signal` with errors that say where it failed and what it must return."""
    name = f"signal `{signal.name}` in {origin}"

    def compute(bars: pl.DataFrame, carried: pl.DataFrame, params: Params) -> pl.DataFrame:
        try:
            # Copies: it may change what it gets in place, and is called again with the same. Columns are shared.
            rows = in_time(lambda: signal.compute(bars.clone(), carried.clone(), dict(params)), bars.height)
        except MemoryError:
            raise
        except TooLong as error:
            where = line_of(error.__cause__ or error, origin)
            raise UnsoundSignal(f"{name}:{where} {error}") from None
        except (Exception, SystemExit) as error:
            where = line_of(error, origin)
            hint = _of_columns(signal) if isinstance(error, ColumnNotFoundError) else ""
            raise SignalError(f"{name}:{where} {told(error)}{hint}") from error
        if problem := _misfit(signal, bars, rows):
            raise SignalError(f"{name}{_line(signal.compute)}: `compute` must return {problem}")
        others = [column for column in signal.columns if rows.schema[column.name] != KINDS[column.kind]]
        return rows.with_columns(pl.col(column.name).cast(KINDS[column.kind]) for column in others)

    return compute


def _of_columns(signal: Signal) -> str:
    reads = "; ".join(f"{', '.join(columns)} of {asset}" for asset, columns in signal.reads.items())
    return f"; `bars` has the columns in `reads` of the signal, here {reads}"


def _misfit(signal: Signal, bars: pl.DataFrame, rows: object) -> str | None:
    """Return what `compute` must return for `bars` but did not; None when the result is valid.

    It is the same text for the same mistake, also with other bars: each new text of a failure is told anew.
    """
    if not isinstance(rows, pl.DataFrame):
        return f"a polars frame, received {type(rows).__name__}"
    if rows.height != bars.height:
        return f"one row per bar, received {'fewer' if rows.height < bars.height else 'more'} rows than bars"
    return _misfit_of_kinds(signal, bars, rows) or _misfit_of_values(signal, bars, rows)


def _misfit_of_kinds(signal: Signal, bars: pl.DataFrame, rows: pl.DataFrame) -> str | None:
    keys = {key: bars.schema[key] for key in _KEYS}
    for name, kind in (keys | {column.name: KINDS[column.kind] for column in signal.columns}).items():
        dtype = rows.schema.get(name)
        if dtype is None:
            return f"a column `{name}`, received {', '.join(rows.columns) or 'no columns'}"
        if dtype != kind and (name in keys or not _becomes(dtype, kind)):
            return f"`{name}` as {kind} of polars, received {dtype}"
    return None


def _misfit_of_values(signal: Signal, bars: pl.DataFrame, rows: pl.DataFrame) -> str | None:
    for key in _KEYS:
        if not rows[key].equals(bars[key]):
            if rows[key].sort().equals(bars[key].sort()):
                return f"the bars in the order in which it received them, but their `{key}` is in another order"
            return f"the bars as it received them, but their `{key}` has other values"
    problems = (_misfit_of_column(column, rows[column.name]) for column in signal.columns)
    return next((problem for problem in problems if problem is not None), None)


def _misfit_of_column(column: Column, found: pl.Series) -> str | None:
    if found.dtype.is_float() and found.is_infinite().any():
        return f"a finite number or null in `{column.name}`, received infinity; is something divided by 0?"
    if not column.is_nullable and (found.null_count() or (found.dtype.is_float() and found.is_nan().any())):
        return f"a value of `{column.name}` for each bar, as its column declares; received null"
    if found.dtype != pl.String:
        return None
    if found.str.contains("\0", literal=True).any():
        return f"text without a NUL character in `{column.name}`: PostgreSQL cannot store one"
    others = found.filter(~found.is_in(column.choices)) if column.choices else found.clear()
    return (
        None if others.is_empty() else f"{', '.join(column.choices)} or null in `{column.name}`, received {others[0]!r}"
    )


def _becomes(dtype: pl.DataType, kind: pl.DataType) -> bool:
    """Return whether `dtype` is accepted for a column of `kind`, because every value can be converted."""
    # A column may have no value at all while a series is within its first bars.
    return dtype == pl.Null or (kind == pl.Int64 and dtype in _NARROW)


def _line(compute: Compute) -> str:
    code = getattr(inspect.unwrap(compute), "__code__", None)
    return "" if code is None else f", line {code.co_firstlineno}"


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of `compute`."""

    signal: Signal
    compute: Compute
    params: Params
    bars: pl.DataFrame
    carried: pl.DataFrame

    def problems(self, rows: pl.DataFrame) -> Iterator[str]:
        """Yield what `compute` does but must not, found by further calls with some of the bars."""
        _, begins = stretches(self.bars["symbol"])
        yield from self._alone(begins, rows)
        yield from self._without_later_bars(begins, rows)
        yield from self._in_increments(begins, rows)

    def _alone(self, begins: Rows, rows: pl.DataFrame) -> Iterator[str]:
        """Compute the first bars of the last symbol and of the first symbol alone, and yield what changes.

        The last symbol has another symbol before it in the frame. Two symbols are checked because a rank among all
        symbols may be right for one of them by chance.
        """
        most = self.signal.bars_before(self.params) + _FIRST_BARS
        firsts = [np.arange(begin, min(begin + most, end)) for begin, end in pairwise(begins)]
        for place in dict.fromkeys((len(firsts) - 1, 0)):
            mine = firsts[place]
            if len(mine) == self.bars.height:
                return
            alone = self._computed(self.bars[mine], self.carried)
            unlike = self._unlike(alone, mine, self.bars["is_new"][mine], rows, 0.0)
            if unlike is not None:
                yield self._unsteady(rows) or self._blamed(unlike, alone, firsts, place)

    def _unsteady(self, rows: pl.DataFrame) -> str | None:
        """Return a message if the same call returns other values than `rows`; None if it returns the same."""
        unlike = self._unlike(
            self._computed(self.bars, self.carried), np.arange(self.bars.height), self.bars["is_new"], rows, 0.0
        )
        if unlike is None:
            return None
        return f"`compute` must use neither random numbers nor a clock, but {unlike} changes with each call"

    def _blamed(self, unlike: str, alone: pl.DataFrame, firsts: list[Rows], place: int) -> str:
        """Return a message that blames other symbols or later bars.

        The first bars of all symbols together tell which. They are computed only when something is wrong.
        """
        together = self._computed(self.bars[np.concatenate(firsts)], self.carried)
        before = sum(map(len, firsts[:place]))
        if not together[before : before + len(alone)].equals(alone):
            return _mixes(unlike)
        return _looks_ahead(unlike)

    def _without_later_bars(self, begins: Rows, rows: pl.DataFrame) -> Iterator[str]:
        """Compute symbols without the later part of their history, and yield what changes in the part before.

        All bars before are compared: a signal that marks few bars afterwards, such as turning points, looks ahead in
        these bars alone. Only symbols that `compute` computed from nothing are used.
        """
        begun = self._begun(begins)
        if not begun:
            return
        shares = np.linspace(*_KEPT, len(begun))
        kept = [
            np.arange(begin, begin + int((end - begin) * share))
            for (begin, end), share in zip(begun, shares, strict=True)
        ]
        mine = np.concatenate(kept)
        unlike = self._unlike(self._computed(self.bars[mine], self.carried), mine, self.bars["is_new"][mine], rows, 0.0)
        if unlike is None:
            return
        whole = np.concatenate([np.arange(begin, end) for begin, end in begun])
        whole_alone = self._computed(self.bars[whole], self.carried)
        if self._unlike(whole_alone, whole, self.bars["is_new"][whole], rows, 0.0) is None:
            yield _looks_ahead(unlike)
        else:
            yield self._unsteady(rows) or _mixes(unlike)

    def _in_increments(self, begins: Rows, rows: pl.DataFrame) -> Iterator[str]:
        """Continue symbols at some places of their history, as a refresh does, and yield what changes.

        Only symbols that `compute` computed from nothing are used.
        """
        begun = self._begun(begins)
        if not begun:
            return
        before = self.signal.bars_before(self.params)
        # Starting at the end, where averages are far from their beginning.
        for part in np.linspace(1, 0.3, _PLACES):
            starts = [begin + max(1, int((end - begin - _BARS) * part)) for begin, end in begun]
            carried = self._carried(rows[[start - 1 for start in starts]])
            known = set(carried["symbol"]) if self.signal.carries else None
            seen, new = [], []
            for (begin, end), start in zip(begun, starts, strict=True):
                # A symbol whose last row lacks a value would start again from its first bar.
                if known is None or self.bars["symbol"][begin] in known:
                    seen.append(np.arange(max(begin, start - before), min(start + _BARS, end)))
                    new.append(seen[-1] >= start)
            if not seen:
                continue
            mine, is_new = np.concatenate(seen), pl.Series(np.concatenate(new))
            again = self._computed(self.bars[mine].with_columns(is_new=is_new), carried)
            unlike = self._unlike(again, mine, is_new, rows, _FEW)
            if unlike is not None:
                yield self._unsteady(rows) or (
                    f"`compute` must give the same values however a history is cut into increments, but {unlike} "
                    f"changes when it goes on from the bar before; does it see enough bars (`bars_before`, here "
                    f"{before}), or carry what it goes on from (`carries`)?"
                )
                return

    def _begun(self, begins: Rows) -> list[tuple[int, int]]:
        """Return the first row and the end of some symbols with several bars that are computed from nothing."""
        is_new = self.bars["is_new"][begins[:-1]].to_numpy()
        places = np.flatnonzero((np.diff(begins) > 1) & is_new)
        places = places[:: max(1, len(places) // _SYMBOLS)][:_SYMBOLS]
        known = set(self.carried["symbol"])
        found = [(int(begins[place]), int(begins[place + 1])) for place in places]
        return [each for each in found if self.bars["symbol"][each[0]] not in known]

    def _carried(self, last: pl.DataFrame) -> pl.DataFrame:
        """Return symbol and the columns `carries` of the `last` rows, as they would be stored and read again."""
        kinds = {column.name: KINDS[column.kind] for column in self.signal.columns}
        found = last.select("symbol", *(pl.col(name).cast(kinds[name]) for name in self.signal.carries))
        found = found.with_columns(pl.selectors.float().fill_nan(None))
        return found if self.signal.carries_nulls else found.drop_nulls()

    def _computed(self, bars: pl.DataFrame, carried: pl.DataFrame) -> pl.DataFrame:
        mine = carried.filter(pl.col("symbol").is_in(bars["symbol"].unique().implode()))
        return self.compute(bars, mine, self.params)

    def _unlike(self, again: pl.DataFrame, mine: Rows, is_new: pl.Series, rows: pl.DataFrame, few: float) -> str | None:
        """Return the column and bar that differ from `rows`, among the new bars of `mine`; None when none does.

        Columns that are not floats may differ in the share `few` of the bars.
        """
        expected = rows[mine]
        found, expected = again.filter(is_new), expected.filter(is_new)
        if found.equals(expected):
            return None
        for column in self.signal.columns:
            name, kind = column.name, KINDS[column.kind]
            differs = ~_alike(*(each[name].cast(kind, strict=False) for each in (found, expected)))
            if differs.sum() > (0.0 if kind.is_float() else few) * len(differs):
                row = expected.row(int(differs.arg_true()[0]), named=True)
                return f"`{name}` of {row['symbol']} at {row['ts']:%Y-%m-%d %H:%M} UTC"
        return None


def _mixes(unlike: str) -> str:
    return (
        f"`compute` must compute each symbol by itself, but {unlike} changes when it is computed without the other "
        'symbols; is an `.over("symbol")` missing?'
    )


def _looks_ahead(unlike: str) -> str:
    return f"`compute` must not look ahead, but {unlike} changes when later bars are there"


def _alike(one: pl.Series, other: pl.Series) -> pl.Series:
    """Return where two columns have the same value within the tolerances, or both have none. NaN counts as null."""
    if not other.dtype.is_float():
        return one.eq_missing(other)
    one, other = one.fill_nan(None), other.fill_nan(None)
    scale = other.abs().max()
    allowed = other.abs() * _RELATIVE + (_ABSOLUTE * scale if isinstance(scale, float) else 0.0)
    return one.eq_missing(other) | ((one - other).abs() <= allowed).fill_null(value=False)
