"""Settings for the chain from bars to trades only. Most tests do not need other signals, and each takes time."""

import importlib
from dataclasses import replace
from typing import Any

import pytest

from ema_assets.signals.discovery import discover

OFF = tuple(name for name in discover() if name not in ("ema_signals", "ema_trend"))

# CORE is for a Watchlist that is made in Python, CORE_TEXT for the text of one.
CORE: dict[str, Any] = {
    "signals_off": OFF,
    "strategies": (
        {"name": "pullback", "enabled": False},
        # Few tests have enough bars for averages to converge.
        {"name": "crossover", "entries": "all"},
    ),
}
CORE_TEXT = f"""
[signals]
off = [{", ".join(f'"{name}"' for name in OFF)}]

[[strategy]]
name = "pullback"
enabled = false

[[strategy]]
name = "crossover"
entries = "all"
"""


def rewrite(monkeypatch: pytest.MonkeyPatch, name: str, version: str = "2") -> None:
    """Give the signal `name` another version of its code."""
    module = importlib.import_module(f"ema_assets.signals.{name}")
    monkeypatch.setattr(module, "SIGNAL", replace(module.SIGNAL, version=version))
