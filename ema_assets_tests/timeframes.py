"""Short names of timeframes for tests, and the timeframes of a watchlist that names none."""

from ema_assets.model.timeframes import DEFAULT, by_key

M1 = by_key("1m")
M5 = by_key("5m")
M15 = by_key("15m")
M30 = by_key("30m")
H1 = by_key("1h")
H4 = by_key("4h")
D1 = by_key("1d")
W1 = by_key("1w")
MO1 = by_key("1M")

ORDER = DEFAULT
FETCHED = tuple(each for each in ORDER if each.is_fetched)
ROLLED_UP = tuple(each for each in ORDER if not each.is_fetched)

# One timeframe of each kind, for tests that do not need the others: each one makes a refresh slower.
FEW = (M5, H1, D1)
