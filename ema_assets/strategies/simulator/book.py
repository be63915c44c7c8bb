"""The open trade and the pending order of each series at one moment, and all trades so far. Decides nothing."""

from dataclasses import dataclass

import numpy as np

from ema_assets.strategies.simulator.layout import NEVER, Flags, Floats, Ints, Sides
from ema_assets.strategies.variant import Variant

# Where in its bar a trade was entered or closed. It decides which part of the bar's range lies within the trade.
AT_OPEN, AT_CLOSE, AT_ORDER, AT_STOP, AT_TARGET = range(5)

# Why a trade was closed, as a number while the simulator runs.
NO_REASON, BY_SIGNAL, BY_STOP, BY_TRAILING_STOP, BY_TARGET, BY_SESSION_END, BY_SESSION_MISSED = range(7)


@dataclass(slots=True)
class Trades:
    """All trades, one entry per trade. `rank` is that of the series; rows are places in the order of steps.

    A trade that was open before the first bar has the entry row -1, one that is still open the exit row -1. `how` is
    one of AT_…, `reason` one of BY_…. `stop` is the stop at entry, `stop_now` the stop now or at the exit.
    """

    rank: Ints
    side: Sides
    entry_row: Ints
    entry_price: Floats
    entry_how: Sides
    stop: Floats
    stop_now: Floats
    target: Floats
    exit_row: Ints
    exit_price: Floats
    exit_how: Sides
    reason: Sides

    @classmethod
    def empty(cls, size: int) -> "Trades":
        """`size` trades of which nothing is filled in yet."""
        return cls(
            rank=np.zeros(size, np.int64),
            side=np.zeros(size, np.int8),
            entry_row=np.full(size, -1),
            entry_price=np.full(size, np.nan),
            entry_how=np.zeros(size, np.int8),
            stop=np.full(size, np.nan),
            stop_now=np.full(size, np.nan),
            target=np.full(size, np.nan),
            exit_row=np.full(size, -1),
            exit_price=np.full(size, np.nan),
            exit_how=np.zeros(size, np.int8),
            reason=np.zeros(size, np.int8),
        )


@dataclass(frozen=True, slots=True)
class Snapshots:
    """The book after some bars; one entry per bar, `row` is its place. `trade` is -1 without an open trade."""

    row: Ints
    trade: Ints
    stop_now: Floats
    exit_pending: Flags
    order_side: Sides
    order_price: Floats
    order_stop: Floats
    order_atr: Floats


class Book:
    """Open trades and pending orders, one entry per series, by rank. NaN is a price that does not exist."""

    def __init__(self, series: int, variant: Variant) -> None:
        self._variant = variant
        self.side = np.zeros(series, np.int8)
        self.trade = np.full(series, -1)
        self.entered_at = np.full(series, -1)
        self.entry_price = np.full(series, np.nan)
        self.first_stop = np.full(series, np.nan)
        self.stop_now = np.full(series, np.nan)
        self.target = np.full(series, np.nan)
        self.exit_pending = np.zeros(series, np.bool_)
        self.order_side = np.zeros(series, np.int8)
        self.order_price = np.full(series, np.nan)
        self.order_stop = np.full(series, np.nan)
        self.order_atr = np.full(series, np.nan)
        self.session = np.full(series, NEVER)
        self._count = 0
        self._entries: list[tuple[Ints, Sides, Ints, Floats, Sides, Floats, Floats]] = []
        self._exits: list[tuple[Ints, Ints, Floats, Sides, Sides, Floats]] = []
        self._snapshots: list[tuple[Ints, Ints, Floats, Flags, Sides, Floats, Floats, Floats]] = []

    def carry(self, ranks: Ints, sides: Sides, prices: Floats, first_stops: Floats, targets: Floats) -> None:
        """Take over the trades that are open before the first bar. They get the first numbers."""
        self._open(ranks, sides, np.full(ranks.size, -1), prices, AT_OPEN, first_stops, targets)

    def enter(
        self, ranks: Ints, sides: Sides, rows: Ints, prices: Floats, how: int, atr: Floats, stops: Floats
    ) -> None:
        """Enter at `prices`. A stop of the variant in ATRs replaces `stops`."""
        variant = self._variant
        if variant.atr_stop is not None:
            stops = prices - sides * (variant.atr_stop * atr)
        targets = np.full(ranks.size, np.nan)
        if variant.atr_target is not None:
            targets = prices + sides * (variant.atr_target * atr)
        self._open(ranks, sides, rows, prices, how, stops, targets)

    def _open(
        self, ranks: Ints, sides: Sides, rows: Ints, prices: Floats, how: int, stops: Floats, targets: Floats
    ) -> None:
        self.side[ranks] = sides
        self.trade[ranks] = np.arange(self._count, self._count + ranks.size)
        self.entered_at[ranks] = rows
        self.entry_price[ranks] = prices
        self.first_stop[ranks] = stops
        self.stop_now[ranks] = stops
        self.target[ranks] = targets
        self._count += ranks.size
        self._entries.append((ranks, sides, rows, prices, np.full(ranks.size, how, np.int8), stops, targets))

    def exit(self, ranks: Ints, rows: Ints, prices: Floats, how: int, reasons: Sides | int) -> None:
        """Close the trades of `ranks` at `prices`."""
        reasons = np.broadcast_to(np.asarray(reasons, np.int8), ranks.shape)
        self._exits.append(
            (self.trade[ranks], rows, prices, np.full(ranks.size, how, np.int8), reasons, self.stop_now[ranks])
        )
        self.side[ranks] = 0
        self.trade[ranks] = -1
        self.stop_now[ranks] = np.nan
        self.target[ranks] = np.nan
        self.exit_pending[ranks] = False

    def place_order(
        self, ranks: Ints, sides: Sides, atr: Floats, prices: Floats | None = None, stops: Floats | None = None
    ) -> None:
        """Replace the orders of `ranks`. Without `prices` and `stops` they are for the next open."""
        self.order_side[ranks] = sides
        self.order_atr[ranks] = atr
        if prices is not None and stops is not None:
            self.order_price[ranks] = prices
            self.order_stop[ranks] = stops

    def cancel(self, ranks: Ints) -> None:
        """Cancel the orders of `ranks`."""
        self.order_side[ranks] = 0
        self.order_price[ranks] = np.nan
        self.order_stop[ranks] = np.nan
        self.order_atr[ranks] = np.nan

    def remember(self, ranks: Ints, rows: Ints) -> None:
        """Keep a snapshot of `ranks` after the bars at `rows`."""
        self._snapshots.append(
            (
                rows,
                self.trade[ranks],
                self.stop_now[ranks],
                self.exit_pending[ranks],
                self.order_side[ranks],
                self.order_price[ranks],
                self.order_stop[ranks],
                self.order_atr[ranks],
            )
        )

    def trades(self) -> Trades:
        """All trades so far, by number."""
        trades = Trades.empty(self._count)
        if self._entries:
            (
                trades.rank,
                trades.side,
                trades.entry_row,
                trades.entry_price,
                trades.entry_how,
                trades.stop,
                trades.target,
            ) = (np.concatenate(parts) for parts in zip(*self._entries, strict=True))
        if self._exits:
            ids, rows, prices, how, reasons, stops = (np.concatenate(parts) for parts in zip(*self._exits, strict=True))
            trades.exit_row[ids] = rows
            trades.exit_price[ids] = prices
            trades.exit_how[ids] = how
            trades.reason[ids] = reasons
            trades.stop_now[ids] = stops
        ranks = np.flatnonzero(self.side)
        trades.stop_now[self.trade[ranks]] = self.stop_now[ranks]
        return trades

    def snapshots(self) -> Snapshots:
        """All snapshots."""
        return Snapshots(*(np.concatenate(parts) for parts in zip(*self._snapshots, strict=True)))
