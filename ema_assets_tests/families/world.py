"""Two symbols on two calendars with bars in memory, the same in every process."""

from datetime import date

import polars as pl

from ema_assets.model.timeframes import by_key
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, utc, watch

NOW = utc("2026-11-25 15:45")
WATCHED = watch({"AAPL": "XNYS", "BTC-USD": "24/7"}, m5_days=30, d1_days=90)


def exchange() -> MemoryExchange:
    """An exchange with both symbols: one month of 5m bars and three months of 1d bars."""
    return MemoryExchange(
        pl.concat(
            bars_on(calendar, symbol, by_key(key), first, date(2026, 11, 25), seed)
            for seed, (symbol, calendar) in enumerate((("AAPL", "XNYS"), ("BTC-USD", "24/7")))
            for key, first in (("5m", date(2026, 10, 27)), ("1d", date(2026, 8, 28)))
        )
    )
