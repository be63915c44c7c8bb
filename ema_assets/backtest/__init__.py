"""Try strategies on stored bars without storing anything: any rule and options, sweeps, walk-forward. Public names.

    from ema_assets import backtest

    history = backtest.load("1h", ["AAPL", "BTC-USD"])
    found = history.run("crossover", fast=12, slow=26, cost_bps=2)
    found.trades, found.performance, found.equity()
    history.sweep("crossover", fast=[5, 9, 12], slow=[20, 26, 30], cost_bps=2)
    history.walk_forward("crossover", train="180d", test="30d", fast=[5, 9, 12], slow=[20, 26, 30])

Options are the keys of a `[[strategy]]` row of the watchlist, and everything is computed as a refresh would compute it:
docs/BACKTESTS.md.
"""

from ema_assets.backtest.history import History, load
from ema_assets.backtest.outcomes import Backtest, WalkForward

__all__ = ["Backtest", "History", "WalkForward", "load"]
