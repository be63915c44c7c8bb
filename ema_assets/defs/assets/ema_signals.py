"""The asset `ema_signals`: EMA 9 and EMA 30 of the close."""

from ema_assets.defs.assets.computed import computed_asset
from ema_assets.lineage import EMA_SIGNALS, OHLC

ema_signals = computed_asset(
    EMA_SIGNALS,
    reads=[OHLC],
    group="signals",
    description=(
        "Exponential moving averages of the close, spans 9 and 30, one row a bar.\n\n"
        "Each is seeded with the plain mean of its first closes, as TA-Lib and most charts do, and null before. "
        "Only bars from the first changed one on are computed again, starting from the stored EMA just before. "
        "Materializing a partition by hand computes all of it again."
    ),
)
