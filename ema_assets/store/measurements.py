"""Measurements for monitoring: a few statements over everything, with results of limited size. SQL only."""

from datetime import datetime

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.store.database import Transaction
from ema_assets.store.provider_state import is_in_use


def asked_through(transaction: Transaction) -> pl.DataFrame:
    """Return up to when bars have been requested, for active symbols that are fetched and not silent.

    Series that agree in the first five columns share a row. Columns: calendar, provider (null for the default one),
    delay_seconds, timeframe, checked_through, series (their number), computed_at (the newest).
    """
    return transaction.query(
        """
        SELECT i.calendar, i.provider, i.delay_seconds::bigint AS delay_seconds, s.timeframe, s.checked_through,
               count(*) AS series, max(s.computed_at) AS computed_at
        FROM market.series_state s
        JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active AND i.is_fetched AND i.silent_since IS NULL
        WHERE s.asset = $1 AND s.is_on AND s.checked_through IS NOT NULL
        GROUP BY 1, 2, 3, 4, 5
        """,
        OHLC,
    )


def latencies(transaction: Transaction, after: datetime, through: datetime) -> pl.DataFrame:
    """Return commits after `after` and up to `through`: timeframe, seconds (from close to row), series (a number)."""
    return transaction.query(
        """
        SELECT timeframe, seconds, sum(series)::bigint AS series FROM market.close_latency
        WHERE committed_at > $1 AND committed_at <= $2 GROUP BY 1, 2
        """,
        after,
        through,
    )


def providers(transaction: Transaction, window_seconds: float, default_provider: str | None = None) -> pl.DataFrame:
    """Return the state of each provider.

    Columns: provider, calls (in the last `window_seconds`), failures (in a row), is_open (its circuit breaker),
    closed_seconds (left until calls may leave again). A provider without any active symbol does not count as failing.
    `default_provider` is the provider of symbols that name none.
    """
    return transaction.query(
        f"""
        SELECT provider, coalesce(c.calls, 0) AS calls,
               coalesce(CASE WHEN u.is_in_use THEN s.failures END, 0)::bigint AS failures,
               coalesce(u.is_in_use AND s.open_until > clock_timestamp(), false) AS is_open,
               greatest(coalesce(extract(epoch FROM s.closed_until - clock_timestamp()), 0), 0)::float8
                   AS closed_seconds
        FROM market.provider_state s
        FULL JOIN (SELECT provider, count(*) AS calls FROM market.provider_call
                   WHERE sent_at > clock_timestamp() - make_interval(secs => $1::float8) GROUP BY 1) c USING (provider)
        CROSS JOIN LATERAL (SELECT {is_in_use("s.provider", "$2::text")} AS is_in_use) u
        ORDER BY 1
        """,
        window_seconds,
        default_provider,
    )


def counts(transaction: Transaction, since: datetime) -> pl.DataFrame:
    """Return counts of trouble, and of changes since `since`: what, label (the timeframe or kind, or empty), n.

    `revisions` counts all since the database was created.
    """
    return transaction.query(
        """
        SELECT 'symbols' AS what, '' AS label, count(*) AS n FROM market.instrument WHERE is_active
        UNION ALL SELECT 'silent', '', count(*) FROM market.instrument WHERE is_active AND silent_since IS NOT NULL
        UNION ALL SELECT 'gaps', timeframe, count(*) FROM market.bar_gap WHERE status = 'open' GROUP BY timeframe
        UNION ALL SELECT 'revised', kind, count(*) FROM market.bar_revision WHERE revised_at > $1 GROUP BY kind
        UNION ALL SELECT 'corrected', kind, sum(bars_corrected)::bigint FROM market.bar_revision
                  WHERE revised_at > $1 GROUP BY kind
        UNION ALL SELECT 'rejected', '', count(*) FROM market.bar_rejected WHERE rejected_at > $1
        UNION ALL SELECT 'flagged', '', count(*) FROM market.bar_flag WHERE flagged_at > $1
        UNION ALL SELECT 'revisions', '', coalesce(max(id), 0) FROM market.bar_revision
        """,
        since,
    )


def sizes(transaction: Transaction) -> pl.DataFrame:
    """Return the bytes on disk of the database (schema is empty), of `market` and of `dagster`: schema, bytes."""
    return transaction.query(
        """
        SELECT '' AS schema, pg_database_size(current_database()) AS bytes
        UNION ALL
        SELECT n.nspname::text, coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
        FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'm')
        WHERE n.nspname IN ('market', 'dagster') GROUP BY 1
        """
    )
