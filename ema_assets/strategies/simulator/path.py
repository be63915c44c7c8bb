"""What adds up over the bars of a trade: excursions, returns, peaks and troughs of equity. Decides no trade.

All trades are walked together by age: the first bars of all, then the second bars. Each trade is added up in the order
of its bars, whatever the increments, and there are as many steps as the longest trade has bars. docs/STRATEGIES.md has
the algebra.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl

from ema_assets.strategies.simulator.bars import Bars
from ema_assets.strategies.simulator.book import AT_CLOSE, AT_TARGET, Snapshots, Trades
from ema_assets.strategies.simulator.layout import NEVER, Flags, Floats, Ints, floats, times


@dataclass(frozen=True, slots=True)
class Path:
    """What the bars up to `last_ts` add up to, one entry per trade. Times are microseconds, NEVER for none."""

    last_ts: Ints
    last_price: Floats
    bars_held: Ints
    worst_price: Floats
    best_price: Floats
    bar_returns_sum: Floats
    bar_returns_square_sum: Floats
    bar_returns_negative_square_sum: Floats
    equity_peak: Floats
    equity_peak_ts: Ints
    equity_trough: Floats
    equity_trough_ts: Ints
    drawdown: Floats
    drawdown_peak_ts: Ints
    drawdown_trough_ts: Ints

    @classmethod
    def before(cls, entry_price: Floats) -> "Path":
        """The paths of trades that are entered now at `entry_price`."""
        size = entry_price.size
        return cls(
            last_ts=np.full(size, NEVER),
            last_price=entry_price.copy(),
            bars_held=np.full(size, -1),
            worst_price=entry_price.copy(),
            best_price=entry_price.copy(),
            bar_returns_sum=np.zeros(size),
            bar_returns_square_sum=np.zeros(size),
            bar_returns_negative_square_sum=np.zeros(size),
            equity_peak=np.full(size, -np.inf),
            equity_peak_ts=np.full(size, NEVER),
            equity_trough=np.full(size, np.inf),
            equity_trough_ts=np.full(size, NEVER),
            drawdown=np.zeros(size),
            drawdown_peak_ts=np.full(size, NEVER),
            drawdown_trough_ts=np.full(size, NEVER),
        )

    @classmethod
    def read(cls, states: pl.DataFrame) -> "Path":
        """The paths of the trades of `states`."""
        columns: dict[str, Any] = {}
        for field in fields(cls):
            column = states[field.name]
            if column.dtype.is_temporal():
                columns[field.name] = times(column)
            elif column.dtype.is_integer():
                columns[field.name] = column.to_numpy()
            else:
                columns[field.name] = floats(column)
        return cls(**columns)

    def take(self, ids: Ints) -> "Path":
        """The paths of the trades `ids`, in that order."""
        return Path(**{field.name: getattr(self, field.name)[ids] for field in fields(Path)})

    def put(self, ids: Ints, other: "Path", others: Ints) -> None:
        """Copy what `other` has at `others` to `ids`."""
        for field in fields(Path):
            getattr(self, field.name)[ids] = getattr(other, field.name)[others]


def equity_at(side: Floats, entry: Floats, price: Floats, costs: Floats | float) -> Floats:
    """Equity of a trade at `price`, as a multiple of the equity at entry before costs; never below 0.

    `costs` are multiples of the same equity. NaN where a price is not above zero: it is no multiple of anything then.
    """
    return np.maximum(1.0 + side * (price_ratio(price, entry) - 1.0) - costs, 0.0)


def price_ratio(price: Floats, entry: Floats) -> Floats:
    """`price` as a multiple of `entry`; NaN where one of them is not above zero."""
    is_defined = (price > 0.0) & (entry > 0.0)
    ratio: Floats = np.divide(price, entry, out=np.full(is_defined.shape, np.nan), where=is_defined)
    return ratio


def add_up(bars: Bars, trades: Trades, carried: Path, snapshots: Snapshots, cost: float) -> tuple[Path, Path]:
    """The paths of `trades` up to their exits or the last bars here, and those of the open trades of `snapshots`.

    The first trades go on from `carried`. `cost` is a fraction of the traded value, per side. Entries of the second
    result whose snapshot has no trade mean nothing.
    """
    first = np.where(trades.entry_row < 0, trades.rank, trades.entry_row)
    last = np.where(trades.exit_row < 0, bars.layout.last_rows[trades.rank], trades.exit_row)
    steps = _steps(bars, first)
    ages = _steps(bars, last) - steps + 1
    walk = _Walk(bars, trades, carried, cost)
    kept = Path.before(np.full(snapshots.row.size, np.nan))
    snapshot_at = np.full(bars.ts.size, -1)
    snapshot_at[snapshots.row] = np.arange(snapshots.row.size)
    order = np.argsort(-ages, kind="stable")
    counts = np.cumsum(np.bincount(ages)[::-1])[::-1] if ages.size else ages
    steps = steps[order]
    walk.sort(order)
    ranks = trades.rank[order]
    for age, count in enumerate(counts[1:].tolist()):
        rows = bars.layout.offsets[steps[:count] + age] + ranks[:count]
        is_exit = walk.advance(rows)
        wanted = snapshot_at[rows]
        ids = np.flatnonzero((wanted >= 0) & ~is_exit)
        if ids.size:
            kept.put(wanted[ids], walk.path, ids)
    back = np.empty_like(order)
    back[order] = np.arange(order.size)
    return walk.path.take(back), kept


def _steps(bars: Bars, rows: Ints) -> Ints:
    return np.searchsorted(bars.layout.offsets, rows, side="right") - 1


class _Walk:
    """Trades that are walked together, all at the same age."""

    def __init__(self, bars: Bars, trades: Trades, carried: Path, cost: float) -> None:
        self._bars = bars
        self._cost = cost
        self._side = trades.side.astype(np.float64)
        self._entry = trades.entry_price
        self._exit_row, self._exit_price, self._exit_how = trades.exit_row, trades.exit_price, trades.exit_how
        # Of a bar that a trade is entered at the close of, nothing lies within the trade.
        self._enters_at_close = np.where(trades.entry_how == AT_CLOSE, trades.entry_row, -1)
        self.path = Path.before(self._entry)
        ids = np.arange(carried.last_ts.size)
        self.path.put(ids, carried, ids)
        self._equity = np.ones(trades.rank.size)
        self._equity[ids] = equity_at(self._side[ids], self._entry[ids], carried.last_price, cost)
        self._factor = self._factors_before(trades)

    def sort(self, order: Ints) -> None:
        """Put the trades in this order."""
        for name in ("_side", "_entry", "_exit_row", "_exit_price", "_exit_how", "_enters_at_close"):
            setattr(self, name, getattr(self, name)[order])
        self.path = self.path.take(order)
        self._equity, self._factor = self._equity[order], self._factor[order]

    def _factors_before(self, trades: Trades) -> Floats:
        """The growth that an earlier trade, closed in the bar of the entry, has made in that bar; 1 without one."""
        factors = np.ones(trades.rank.size)
        closed_at = np.full(self._bars.ts.size, -1)
        ids = np.flatnonzero(trades.exit_row >= 0)
        # A bar has at most one entry, so of two trades that are closed in it no other follows the later one.
        ids = ids[trades.exit_row[ids] != trades.entry_row[ids]]
        closed_at[trades.exit_row[ids]] = ids
        entered = np.flatnonzero(trades.entry_row >= 0)
        former = closed_at[trades.entry_row[entered]]
        entered, former = entered[former >= 0], former[former >= 0]
        if not entered.size:
            return factors
        side, entry, rows = self._side[former], self._entry[former], trades.exit_row[former]
        steps = _steps(self._bars, rows)
        # The close before the exit: in the first step here it is the carried one.
        closes = self.path.last_price[former]
        later = steps > 0
        rows_before = self._bars.layout.offsets[steps[later] - 1] + trades.rank[former][later]
        closes[later] = self._bars.close[rows_before]
        before = equity_at(side, entry, closes, self._cost)
        price = trades.exit_price[former]
        after = equity_at(side, entry, price, self._cost + self._cost * price_ratio(price, entry))
        growth = _growth(before, after)
        # What the former trade made is not defined then, and it says so; that is no matter of the one that follows.
        factors[entered] = np.where(np.isnan(growth), 1.0, growth)
        return factors

    def advance(self, rows: Ints) -> Flags:
        """Take the first trades through their next bars, at `rows`; return which of them are closed there."""
        count = rows.size
        is_exit: Flags = self._exit_row[:count] == rows
        price = np.where(is_exit, self._exit_price[:count], self._bars.close[rows])
        ts = self._bars.ts[rows]
        path = self.path
        path.last_price[:count] = price
        path.last_ts[:count] = ts
        path.bars_held[:count] += 1
        self._add_excursions(rows, is_exit, price)
        entry = self._entry[:count]
        costs = np.where(is_exit, self._cost + self._cost * price_ratio(price, entry), self._cost)
        equity = equity_at(self._side[:count], entry, price, costs)
        self._add_returns(equity)
        _add_extremes(path, equity, ts)
        self._equity[:count] = equity
        return is_exit

    def _add_excursions(self, rows: Ints, is_exit: Flags, price: Floats) -> None:
        count = rows.size
        high, low = self._bars.high[rows], self._bars.low[rows]
        is_long = self._side[:count] > 0
        against, along = np.where(is_long, low, high), np.where(is_long, high, low)
        at_close = np.flatnonzero(self._enters_at_close[:count] == rows)
        against[at_close] = along[at_close] = self._entry[at_close]
        # In a bar with an exit within it, a favourable price counts only when it must have come before the exit. An
        # adverse price counts when it may have.
        ids = np.flatnonzero(is_exit & (self._exit_how[:count] != AT_CLOSE))
        along[ids] = price[ids]
        ids = ids[self._exit_how[ids] != AT_TARGET]
        against[ids] = price[ids]
        worst, best = self.path.worst_price[:count], self.path.best_price[:count]
        worst[:] = np.where(is_long, np.minimum(worst, against), np.maximum(worst, against))
        best[:] = np.where(is_long, np.maximum(best, along), np.minimum(best, along))

    def _add_returns(self, equity: Floats) -> None:
        count = equity.size
        factor = self._factor[:count]
        before = factor - 1.0
        after = factor * _growth(self._equity[:count], equity) - 1.0
        # Once equity was not defined, no sum over the bars is.
        after[np.isnan(equity)] = np.nan
        path = self.path
        path.bar_returns_sum[:count] += after - before
        path.bar_returns_square_sum[:count] += after * after - before * before
        before, after = np.minimum(before, 0.0), np.minimum(after, 0.0)
        path.bar_returns_negative_square_sum[:count] += after * after - before * before
        factor[:] = 1.0


def _growth(before: Floats, after: Floats) -> Floats:
    """The factor from `before` to `after`; 1 from nothing, and from what is not defined."""
    alive = before > 0.0
    return np.where(alive, after / np.where(alive, before, 1.0), 1.0)


def _add_extremes(path: Path, equity: Floats, ts: Ints) -> None:
    count = equity.size
    peak, trough, drawdown = path.equity_peak[:count], path.equity_trough[:count], path.drawdown[:count]
    _forget_extremes(path, np.flatnonzero(np.isnan(equity)))
    # NaN compares as False, so what was forgotten stays so.
    higher, lower = equity > peak, equity < trough
    np.copyto(peak, equity, where=higher)
    np.copyto(path.equity_peak_ts[:count], ts, where=higher)
    np.copyto(trough, equity, where=lower)
    np.copyto(path.equity_trough_ts[:count], ts, where=lower)
    fall = 1.0 - equity / np.where(peak > 0.0, peak, np.inf)
    # Without equity there is nothing to lose.
    deeper = (fall > drawdown) & (peak > 0.0)
    np.copyto(drawdown, fall, where=deeper)
    np.copyto(path.drawdown_peak_ts[:count], path.equity_peak_ts[:count], where=deeper)
    np.copyto(path.drawdown_trough_ts[:count], ts, where=deeper)


def _forget_extremes(path: Path, ids: Ints) -> None:
    """Leave the trades `ids` without a peak, a trough and a drawdown: equity is not defined on their way."""
    for extreme in (path.equity_peak, path.equity_trough, path.drawdown):
        extreme[ids] = np.nan
    for moment in (path.equity_peak_ts, path.equity_trough_ts, path.drawdown_peak_ts, path.drawdown_trough_ts):
        moment[ids] = NEVER
