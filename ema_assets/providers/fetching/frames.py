"""Makes frames of bars from a vendor's rows: only requested bars, each once, sorted. No HTTP."""

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
    """Return the requested ranges with the vendor's spelling of each symbol: vendor, symbol, start, end (UTC)."""
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
    """Return `rows` (vendor, ts, open, high, low, close, volume) as bars in BAR_SCHEMA, sorted by symbol and ts.

    A row is left out if its `ts` is in none of the ranges `wanted`. Of rows with the same `ts` the last one wins.
    """
    return (
        rows.join(wanted, on="vendor")
        .filter(pl.col("ts") >= pl.col("start"), pl.col("ts") < pl.col("end"))
        .with_columns(pl.lit(timeframe.key).alias("timeframe"))
        .select(BAR_SCHEMA.names())
        .sort("symbol", "ts", maintain_order=True)
        # Keep the last of equal neighbours. `unique` would hash every row, although duplicates are rare.
        .filter(~pl.struct("symbol", "ts").eq_missing(pl.struct("symbol", "ts").shift(-1)))
    )


def is_ratio(value: float) -> bool:
    """Return whether a price may have changed by the ratio `value` at a corporate action; others are vendor mistakes.

    Reverse splits of 1 for 35,000 have been seen. Far beyond that, a ratio or its inverse could not be stored.
    """
    return _RATIOS[0] <= value <= _RATIOS[1]


def is_amount(value: float | None) -> bool:
    """Return whether `value` can be the dividend per share, in any currency; False for None."""
    return value is not None and _AMOUNTS[0] <= value <= _AMOUNTS[1]


class Opened(Protocol):
    """A candle with the names of our columns. `opened` counts units of time since 1970."""

    @property
    def opened(self) -> int:
        """The opening time of the candle."""
        ...


def rows_of_candles(vendor: str, candles: Sequence[Opened], unit: timedelta) -> pl.DataFrame:
    """Return rows for `only_asked` from `candles` that count their opening time in `unit`s."""
    opened = pl.Series([candle.opened for candle in candles], dtype=pl.Int64)
    values = {
        name: pl.Series([getattr(candle, name) for candle in candles], dtype=pl.Float64) for name in (*PRICES, "volume")
    }
    ts = (opened * (unit // timedelta(microseconds=1))).cast(UTC_TIME)
    return pl.DataFrame({"vendor": pl.Series([vendor] * len(candles), dtype=pl.String), "ts": ts, **values})


def first_opening(moment: datetime, step: int, unit: timedelta) -> int:
    """Return the first opening time at or after `moment` of bars of length `step`, both in `unit`s, since 1970.

    All timeframes of the vendors with such times are aligned to the beginning of 1970.
    """
    long = step * (unit // timedelta(microseconds=1))
    return -(-round(moment.timestamp() * 1_000_000) // long) * step
