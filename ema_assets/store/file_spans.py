"""Which spans of rolled-up series are those of files, so that every span has one owner and one grid. SQL only."""

from collections.abc import Iterable

import polars as pl

from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction
from ema_assets.store.tables import STORED_BARS


def owned(transaction: Transaction, timeframe: Timeframe, symbols: Iterable[str]) -> pl.DataFrame:
    """The spans of files: symbol, first_ts, last_end; sorted, without overlap."""
    return transaction.query(
        """
        SELECT symbol, first_ts, last_end FROM market.file_span
        WHERE timeframe = $1 AND symbol = ANY ($2::text[]) ORDER BY symbol, first_ts
        """,
        timeframe.key,
        list(symbols),
    )


def take(transaction: Transaction, timeframe: Timeframe, spans: pl.DataFrame) -> None:
    """Add `spans` (symbol, first_ts, last_end; one per symbol) to those of files; spans that touch become one."""
    transaction.execute(
        """
        WITH taken AS (
            SELECT * FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) AS t(symbol, first_ts, last_end)
        ), gone AS (
            DELETE FROM market.file_span s USING taken t
            WHERE s.timeframe = $1 AND s.symbol = t.symbol AND s.first_ts <= t.last_end AND s.last_end >= t.first_ts
                  AND s.first_ts <> least(s.first_ts, t.first_ts)
        ), merged AS (
            SELECT t.symbol, least(t.first_ts, min(s.first_ts)) AS first_ts,
                   greatest(t.last_end, max(s.last_end)) AS last_end
            FROM taken t
            LEFT JOIN market.file_span s
                ON s.timeframe = $1 AND s.symbol = t.symbol AND s.first_ts <= t.last_end AND s.last_end >= t.first_ts
            GROUP BY t.symbol, t.first_ts, t.last_end
        )
        INSERT INTO market.file_span AS s (symbol, timeframe, first_ts, last_end)
        SELECT symbol, $1, first_ts, last_end FROM merged
        ON CONFLICT (symbol, timeframe, first_ts) DO UPDATE SET last_end = excluded.last_end
        WHERE s.last_end < excluded.last_end
        """,
        timeframe.key,
        spans["symbol"],
        spans["first_ts"],
        spans["last_end"],
    )


def bars_within(transaction: Transaction, timeframe: Timeframe, spans: pl.DataFrame) -> pl.DataFrame:
    """The stored bars that open within `spans` (symbol, first_ts, last_end): symbol, ts, is_rolled_up."""
    return transaction.query(
        f"""
        SELECT o.symbol, o.ts, o.missing_bars IS NOT NULL AS is_rolled_up
        FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) AS d(symbol, first_ts, last_end)
        JOIN {STORED_BARS.part(timeframe)} o
            ON o.symbol = d.symbol AND o.timeframe = $4 AND o.ts >= d.first_ts AND o.ts < d.last_end
        """,
        spans["symbol"],
        spans["first_ts"],
        spans["last_end"],
        timeframe.key,
    )


def delete_bars(transaction: Transaction, timeframe: Timeframe, bars: pl.DataFrame) -> None:
    """Delete the stored `bars` (symbol, ts)."""
    transaction.execute(
        f"""
        DELETE FROM {STORED_BARS.part(timeframe)} o
        USING unnest($1::text[], $2::timestamptz[]) AS d(symbol, ts)
        WHERE o.symbol = d.symbol AND o.timeframe = $3 AND o.ts = d.ts
        """,
        bars["symbol"],
        bars["ts"],
        timeframe.key,
    )
