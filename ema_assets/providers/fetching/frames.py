"""From the rows that a vendor sends to a frame of bars: only what was asked for, each bar once, sorted. No HTTP."""

from collections.abc import Iterable
from datetime import UTC

import polars as pl

from ema_assets.model.schemas import BAR_SCHEMA, UTC_TIME
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers.fetching.base import BarRequest


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
    """`rows` (vendor, ts, open, high, low, close, volume) as bars in sorted by symbol and ts.

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
