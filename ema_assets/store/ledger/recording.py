"""Which series were brought up to date and Dagster has not been told of. SQL only."""

from collections.abc import Sequence

import polars as pl

from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction


def unrecorded(transaction: Transaction, asset: str, timeframe: Timeframe, symbols: Sequence[str]) -> pl.DataFrame:
    """Series that were brought up to date and that Dagster has not been told of.

    Columns: symbol, provider, revision, code_version, first_ts, last_ts, last_close (of the bar at last_ts),
    computed_at; sorted by symbol.
    """
    return transaction.query(
        """
        SELECT s.symbol, i.provider, s.revision, s.code_version, s.first_ts, s.last_ts, o.close AS last_close,
               s.computed_at
        FROM market.series_state s
        JOIN market.instrument i ON i.symbol = s.symbol
        LEFT JOIN market.ohlc o ON o.symbol = s.symbol AND o.timeframe = $2 AND o.ts = s.last_ts
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = ANY ($3::text[])
          AND s.computed_at IS NOT NULL AND (s.recorded_at IS NULL OR s.recorded_at < s.computed_at)
        ORDER BY s.symbol
        """,
        asset,
        timeframe.value,
        list(symbols),
    )


def mark_recorded(transaction: Transaction, asset: str, timeframe: Timeframe, told: pl.DataFrame) -> None:
    """Write that Dagster has been told of `told` (symbol, computed_at)."""
    transaction.execute(
        """
        UPDATE market.series_state s SET recorded_at = t.computed_at
        FROM unnest($3::text[], $4::timestamptz[]) AS t(symbol, computed_at)
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = t.symbol
        """,
        asset,
        timeframe.value,
        told["symbol"],
        told["computed_at"],
    )
