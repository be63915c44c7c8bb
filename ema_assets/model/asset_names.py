"""The names of the assets that other code mentions, and the tag of all assets. Nothing else belongs here.

All other assets, and which asset reads which, are declared by the signals and strategies: see refresh/graph.
"""

OHLC = "ohlc"
EMA_SIGNALS = "ema_signals"
EMA_TREND = "ema_trend"
STRATEGY = "strategy_9_30_ema"
PERFORMANCE = "strategy_performance"

# The chain from bars to trades.
CHAIN = (OHLC, EMA_SIGNALS, EMA_TREND, STRATEGY)

# The ends of the names of partitions and of tables of states. No asset of a user may have such a name.
ENDS_OF_TABLES = r"_([0-9]+(m|h|d|w|mo)|state)"

# The tag that identifies an asset of this package, whatever prefix its name has. Its value says what the rows are.
ROWS_TAG = "ema_assets/rows"
