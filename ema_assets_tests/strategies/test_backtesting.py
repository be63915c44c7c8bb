"""Performance figures equal those of the library backtesting.py, for the same bars and the same trades.

docs/STRATEGIES.md lists the definitions that differ. For these, the tests apply the definition of the library to our
curve. The library is imported inside a function, because it imports a plotting library. Otherwise every worker would
import that library to collect the tests.
"""

import math
import warnings
from datetime import timedelta
from typing import Any

import pandas as pd
import polars as pl
import pytest

from ema_assets.strategies.simulator.simulation import simulate
from ema_assets.strategies.variant import Variant
from ema_assets_tests.strategies.market import CROSSOVER, NOTHING, START, bars_from, frame_of
from ema_assets_tests.strategies.test_performance import curve, of_curve

CASH = 1e9  # The library trades whole units. With this much cash, rounding has no effect.


def library(bars: list[dict[str, Any]], trades: list[dict[str, Any]], cost: float) -> pd.Series:
    """The figures of the library when it buys and sells at the closes of our trades."""
    from backtesting import Backtest, Strategy

    frame = pd.DataFrame(
        {name.capitalize(): [bar[name] for bar in bars] for name in ("open", "high", "low", "close")},
        index=pd.DatetimeIndex([bar["ts"] for bar in bars]).tz_localize(None),
    )
    frame["Volume"] = 1
    at = {bar["ts"]: number for number, bar in enumerate(bars)}
    entries = {at[each["entry_ts"]]: each for each in trades}
    exits = {at[each["exit_ts"]] for each in trades if each["exit_ts"] is not None}

    class AsTold(Strategy):
        def init(self) -> None: ...

        def next(self) -> None:
            now = len(self.data) - 1
            if now in exits:
                self.position.close()
            if now in entries:
                # Units worth all equity, less the costs of the entry.
                units = int(self.equity * (1 - 2 * cost) / bars[now]["close"])
                (self.buy if entries[now]["side"] == "long" else self.sell)(size=units)

    test = Backtest(frame, AsTold, cash=CASH, commission=cost, trade_on_close=True, finalize_trades=False)
    with warnings.catch_warnings():
        # The library warns of the trade that is open at the end. That trade is meant to stay out of its trades.
        warnings.filterwarnings("ignore", "Some trades remain open", UserWarning)
        return test.run()


def daily(seed: int) -> list[dict[str, Any]]:
    """One bar per day, without crossovers in the first two and the last two bars, where the library does not trade."""
    bars = bars_from(seed, 600, step=0.5, missing=0.0)
    for number, bar in enumerate(bars):
        bar["ts"] = START + number * timedelta(days=1)
    for bar in (*bars[:2], *bars[-2:]):
        bar["crossover"] = None
    return bars


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("side", ["long", "short"])
def test_figures_equal_those_of_the_library_where_definitions_match(seed: int, side: str) -> None:
    bars = daily(seed)
    variant = Variant("x", CROSSOVER, allow_long=side == "long", allow_short=side == "short")
    trades = simulate(frame_of({"X": bars}), NOTHING, variant).trades
    closed = trades.filter(status="closed")
    # The curve of the library contains an open trade, but its list of trades does not.
    rows = trades.rows(named=True)
    figures = library(bars, rows, 0.0)
    nets = closed["net_return_pct"]
    wins, losses = nets.filter(nets > 0), nets.filter(nets < 0)
    returns, points = curve(bars, rows, 0.0)
    path = of_curve(returns, points)

    def same(name: str, value: float, rel: float = 1e-5) -> None:
        assert math.isclose(figures[name], value, rel_tol=rel, abs_tol=1e-6), (name, figures[name], value)

    assert figures["# Trades"] == closed.height > 5
    same("Win Rate [%]", wins.len() / nets.len() * 100)
    same("Best Trade [%]", float(nets.max()))  # type: ignore[arg-type]
    same("Worst Trade [%]", float(nets.min()))  # type: ignore[arg-type]
    same("Expectancy [%]", float(nets.mean()))  # type: ignore[arg-type]
    same("Profit Factor", float(wins.sum()) / -float(losses.sum()))
    if side == "long":
        same("Return [%]", (path.equity - 1) * 100)
        same("Max. Drawdown [%]", -path.drawdown * 100)
    same("Buy & Hold Return [%]", (bars[-1]["close"] / bars[0]["close"] - 1) * 100)
    # Different definition: this is the geometric mean of the trades. Our expectancy is the arithmetic mean.
    geometric = math.exp(sum(math.log(1 + net / 100) for net in nets) / nets.len()) - 1
    same("Avg. Trade [%]", geometric * 100)
    # Different definition: the library counts the entry bar, and leaves out the open trade.
    bars_in_trades = int((closed["bars_held"] + 1).sum())
    same("Exposure Time [%]", bars_in_trades / len(bars) * 100)


def test_costs_apply_to_both_sides_as_in_the_library() -> None:
    bars = daily(5)
    trades = simulate(frame_of({"X": bars}), NOTHING, Variant("x", CROSSOVER, cost_bps=10)).trades
    figures = library(bars, trades.rows(named=True), 0.001)
    listed = pl.from_pandas(figures["_trades"][["Size", "EntryPrice", "ExitPrice", "Commission"]])
    closed = trades.filter(status="closed")
    assert listed.height == closed.height
    paid = listed["Commission"] / (listed["Size"] * listed["EntryPrice"]) * 100
    ours = closed["return_pct"] - closed["net_return_pct"]
    assert (paid - ours).abs().max() < 1e-6  # type: ignore[operator]
    # Our returns are relative to the size of each trade. They contain neither rounding nor the reserve for costs.
    total = (trades["net_return_pct"] / 100 + 1).product() - 1
    assert math.isclose(figures["Return [%]"] / 100, total, rel_tol=0.01, abs_tol=0.002)
