"""What the ways of `benchmarks.compute` share: what they are given, what they give, and how each step is timed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

Columns = dict[str, Any]
Values = dict[str, Columns]

# Minutes of a bar per timeframe, for the ways that do not know ema_assets.
MINUTES = {"5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240}
SPANS = (9, 30)
PRICES = ("open", "high", "low", "close", "volume")
NEVER = np.iinfo(np.int64).min
TOLERANCE = 1e-9
# Costs of a trade per side, in basis points: with none, the net return would be the return.
COST_BPS = 2.0
COST = COST_BPS / 10_000
# What is 1 in columns that end like this and are shares of it.
WHOLES = {"pct": 100.0, "drawdown": 1.0}


class Steps:
    """Wall seconds of each step over all batches, and CPU seconds of all steps together."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("rollup", "ema", "trend", "trades"), 0.0)
        self.cpu_s = 0.0

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        cpu, began = time.process_time(), time.perf_counter()
        yield
        self.seconds[step] += time.perf_counter() - began
        self.cpu_s += time.process_time() - cpu
