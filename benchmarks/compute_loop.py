"""One series after another: TA-Lib for the averages, numpy for everything else. A way of `benchmarks.compute`."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compute_shared import COST, MINUTES, NEVER, SPANS, Columns, Steps, Values


def talib_loop(folder: Path) -> Callable[[int, Steps], Values]:
    """One series after another: TA-Lib for the EMAs, numpy for everything else."""
    import talib

    opens = np.load(folder / "opens.npy")

    def roll_up(bars: Columns, session_open: Any, minutes: int) -> Columns:
        step = minutes * 60_000_000
        bucket = session_open + (bars["ts"] - session_open) // step * step
        edges = np.flatnonzero(np.concatenate([[True], bucket[1:] != bucket[:-1]]))
        return {
            "ts": bucket[edges],
            "open": bars["open"][edges],
            "high": np.maximum.reduceat(bars["high"], edges),
            "low": np.minimum.reduceat(bars["low"], edges),
            "close": bars["close"][np.append(edges[1:], len(bucket)) - 1],
            "volume": np.add.reduceat(bars["volume"], edges),
        }

    def last_place(marked: Any, position: Any) -> Any:
        """For each bar, the position of the last marked bar up to it; -1 before the first."""
        return np.maximum.accumulate(np.where(marked, position, -1))

    def trend_of(fast: Any, slow: Any) -> Columns:
        position = np.arange(len(fast))
        spread = fast - slow
        sign = np.where(spread > 0, 1, np.where(spread < 0, -1, 0))
        last = last_place(sign != 0, position)
        trend = np.where(last >= 0, sign[last], 0)
        before = np.concatenate([[0], trend[:-1]])
        crossover = np.where((before != 0) & (trend != before), trend, 0)
        last_cross = last_place(crossover != 0, position)
        return {
            "trend": trend,
            "crossover": crossover,
            "spread_pct": spread / slow * 100,
            "bars_since_cross": np.where(last_cross >= 0, position - last_cross, -1),
        }

    def trades_of(symbol: int, bars: Columns, crossover: Any) -> Columns:
        ts, close = bars["ts"], bars["close"]
        entry = np.flatnonzero(crossover == 1)
        leaving = np.flatnonzero(crossover == -1)
        nth = np.searchsorted(leaving, entry)
        is_open = nth == len(leaving)
        leave = np.append(leaving, len(close) - 1)[nth]
        growth = close[leave] / close[entry]
        costs = COST + np.where(is_open, 0.0, COST * growth)
        return {
            "trade_symbol": np.full(len(entry), symbol),
            "entry_ts": ts[entry],
            "exit_ts": np.where(is_open, NEVER, ts[leave]),
            "last_ts": ts[leave],
            "entry_price": close[entry],
            "exit_price": np.where(is_open, np.nan, close[leave]),
            "last_price": close[leave],
            "return_pct": (growth - 1) * 100,
            "net_return_pct": (growth - 1 - costs) * 100,
            **_paths_by_numpy(bars, entry, leave, costs),
            "bars_held": leave - entry,
            "is_open": is_open,
        }

    def compute(number: int, step: Steps) -> Values:
        with np.load(folder / f"bars-{number}.npz") as file:
            batch = dict(file)
        first, begins = batch.pop("first"), batch.pop("begins")
        parts: dict[str, list[Columns]] = {timeframe: [] for timeframe in MINUTES}
        for at, (begin, end) in enumerate(pairwise(begins)):
            bars = {name: column[begin:end] for name, column in batch.items()}
            with step("rollup"):
                session_open = opens[np.searchsorted(opens, bars["ts"], side="right") - 1]
            for timeframe, minutes in MINUTES.items():
                with step("rollup"):
                    rolled = bars if timeframe == "5m" else roll_up(bars, session_open, minutes)
                with step("ema"):
                    fast, slow = (talib.EMA(rolled["close"], span) for span in SPANS)
                with step("trend"):
                    trend = trend_of(fast, slow)
                with step("trades"):
                    symbol = first + at
                    trades = trades_of(symbol, rolled, trend["crossover"])
                symbols = np.full(len(fast), symbol)
                parts[timeframe].append({"symbol": symbols, **rolled, "ema_9": fast, "ema_30": slow, **trend, **trades})
        return {
            timeframe: {name: np.concatenate([part[name] for part in found]) for name in found[0]}
            for timeframe, found in parts.items()
        }

    return compute


def _paths_by_numpy(bars: Columns, entry: Any, leave: Any, costs: Any) -> Columns:
    """Excursions and drawdown of trades, all of them at once: the bars of a trade are a stretch of their own."""
    if not len(entry):
        return dict.fromkeys(("mae_pct", "mfe_pct", "drawdown"), np.empty(0))
    high, low, close = bars["high"], bars["low"], bars["close"]
    held = leave + 1 - entry
    begins = np.cumsum(held) - held
    rows = np.arange(held.sum()) + np.repeat(entry - begins, held)
    highs, lows, closes, price = high[rows], low[rows], close[rows], close[entry]
    # Of the bar of the entry only its close lies within the trade.
    highs[begins] = lows[begins] = price
    equity = closes / np.repeat(price, held) - COST
    equity[begins + held - 1] -= costs - COST
    # The peaks of all trades in one pass: each trade is lifted above all earlier ones, and put down again.
    lift = np.repeat(np.arange(len(entry)) * (equity.max() - equity.min()), held)
    peak = np.maximum.accumulate(equity + lift) - lift
    return {
        "mae_pct": (np.minimum.reduceat(lows, begins) / price - 1) * 100,
        "mfe_pct": (np.maximum.reduceat(highs, begins) / price - 1) * 100,
        "drawdown": np.maximum.reduceat(1 - equity / peak, begins),
    }
