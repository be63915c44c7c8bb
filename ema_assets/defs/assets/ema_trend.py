"""The asset `ema_trend`: trend, crossovers and spread of the two EMAs."""

from ema_assets.defs.assets.computed import computed_asset
from ema_assets.lineage import EMA_SIGNALS, EMA_TREND

ema_trend = computed_asset(
    EMA_TREND,
    reads=[EMA_SIGNALS],
    group="signals",
    description=(
        "Where the two EMAs stand, one row a bar: `up` when ema_9 is above ema_30, `down` when it is below, the "
        "previous trend when they are equal. A crossover marks the bar where the trend flips. Spread in percent, and "
        "how many bars ago the last crossover was."
    ),
)
