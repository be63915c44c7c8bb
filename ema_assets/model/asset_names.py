"""The names of the assets that the rest of the code speaks of, and the tag of all. Nothing else lives here.

Which assets there are besides, and who reads whom, is declared by the signals and strategies: refresh/graph.
"""

OHLC = "ohlc"
EMA_SIGNALS = "ema_signals"
EMA_TREND = "ema_trend"
STRATEGY = "strategy_9_30_ema"

# The chain from bars to trades.
CHAIN = (OHLC, EMA_SIGNALS, EMA_TREND, STRATEGY)

# The tag by which an asset of this package is known, whatever is before its name: what its rows are.
ROWS_TAG = "ema_assets/rows"
