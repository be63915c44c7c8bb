"""The asset `strategy_9_30_ema`: the trades of the 9-30 EMA crossover strategy."""

from ema_assets.defs.assets.computed import computed_asset
from ema_assets.lineage import EMA_TREND, OHLC, STRATEGY

strategy_9_30_ema = computed_asset(
    STRATEGY,
    reads=[EMA_TREND, OHLC],
    group="strategies",
    description=(
        "Trades of the 9-30 EMA strategy, one row a trade: long at the close of a bullish crossover, out at the close "
        "of the next bearish one. The open trade is marked to the last close. Returns are before costs."
    ),
)
