"""The history of single bars and whole series: where they came from, when, and what changed. Read only. SQL only."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction


def series(transaction: Transaction, symbol: str, keys: Sequence[str]) -> pl.DataFrame:
    """Return the series of `symbol` on the timeframes `keys`, one row each, in that order.

    Columns: timeframe, is_fetched, delay_seconds, first_ts, last_ts, checked_through, asked_at,
    final_through, failures, next_attempt_at, last_error, and the counts corrections, flags, rejected, skipped,
    open_gaps, open_bars (missing in open gaps), not_traded (bars).
    """
    return transaction.query(
        """
        SELECT s.timeframe, i.is_fetched, i.delay_seconds::bigint AS delay_seconds,
               s.first_ts, s.last_ts, s.checked_through, s.asked_at, s.final_through,
               s.failures, s.next_attempt_at, s.last_error,
               (SELECT count(*) FROM market.bar_correction c WHERE (c.symbol, c.timeframe) = (s.symbol, s.timeframe))
               AS corrections,
               (SELECT count(*) FROM market.bar_flag f WHERE (f.symbol, f.timeframe) = (s.symbol, s.timeframe))
               AS flags,
               (SELECT count(*) FROM market.bar_rejected r WHERE (r.symbol, r.timeframe) = (s.symbol, s.timeframe))
               AS rejected,
               (SELECT coalesce(sum(k.bars), 0)::bigint FROM market.bar_skipped k
                WHERE (k.symbol, k.timeframe) = (s.symbol, s.timeframe)) AS skipped,
               g.open_gaps, g.open_bars, g.not_traded
        FROM market.series_state s
        JOIN market.instrument i USING (symbol)
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE status = 'open') AS open_gaps,
                   coalesce(sum(bars) FILTER (WHERE status = 'open'), 0)::bigint AS open_bars,
                   coalesce(sum(bars) FILTER (WHERE status = 'did not trade'), 0)::bigint AS not_traded
            FROM market.bar_gap g WHERE (g.symbol, g.timeframe) = (s.symbol, s.timeframe)
        ) g
        WHERE s.asset = $1 AND s.symbol = $2 AND s.timeframe = ANY ($3::text[]) AND s.is_on
        ORDER BY array_position($3::text[], s.timeframe)
        """,
        OHLC,
        symbol,
        list(keys),
    )


def sources(transaction: Transaction, symbol: str) -> pl.DataFrame:
    """Return the sources of the stored bars of `symbol`: timeframe, source (null if unknown), bars.

    Sorted by timeframe, then most bars first.
    """
    return transaction.query(
        """
        SELECT o.timeframe, n.name AS source, count(*) AS bars
        FROM market.ohlc o LEFT JOIN market.source n ON n.id = o.source_id
        WHERE o.symbol = $1 GROUP BY 1, 2 ORDER BY 1, 3 DESC
        """,
        symbol,
    )


def bar(transaction: Transaction, symbol: str, timeframe: Timeframe, ts: datetime) -> pl.DataFrame:
    """Return the bar of `symbol` that opens at `ts`, one row or none.

    Columns: open, high, low, close, volume, missing_bars, stored_at, source, is_fetched, final_through (of the fetched
    series that it comes from), checked_through.
    """
    return transaction.query(
        """
        SELECT o.open, o.high, o.low, o.close, o.volume, o.missing_bars::bigint AS missing_bars, o.stored_at,
               n.name AS source, i.is_fetched, s.final_through, s.checked_through
        FROM market.ohlc o
        JOIN market.instrument i USING (symbol)
        LEFT JOIN market.source n ON n.id = o.source_id
        LEFT JOIN market.series_state s ON s.asset = $4 AND s.symbol = o.symbol AND s.timeframe = $5
        WHERE o.symbol = $1 AND o.timeframe = $2 AND o.ts = $3
        """,
        symbol,
        timeframe.key,
        ts,
        OHLC,
        timeframe.base.key,
    )


def events(transaction: Transaction, symbol: str, timeframe: Timeframe, ts: datetime) -> pl.DataFrame:
    """Return what happened to the bar of `symbol` that opens at `ts`, oldest first: at, what, close, detail.

    `what` is `corrected` (`close` is the previous one, `detail` its source, null if unknown), `flagged` (`close` is
    null) or `rejected` (`close` is the one that was sent). `at` is the machine's time, UTC.
    """
    return transaction.query(
        """
        SELECT c.corrected_at AS at, 'corrected' AS what, c.close, n.name AS detail FROM market.bar_correction c
        LEFT JOIN market.source n ON n.id = c.source_id
        WHERE c.symbol = $1 AND c.timeframe = $2 AND c.ts = $3
        UNION ALL
        SELECT flagged_at, 'flagged', NULL::float8, reason || ': ' || detail FROM market.bar_flag
        WHERE symbol = $1 AND timeframe = $2 AND ts = $3
        UNION ALL
        SELECT rejected_at, 'rejected', close, reason || ', sent by ' || source FROM market.bar_rejected
        WHERE symbol = $1 AND timeframe = $2 AND ts = $3
        ORDER BY 1
        """,
        symbol,
        timeframe.key,
        ts,
    )


def gap_at(transaction: Transaction, symbol: str, timeframe: Timeframe, ts: datetime) -> pl.DataFrame:
    """Return the gap that contains `ts`, one row or none: status, asked, next_attempt_at, found_at."""
    return transaction.query(
        """
        SELECT status, asked::bigint AS asked, next_attempt_at, found_at FROM market.bar_gap
        WHERE symbol = $1 AND timeframe = $2 AND $3 BETWEEN first_ts AND last_ts
        """,
        symbol,
        timeframe.key,
        ts,
    )


def beside(transaction: Transaction, symbol: str, timeframe: Timeframe, ts: datetime) -> pl.DataFrame:
    """Return one row: `before` and `after`, the openings of the stored bars of `symbol` next to `ts`; null for none."""
    return transaction.query(
        """
        SELECT (SELECT max(ts) FROM market.ohlc WHERE symbol = $1 AND timeframe = $2 AND ts < $3) AS before,
               (SELECT min(ts) FROM market.ohlc WHERE symbol = $1 AND timeframe = $2 AND ts > $3) AS after
        """,
        symbol,
        timeframe.key,
        ts,
    )
