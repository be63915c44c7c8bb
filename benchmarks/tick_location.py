"""The code location of the product at a moment of the past: the run workers of `benchmarks.tick` load it."""

import os
from datetime import datetime

from ema_assets.definitions import defs
from ema_assets.defs.resources import MarketResource

NOW_VARIABLE = "EMA_BENCHMARK_NOW"

__all__ = ["NOW_VARIABLE", "defs"]


def _now(_: MarketResource) -> datetime:
    return datetime.fromisoformat(os.environ[NOW_VARIABLE])


# Only this method is replaced: otherwise the workers load exactly what production loads.
MarketResource.now = _now  # type: ignore[method-assign]
