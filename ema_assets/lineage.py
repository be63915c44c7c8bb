"""The assets' names and who feeds whom. Nothing else lives here."""

OHLC = "ohlc"
EMA_SIGNALS = "ema_signals"
EMA_TREND = "ema_trend"
STRATEGY = "strategy_9_30_ema"

ASSETS = (OHLC, EMA_SIGNALS, EMA_TREND, STRATEGY)

UPSTREAM = {EMA_SIGNALS: OHLC, EMA_TREND: EMA_SIGNALS, STRATEGY: EMA_TREND}


# What an asset reads besides its upstream. A split that halves every price leaves spread and trend as they were, and
# changes the price of every trade.
_READS_TOO = {STRATEGY: (OHLC,)}


def downstream_of(asset: str) -> tuple[str, ...]:
    """The assets that read `asset` directly, on the same timeframe."""
    return tuple(name for name, source in UPSTREAM.items() if source == asset or asset in _READS_TOO.get(name, ()))
