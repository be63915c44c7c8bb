"""From the rows that a vendor sends to a frame of bars: only what was asked for, each bar once, sorted. No HTTP."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import polars as pl

from ema_assets.model.schemas import BAR_SCHEMA, PRICES, UTC_TIME
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers.fetching.base import BarRequest

_RATIOS = (1e-6, 1e6)
_AMOUNTS = (1e-9, 1e12)


def ranges(asked: Iterable[tuple[str, BarRequest]]) -> pl.DataFrame:
    """The ranges asked for, with the vendor's spelling of each symbol: columns vendor, symbol, start, end."""
    asked = list(asked)
    return pl.DataFrame(
        {
            "vendor": [vendor for vendor, _ in asked],
            "symbol": [request.instrument.symbol for _, request in asked],
            "start": [request.start.astimezone(UTC) for _, request in asked],
            "end": [request.end.astimezone(UTC) for _, request in asked],
        },
        schema={"vendor": pl.String(), "symbol": pl.String(), "start": UTC_TIME, "end": UTC_TIME},
    )


def only_asked(rows: pl.DataFrame, wanted: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """`rows` (vendor, ts, open, high, low, close, volume) as bars in BAR_SCHEMA, sorted by symbol and ts.

    A row is left out when its `ts` is in none of the ranges `wanted`; of rows with the same `ts` the last one wins.
    """
    return (
        rows.join(wanted, on="vendor")
        .filter(pl.col("ts") >= pl.col("start"), pl.col("ts") < pl.col("end"))
        .with_columns(pl.lit(timeframe.key).alias("timeframe"))
        .select(BAR_SCHEMA.names())
        .sort("symbol", "ts", maintain_order=True)
        # The last of equal neighbours; `unique` hashes every row for what is almost never there.
        .filter(~pl.struct("symbol", "ts").eq_missing(pl.struct("symbol", "ts").shift(-1)))
    )


def is_ratio(value: float) -> bool:
    """True when a price may have changed by `value` at a corporate action; anything else is a mistake of the vendor.

    Reverse splits of 1 for 35,000 have been seen. Far beyond, a ratio or its inverse is no number that can be stored.
    """
    return _RATIOS[0] <= value <= _RATIOS[1]


def is_amount(value: float | None) -> bool:
    """True when `value` can be what a dividend is per share, in whatever currency; None cannot."""
    return value is not None and _AMOUNTS[0] <= value <= _AMOUNTS[1]


class Opened(Protocol):
    """A candle, with its values by the names of our columns. `opened` counts units of time since 1970."""

    @property
    def opened(self) -> int:
        """When it opens."""
        ...


def rows_of_candles(vendor: str, candles: Sequence[Opened], unit: timedelta) -> pl.DataFrame:
    """The rows, as `only_asked` takes them, of `candles` that count their opening time in `unit`s."""
    opened = pl.Series([candle.opened for candle in candles], dtype=pl.Int64)
    values = {
        name: pl.Series([getattr(candle, name) for candle in candles], dtype=pl.Float64) for name in (*PRICES, "volume")
    }
    ts = (opened * (unit // timedelta(microseconds=1))).cast(UTC_TIME)
    return pl.DataFrame({"vendor": pl.Series([vendor] * len(candles), dtype=pl.String), "ts": ts, **values})


def first_opening(moment: datetime, step: int, unit: timedelta) -> int:
    """The first opening time at or after `moment`, in `unit`s since 1970, of bars that are `step` of them long.

    All timeframes of the vendors that count so begin in 1970.
    """
    long = step * (unit // timedelta(microseconds=1))
    return -(-round(moment.timestamp() * 1_000_000) // long) * step
