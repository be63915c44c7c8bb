"""The rows of trades give the figures of the bar-by-bar equity curve: mean, deviation, drawdown and its dates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given

from ema_assets.strategies import figures
from ema_assets.strategies.simulator.simulation import simulate
from ema_assets.strategies.variant import Variant
from ema_assets_tests.strategies.market import CROSSOVER, NOTHING, RULES, Bar, bars_from, frame_of, series, variants

Point = tuple[datetime | None, float]
Trade = dict[str, Any]


@dataclass
class Performance:
    """Figures of simple returns per bar, and the deepest fall of equity from a peak."""

    equity: float
    mean: float
    deviation: float
    downside: float
    drawdown: float
    peak_ts: datetime | None
    trough_ts: datetime | None


# --- bar by bar ---


def curve(bars: Sequence[Bar], trades: Sequence[Trade], cost: float) -> tuple[list[float], list[Point]]:
    """The return of each bar, and the equity at each close and at each exit, as multiples of the initial equity.

    Each trade holds shares worth all equity before costs. The costs are subtracted from its result.
    """
    equity, returns = 1.0, []
    points: list[Point] = [(None, 1.0)]
    at_entry: dict[datetime, float] = {}
    for bar in bars:
        ts, before = bar["ts"], equity
        for trade in trades:
            entry, end = trade["entry_ts"], trade["exit_ts"]
            if entry > ts or (end is not None and end < ts):
                continue
            stake = at_entry.setdefault(entry, equity)
            sign = 1 if trade["side"] == "long" else -1
            price = trade["exit_price"] if end == ts else bar["close"]
            traded = 1.0 + (price / trade["entry_price"] if end == ts else 0.0)
            equity = stake * max(1 + sign * (price / trade["entry_price"] - 1) - cost * traded, 0.0)
            points.append((ts, equity))
        points.append((ts, equity))
        returns.append(equity / before - 1 if before > 0 else 0.0)
    return returns, points


def of_curve(returns: Sequence[float], points: Sequence[Point]) -> Performance:
    count = len(returns)
    mean = math.fsum(returns) / count
    peak: Point = points[0]
    drawdown, peak_ts, trough_ts = 0.0, None, None
    for ts, equity in points:
        if equity > peak[1]:
            peak = (ts, equity)
        if peak[1] > 0 and 1 - equity / peak[1] > drawdown:
            drawdown, peak_ts, trough_ts = 1 - equity / peak[1], peak[0], ts
    return Performance(
        points[-1][1],
        mean,
        math.sqrt(math.fsum((each - mean) ** 2 for each in returns) / (count - 1)),
        math.sqrt(math.fsum(min(each, 0.0) ** 2 for each in returns) / count),
        drawdown,
        peak_ts,
        trough_ts,
    )


# --- from the rows of trades ---


def of_trades(trades: Sequence[Trade], count: int) -> Performance:
    """The same figures from the ordered trades and the number of bars, as the view in the database computes them."""
    level, drawdown, peak_ts, trough_ts = 1.0, 0.0, None, None
    peak: Point = (None, 1.0)
    for trade in trades:
        falls = [(trade["drawdown"], trade["drawdown_peak_ts"], trade["drawdown_trough_ts"])]
        if peak[1] > 0:
            falls.append((1 - level * trade["equity_trough"] / peak[1], peak[0], trade["equity_trough_ts"]))
        for fall in falls:
            if fall[0] > drawdown:
                drawdown, peak_ts, trough_ts = fall
        if level * trade["equity_peak"] > peak[1]:
            peak = (trade["equity_peak_ts"], level * trade["equity_peak"])
        level *= max(1 + trade["net_return_pct"] / 100, 0.0)
    mean = math.fsum(trade["bar_returns_sum"] for trade in trades) / count
    squares = math.fsum(trade["bar_returns_square_sum"] for trade in trades)
    negative = math.fsum(trade["bar_returns_negative_square_sum"] for trade in trades)
    deviation = math.sqrt(max(squares - count * mean**2, 0.0) / (count - 1))
    return Performance(level, mean, deviation, math.sqrt(max(negative, 0.0) / count), drawdown, peak_ts, trough_ts)


def check(bars: list[Bar], variant: Variant) -> None:
    trades = simulate(frame_of({"AAPL": bars}), NOTHING, variant).trades.rows(named=True)
    returns, points = curve(bars, trades, variant.cost_bps / 10_000)
    expected, actual = of_curve(returns, points), of_trades(trades, len(bars))
    # After a total loss the curve has no returns. A trade does not know of earlier trades, so its returns go on.
    is_lost = min(equity for _, equity in points) == 0
    for name in ("equity", "drawdown") if is_lost else ("equity", "drawdown", "mean", "downside"):
        assert math.isclose(getattr(actual, name), getattr(expected, name), rel_tol=1e-9, abs_tol=1e-12), name
    # The deviation is a difference of squares. Without any movement it is 0 only up to rounding.
    assert is_lost or math.isclose(actual.deviation, expected.deviation, rel_tol=1e-7, abs_tol=1e-8)
    if expected.drawdown > 1e-9:
        # If two falls are equal, either may be reported. The curve must fall as deep between the reported dates.
        lows = [equity for ts, equity in points if ts == actual.trough_ts]
        peaks = [equity for ts, equity in points if ts == actual.peak_ts]
        falls = [1 - low / peak for low in lows for peak in peaks]
        assert any(math.isclose(fall, expected.drawdown, rel_tol=1e-9) for fall in falls)


@given(series().filter(lambda bars: len(bars) > 1), variants())
def test_trades_add_up_to_the_equity_curve_of_their_bars(bars: list[Bar], variant: Variant) -> None:
    check(bars, variant)


@pytest.mark.parametrize("rule", ["crossover", "pullback"])
@pytest.mark.parametrize("fill", ["close", "next_open"])
def test_a_long_history_with_costs_and_reversals_adds_up_to_its_equity_curve(rule: str, fill: str) -> None:
    for seed in range(3):
        check(bars_from(seed, 500, step=1.0), Variant("x", RULES[rule], True, True, fill, 20.0, atr_stop=2.0))


def test_a_bar_in_which_one_trade_closes_and_another_opens_has_one_return() -> None:
    """Both trades pay costs at that close. Together they add the square of the bar's return to the sum of squares."""
    bars = bars_from(3, 400, step=1.0)
    trades = simulate(frame_of({"AAPL": bars}), NOTHING, Variant("x", CROSSOVER, allow_short=True, cost_bps=50)).trades
    assert (trades["entry_ts"][1:] == trades["exit_ts"][:-1]).all()
    returns, _ = curve(bars, trades.rows(named=True), 0.005)
    assert math.isclose(trades["bar_returns_square_sum"].sum(), math.fsum(each**2 for each in returns), rel_tol=1e-9)


def test_a_short_trade_loses_at_most_all_equity() -> None:
    bars = bars_from(1, 3)
    for bar, price in zip(bars, (10.0, 25.0, 30.0), strict=True):
        bar.update(open=price, high=price, low=price, close=price, crossover=None)
    bars[0]["crossover"] = "bearish"
    (trade,) = simulate(frame_of({"AAPL": bars}), NOTHING, Variant("x", CROSSOVER, allow_short=True)).trades.rows(
        named=True
    )
    assert (trade["equity_trough"], trade["equity_trough_ts"], trade["drawdown"]) == (0.0, bars[1]["ts"], 1.0)
    assert trade["bar_returns_sum"] == -1.0
    assert trade["return_pct"] == -200.0


@pytest.mark.parametrize("ratio", ["profit_factor", "calmar"])
def test_an_unbounded_ratio_ranks_first_and_an_unknown_ratio_ranks_last(ratio: str) -> None:
    usual = {"best_trade_pct": 2.0, "worst_trade_pct": -1.0, "annualized_return_pct": 5.0, "max_drawdown_pct": -3.0}
    lossless = {"best_trade_pct": 2.0, "worst_trade_pct": 0.0, "annualized_return_pct": 5.0, "max_drawdown_pct": 0.0}
    nothing_won = {**lossless, "best_trade_pct": 0.0, "annualized_return_pct": 0.0}
    rows = pl.DataFrame(
        [
            {"name": "low", ratio: 0.5, **usual, "remark": None},
            {"name": "too few trades", ratio: None, **lossless, "remark": "too few trades"},
            {"name": "nothing won", ratio: None, **nothing_won, "remark": None},
            {"name": "nothing lost", ratio: None, **lossless, "remark": None},
            {"name": "high", ratio: 9.0, **usual, "remark": None},
        ]
    )
    ranked = rows.sort(figures.ranked_by(ratio), descending=True, nulls_last=True, maintain_order=True)
    assert ranked["name"].to_list() == ["nothing lost", "high", "low", "too few trades", "nothing won"]
