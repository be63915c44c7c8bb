"""The timeframes by the names that tests call them."""

from ema_assets.model.timeframes import by_key

M5 = by_key("5m")
M15 = by_key("15m")
M30 = by_key("30m")
H1 = by_key("1h")
H4 = by_key("4h")
D1 = by_key("1d")
