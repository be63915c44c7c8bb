"""The reference for the simulator: plain Python code that sees the bars of one series one at a time.

The code is slow and simple. It reads a variant, writes sides and reasons of trades as words, and shares no code with
the simulator.
"""

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ema_assets.strategies.variant import Variant

Bar = dict[str, Any]
SIGN = {"long": 1, "short": -1}


@dataclass
class Trade:
    """One trade. `marks` is its equity at the end of each of its bars, and `growths` is its growth within each."""

    side: str
    entry_ts: datetime
    entry_price: float
    entry_reason: str
    stop: float | None
    target: float | None
    first_stop: float | None = None
    exit_ts: datetime | None = None
    exit_price: float | None = None
    exit_reason: str | None = None
    last_ts: datetime | None = None
    last_price: float = math.nan
    bars_held: int = -1
    worst: float = math.nan
    best: float = math.nan
    exit_pending: bool = False
    marks: list[tuple[datetime, float]] = field(default_factory=list)
    growths: list[tuple[datetime, float]] = field(default_factory=list)

    @property
    def sign(self) -> int:
        return SIGN[self.side]


@dataclass
class Order:
    """An order to enter at the next open, or when the market trades beyond `price`."""

    side: str
    price: float | None
    stop: float | None
    atr: float | None


class Trader:
    """Trades one series. Call `see` with one bar after the other."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.cost = variant.cost_bps / 10_000
        self.trade: Trade | None = None
        self.order: Order | None = None
        self.trades: list[Trade] = []
        self.session: datetime | None = None
        self.bar: Bar = {}

    # --- one bar ---

    def see(self, bar: Bar) -> None:
        self.bar = bar
        self.present: list[Trade] = [] if self.trade is None else [self.trade]
        if self.variant.exit_at_session_end:
            self.begin_session()
        if self.trade is not None and self.trade.exit_pending:
            self.exit(bar["open"], self.signal_reason(), "open")
        self.fill_order()
        if self.trade is not None:
            self.check_stop_and_target()
        if self.trade is not None and self.is_end():
            self.exit(bar["close"], "session_end", "close")
        if self.variant.rule.name == "crossover":
            self.crossover_at_close()
        else:
            self.pullback_at_close()
        if self.trade is not None:
            self.stay()
        self.session = bar["session"]

    def is_end(self) -> bool:
        return self.variant.exit_at_session_end and self.bar["is_session_last"]

    def begin_session(self) -> None:
        if self.session is None or self.bar["session"] == self.session:
            return
        self.order = None
        if self.trade is not None:
            reason = self.signal_reason() if self.trade.exit_pending else "session_missed"
            self.exit(self.bar["open"], reason, "open")

    def fill_order(self) -> None:
        order, bar = self.order, self.bar
        if order is None:
            return
        if order.price is None:
            self.order = None
            if not self.is_end():
                self.enter(order.side, bar["open"], order.atr, None)
            return
        if self.is_end():
            return
        if order.side == "long" and bar["high"] > order.price:
            self.order = None
            self.enter("long", max(bar["open"], order.price), order.atr, order.stop)
        elif order.side == "short" and bar["low"] < order.price:
            self.order = None
            self.enter("short", min(bar["open"], order.price), order.atr, order.stop)

    def check_stop_and_target(self) -> None:
        trade, bar = self.trade, self.bar
        assert trade is not None
        first = trade.entry_price if trade.entry_ts == bar["ts"] else bar["open"]
        long = trade.side == "long"
        if trade.stop is not None and (bar["low"] <= trade.stop if long else bar["high"] >= trade.stop):
            price = min(first, trade.stop) if long else max(first, trade.stop)
            self.exit(price, "stop" if trade.stop == trade.first_stop else "trailing_stop", "stop")
        elif trade.target is not None and (bar["high"] >= trade.target if long else bar["low"] <= trade.target):
            price = max(first, trade.target) if long else min(first, trade.target)
            self.exit(price, "target", "target")

    # --- decisions at the close ---

    def crossover_at_close(self) -> None:
        side = {"bullish": "long", "bearish": "short", None: None}[self.bar["crossover"]]
        if side is None:
            return
        open_side = self.trade.side if self.trade is not None else None
        if open_side == side:
            return
        if self.trade is not None:
            if self.variant.fill == "close":
                self.exit(self.bar["close"], self.signal_reason(), "close")
            else:
                self.trade.exit_pending = True
        if self.may_enter(side) and self.has_atr():
            if self.variant.fill == "close":
                self.enter(side, self.bar["close"], self.bar.get("atr"), None, at_close=True)
            else:
                self.order = Order(side, None, None, self.bar.get("atr"))

    def pullback_at_close(self) -> None:
        bar, fast, slow = self.bar, self.bar["ema_9"], self.bar["wma_30"]
        trend = None
        if fast is not None and slow is not None and fast != slow:
            trend = "long" if fast > slow else "short"
        dip = None
        if fast is not None and bar["close"] != fast:
            dip = "long" if bar["close"] < fast else "short"
        trade = self.trade
        if trade is not None:
            if fast is not None and slow is not None and trend != trade.side:
                if self.variant.fill == "close":
                    self.exit(bar["close"], "trend_end", "close")
                else:
                    trade.exit_pending = True
            elif dip == trade.side:
                assert trade.stop is not None
                trade.stop = max(trade.stop, bar["low"]) if dip == "long" else min(trade.stop, bar["high"])
        allowed = trend is not None and self.may_enter(trend)
        if self.order is not None and not (allowed and self.order.side == trend):
            self.order = None
        if self.trade is None and allowed and dip == trend and self.has_atr():
            if trend == "long":
                self.order = Order("long", bar["high"], bar["low"], bar.get("atr"))
            else:
                self.order = Order("short", bar["low"], bar["high"], bar.get("atr"))

    def may_enter(self, side: str) -> bool:
        variant, bar = self.variant, self.bar
        if not (variant.allow_long if side == "long" else variant.allow_short) or self.is_end():
            return False
        if variant.min_spread_pct > 0 and (
            bar["spread_pct"] is None or abs(bar["spread_pct"]) < variant.min_spread_pct
        ):
            return False
        return variant.higher_timeframe is None or bar["higher_trend"] == {"long": "up", "short": "down"}[side]

    def has_atr(self) -> bool:
        return not self.variant.uses_atr or self.bar["atr"] is not None

    def signal_reason(self) -> str:
        assert self.trade is not None
        if self.variant.rule.name == "pullback":
            return "trend_end"
        return "bearish_crossover" if self.trade.side == "long" else "bullish_crossover"

    # --- entries and exits ---

    def enter(self, side: str, price: float, atr: float | None, stop: float | None, *, at_close: bool = False) -> None:
        sign, variant = SIGN[side], self.variant
        if variant.atr_stop is not None:
            assert atr is not None
            stop = price - sign * (variant.atr_stop * atr)
        target = None
        if variant.atr_target is not None:
            assert atr is not None
            target = price + sign * (variant.atr_target * atr)
        reason = "pullback"
        if variant.rule.name == "crossover":
            reason = "bullish_crossover" if side == "long" else "bearish_crossover"
        trade = Trade(side, self.bar["ts"], price, reason, stop, target, first_stop=stop, worst=price, best=price)
        if at_close:
            self.stay_of(trade, is_whole_bar=False)
        self.trade = trade
        self.trades.append(trade)
        self.present.append(trade)

    def equity(self, trade: Trade, price: float, *, is_exit: bool) -> float:
        """Equity at `price` as a multiple of the equity at entry before costs."""
        gain = trade.sign * (price / trade.entry_price - 1)
        costs = self.cost + (self.cost * price / trade.entry_price if is_exit else 0)
        return max(1 + gain - costs, 0.0)

    def mark(self, trade: Trade, price: float, *, is_exit: bool) -> None:
        ts = self.bar["ts"]
        if trade.last_ts == ts:  # The trade was entered at this close.
            return
        before = trade.marks[-1][1] if trade.marks else 1.0
        equity = self.equity(trade, price, is_exit=is_exit)
        trade.growths.append((ts, equity / before if before > 0 else 1.0))
        trade.marks.append((ts, equity))
        trade.last_ts, trade.last_price = ts, price
        trade.bars_held += 1

    def stretch(self, trade: Trade, *prices: float) -> None:
        pick_worst, pick_best = (min, max) if trade.side == "long" else (max, min)
        trade.worst, trade.best = pick_worst(trade.worst, *prices), pick_best(trade.best, *prices)

    def stay(self) -> None:
        assert self.trade is not None
        if self.trade.last_ts != self.bar["ts"]:
            self.stay_of(self.trade, is_whole_bar=True)

    def stay_of(self, trade: Trade, *, is_whole_bar: bool) -> None:
        if is_whole_bar:
            self.stretch(trade, self.bar["low"], self.bar["high"])
        self.mark(trade, self.bar["close"], is_exit=False)

    def exit(self, price: float, reason: str, how: str) -> None:
        trade = self.trade
        assert trade is not None
        if how == "close":
            self.stretch(trade, self.bar["low"], self.bar["high"])
        elif how == "target":
            self.stretch(trade, price, self.bar["low"] if trade.side == "long" else self.bar["high"])
        else:
            self.stretch(trade, price)
        self.mark(trade, price, is_exit=True)
        trade.exit_ts, trade.exit_price, trade.exit_reason = self.bar["ts"], price, reason
        self.trade = None


def simulate(bars: list[Bar], variant: Variant) -> list[dict[str, Any]]:
    """The trades of one series, as rows."""
    trader = Trader(variant)
    for bar in bars:
        trader.see(bar)
    shares = shares_of(trader.trades)
    return [row_of(trade, trader.cost, shares[number]) for number, trade in enumerate(trader.trades)]


def shares_of(trades: list[Trade]) -> list[list[tuple[float, float, float]]]:
    """The share of each trade in the sum, in the sum of squares and in the sum of negative squares of its bar returns.

    A bar has one return, even when one trade closes in it and another opens.
    """
    factors: dict[datetime, float] = {}
    result = []
    for trade in trades:
        shares = []
        for ts, growth in trade.growths:
            before = factors.get(ts, 1.0) - 1
            factors[ts] = factors.get(ts, 1.0) * growth
            after = factors[ts] - 1
            shares.append((after - before, after**2 - before**2, min(after, 0) ** 2 - min(before, 0) ** 2))
        result.append(shares)
    return result


def deepest(marks: list[tuple[datetime, float]]) -> tuple[float, datetime | None, datetime | None]:
    """The deepest fall of `marks` from a peak, as a fraction, with the times of peak and trough."""
    deepest: tuple[float, datetime | None, datetime | None] = (0.0, None, None)
    for at, (low_ts, low) in enumerate(marks):
        peak_ts, peak = max(marks[: at + 1], key=lambda mark: mark[1])
        if peak > 0 and 1 - low / peak > deepest[0]:
            deepest = (1 - low / peak, peak_ts, low_ts)
    return deepest


def row_of(trade: Trade, cost: float, shares: list[tuple[float, float, float]]) -> dict[str, Any]:
    """The columns of a trade."""
    entry, last, sign = trade.entry_price, trade.last_price, trade.sign
    gain = sign * (last / entry - 1)
    costs = cost + (cost * last / entry if trade.exit_ts is not None else 0)
    risk = None if trade.first_stop is None else sign * (entry - trade.first_stop)
    peak_ts, peak = max(trade.marks, key=lambda mark: mark[1])
    trough_ts, trough = min(trade.marks, key=lambda mark: mark[1])
    drawdown, drawdown_peak_ts, drawdown_trough_ts = deepest(trade.marks)
    return {
        "entry_ts": trade.entry_ts,
        "side": trade.side,
        "entry_price": entry,
        "entry_reason": trade.entry_reason,
        "exit_ts": trade.exit_ts,
        "exit_price": trade.exit_price,
        "exit_reason": trade.exit_reason,
        "last_ts": trade.last_ts,
        "last_price": last,
        "return_pct": gain * 100,
        "net_return_pct": (gain - costs) * 100,
        "bars_held": trade.bars_held,
        "stop_price": trade.first_stop,
        "stop_now": trade.stop,
        "target_price": trade.target,
        "r_multiple": sign * (last - entry) / risk if risk else None,
        "mae_pct": sign * (trade.worst / entry - 1) * 100,
        "mfe_pct": sign * (trade.best / entry - 1) * 100,
        "status": "open" if trade.exit_ts is None else "closed",
        "bar_returns_sum": math.fsum(each[0] for each in shares),
        "bar_returns_square_sum": math.fsum(each[1] for each in shares),
        "bar_returns_negative_square_sum": math.fsum(each[2] for each in shares),
        "equity_peak": peak,
        "equity_peak_ts": peak_ts,
        "equity_trough": trough,
        "equity_trough_ts": trough_ts,
        "drawdown": drawdown,
        "drawdown_peak_ts": drawdown_peak_ts,
        "drawdown_trough_ts": drawdown_trough_ts,
    }
