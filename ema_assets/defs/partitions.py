"""The partitions every asset shares: symbol, which follows the watchlist, by timeframe."""

from dagster import DynamicPartitionsDefinition, MultiPartitionsDefinition, StaticPartitionsDefinition

from ema_assets.model.timeframes import ORDER

SYMBOLS = DynamicPartitionsDefinition(name="symbol")
TIMEFRAMES = StaticPartitionsDefinition([timeframe.key for timeframe in ORDER])
SERIES = MultiPartitionsDefinition({"symbol": SYMBOLS, "timeframe": TIMEFRAMES})
