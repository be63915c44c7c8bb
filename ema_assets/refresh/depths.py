"""How far back bars should reach."""

from collections.abc import Iterable, Mapping

from ema_assets.model.timeframes import Timeframe
from ema_assets.signals.ema_signals import CONVERGED_AFTER_BARS

# The number of bars that a rolled-up series should have: its averages have converged, and some trades can follow.
DEEP_ENOUGH_BARS = CONVERGED_AFTER_BARS + 12


def depths(history_days: Mapping[Timeframe, int], timeframes: Iterable[Timeframe]) -> dict[str, str]:
    """Describe how far back each fetched timeframe and its rolled-up ones should reach; another depth, other words."""
    all_of_them = list(timeframes)
    keys = {each: [other.key for other in all_of_them if other.base is each] for each in history_days}
    return {
        each.key: f"{days} days, and {DEEP_ENOUGH_BARS} bars of {', '.join(keys[each])}"
        for each, days in history_days.items()
    }
