"""Questions about the health of all series, answered from the ledger."""

from datetime import datetime

import polars as pl

from ema_assets.lineage import OHLC
from ema_assets.store import ledger
from ema_assets.store.database import Transaction
from ema_assets.timeframes import FETCHED, Timeframe

failing = ledger.failing


def rejected_since(transaction: Transaction, since: datetime) -> pl.DataFrame:
    """Bars rejected since then: symbol, timeframe, reason, source, bars."""
    return transaction.query(
        """
        SELECT symbol, timeframe, reason, source, count(*) AS bars FROM market.bar_rejected
        WHERE rejected_at >= $1 GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 1, 2
        """,
        since,
    )


def late_series(transaction: Transaction, closed: pl.DataFrame) -> pl.DataFrame:
    """Fetched series last asked for two bars before the last close or earlier, or of which the provider has no bar.

    Columns: symbol, timeframe, asked_through, last_error.
    `closed` has calendar, timeframe, ts_end. A bar counts its nominal length, so a series is not late overnight.
    """
    two_bars = [2 * Timeframe(text).duration for text in closed["timeframe"]]
    limits = closed.with_columns(late_before=pl.col("ts_end") - pl.Series(two_bars, dtype=pl.Duration("us")))
    limits = limits.filter(pl.col("timeframe").is_in([timeframe.value for timeframe in FETCHED]))
    return transaction.query(
        """
        SELECT s.symbol, s.timeframe, s.checked_through AS asked_through, s.last_error
        FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS c(calendar, timeframe, late_before)
        JOIN market.instrument i ON i.calendar = c.calendar AND i.is_active AND i.is_fetched
        JOIN market.series_state s ON s.asset = $4 AND s.symbol = i.symbol AND s.timeframe = c.timeframe
        WHERE s.checked_through < c.late_before OR (s.checked_through IS NOT NULL AND s.last_ts IS NULL) ORDER BY 1, 2
        """,
        limits["calendar"],
        limits["timeframe"],
        limits["late_before"],
        OHLC,
    )


def waiting_since(transaction: Transaction, since: datetime) -> pl.DataFrame:
    """Computed series that have been dirty since then or longer: asset, symbol, timeframe, waiting_since."""
    return transaction.query(
        """
        SELECT s.asset, s.symbol, s.timeframe, s.updated_at AS waiting_since
        FROM market.series_state s JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
        WHERE s.asset <> $1 AND s.dirty_from IS NOT NULL AND s.updated_at < $2 ORDER BY 1, 2, 3
        """,
        OHLC,
        since,
    )
