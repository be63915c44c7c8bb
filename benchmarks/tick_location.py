"""The code location of the product at a moment of the past: the run workers of `benchmarks.tick` load it."""

import os
from datetime import datetime
from pathlib import Path

from ema_assets.definitions import defs
from ema_assets.defs.resources import MarketResource

__all__ = ["defs", "set_now"]


def set_now(moment: datetime) -> None:
    """Have all processes with this EMA_HOME take `moment` for the market's time, those that run already, too."""
    _file().write_text(moment.isoformat(), encoding="utf-8")


def _file() -> Path:
    return Path(os.environ["EMA_HOME"]) / "now"


def _now(self: MarketResource) -> datetime:  # noqa: ARG001 - becomes a method
    return datetime.fromisoformat(_file().read_text(encoding="utf-8"))


# Only this method is replaced: otherwise the workers load exactly what production loads.
MarketResource.now = _now  # type: ignore[method-assign]
