"""The outbox of alerts: raising them, in the transaction of their data, and reading what that needs. SQL only."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import UTC_TIME, check_frame
from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction, identifier

ALERT_SCHEMA = pl.Schema(
    {
        "subscription": pl.String(),
        "kind": pl.String(),
        "subject": pl.String(),
        "occurrence": pl.String(),
        "symbol": pl.String(),
        "timeframe": pl.String(),
        "strategy": pl.String(),
        "ts": UTC_TIME,
        "text": pl.String(),
        "is_over": pl.Boolean(),
        "is_synthetic": pl.Boolean(),
    }
)


def raise_alerts(transaction: Transaction, alerts: pl.DataFrame) -> int:
    """Write `alerts` (ALERT_SCHEMA), except those that were raised before; return how many were written.

    Raises:
        SchemaMismatch: when `alerts` has other columns.
    """
    check_frame("alerts", alerts, ALERT_SCHEMA)
    if alerts.is_empty():
        return 0
    names = ", ".join(ALERT_SCHEMA)
    raised = transaction.query(
        f"""
        WITH raised AS (
            INSERT INTO market.alert ({names})
            SELECT {names}
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                        $8::timestamptz[], $9::text[], $10::boolean[], $11::boolean[]) AS a({names})
            ORDER BY subscription, kind, subject, occurrence
            ON CONFLICT (subscription, kind, subject, occurrence) DO NOTHING
            RETURNING 1
        )
        SELECT count(*) AS n FROM raised
        """,
        *(alerts[name] for name in ALERT_SCHEMA),
    )
    return int(raised.item())


def surroundings(
    transaction: Transaction, timeframe: Timeframe, bars: pl.DataFrame, reads: Mapping[str, Sequence[str]]
) -> pl.DataFrame:
    """Return the context of `bars` (symbol, ts); those of symbols that are inactive or not fetched are left out.

    Columns: symbol, ts, calendar, delay_seconds, source (of the symbol's newest bar on the base timeframe, or null),
    close, and the columns that `reads` names per asset; these are null where an asset has no such row.
    """
    others = {asset: columns for asset, columns in reads.items() if asset != OHLC}
    part = timeframe.sql_name
    columns = "".join(f", {identifier(asset)}.{identifier(name)}" for asset, names in others.items() for name in names)
    joins = "".join(
        f" LEFT JOIN market.{identifier(asset)}_{part} {identifier(asset)}"
        f" ON {asset}.symbol = b.symbol AND {asset}.timeframe = $3 AND {asset}.ts = b.ts"
        for asset in others
    )
    return transaction.query(
        f"""
        SELECT b.symbol, b.ts, i.calendar, i.delay_seconds::bigint AS delay_seconds, n.name AS source, o.close{columns}
        FROM unnest($1::text[], $2::timestamptz[]) AS b(symbol, ts)
        JOIN market.instrument i ON i.symbol = b.symbol AND i.is_active AND i.is_fetched
        JOIN market.{OHLC}_{part} o ON o.symbol = b.symbol AND o.timeframe = $3 AND o.ts = b.ts
        LEFT JOIN LATERAL (
            SELECT k.source_id FROM market.{OHLC}_{timeframe.base.sql_name} k
            WHERE k.symbol = b.symbol AND k.timeframe = $4 ORDER BY k.ts DESC LIMIT 1
        ) last ON true
        LEFT JOIN market.source n ON n.id = last.source_id{joins}
        """,
        bars["symbol"],
        bars["ts"],
        timeframe.key,
        timeframe.base.key,
    )


def last_crosses(transaction: Transaction, trend: str, timeframe: Timeframe, symbols: pl.Series) -> pl.DataFrame:
    """Return the newest bar of `trend` with a crossover, of each of `symbols` that has one: symbol, crossed_at."""
    return transaction.query(
        f"""
        SELECT g.symbol, c.ts AS crossed_at FROM unnest($1::text[]) AS g(symbol)
        CROSS JOIN LATERAL (
            SELECT t.ts FROM market.{identifier(trend)}_{timeframe.sql_name} t
            WHERE t.symbol = g.symbol AND t.timeframe = $2 AND t.crossover IS NOT NULL ORDER BY t.ts DESC LIMIT 1
        ) c
        """,
        symbols,
        timeframe.key,
    )


def longer_trends(transaction: Transaction, trend: str, timeframe: Timeframe, symbols: pl.Series) -> pl.DataFrame:
    """Return how far `trend` on `timeframe` is, for `symbols` that have it.

    Columns: symbol, calendar, provider (null for the default one), delay_seconds, newest_trend (the newest bar of the
    trend), checked_through (of the bars of `timeframe`), is_due (whether the trend, or what it is computed from, is
    still to be computed from stored bars).
    """
    return transaction.query(
        """
        WITH RECURSIVE chain AS (
            SELECT asset FROM market.asset WHERE asset = $1
            UNION
            SELECT i.reads FROM chain c
            JOIN market.asset_input i ON i.asset = c.asset AND i.timeframe = $2 AND i.reads_timeframe = $2
        )
        SELECT t.symbol, n.calendar, n.provider, n.delay_seconds::bigint AS delay_seconds, t.last_ts AS newest_trend,
               bars.checked_through,
               EXISTS (
                   SELECT FROM chain c
                   JOIN market.series_state s ON s.asset = c.asset AND s.symbol = t.symbol AND s.timeframe = $2
                   WHERE s.dirty_from IS NOT NULL AND (s.dirty_end IS NULL OR s.dirty_end <= base.checked_through)
               ) AS is_due
        FROM market.series_state t
        JOIN market.instrument n ON n.symbol = t.symbol
        JOIN market.series_state bars ON bars.asset = $3 AND bars.symbol = t.symbol AND bars.timeframe = $2
        JOIN market.series_state base ON base.asset = $3 AND base.symbol = t.symbol AND base.timeframe = $4
        WHERE t.asset = $1 AND t.timeframe = $2 AND t.symbol = ANY ($5::text[])
        """,
        trend,
        timeframe.key,
        OHLC,
        timeframe.base.key,
        symbols,
    )


def latest_revisions(transaction: Transaction, timeframe: Timeframe, symbols: pl.Series) -> pl.DataFrame:
    """Return the newest revision of the last hour that affects each symbol: symbol, revision, detail, source.

    Revisions of the series itself and of the bars that it is rolled up from count.
    """
    return transaction.query(
        """
        SELECT DISTINCT ON (r.symbol) r.symbol, r.id::text AS revision, r.detail, r.source
        FROM market.bar_revision r
        JOIN market.instrument i ON i.symbol = r.symbol AND i.is_active AND i.is_fetched
        WHERE r.symbol = ANY ($1::text[]) AND r.timeframe = ANY ($2::text[])
          AND r.revised_at > clock_timestamp() - interval '1 hour'
        ORDER BY r.symbol, r.id DESC
        """,
        symbols,
        [timeframe.key] if timeframe.is_fetched else [timeframe.key, timeframe.base.key],
    )


def told_troubles(transaction: Transaction) -> pl.DataFrame:
    """Return trouble that was reported and is not over: subscription, kind, subject, text, symbol, timeframe, since."""
    return transaction.query(
        "SELECT subscription, kind, subject, text, symbol, timeframe, since FROM market.alert_trouble"
    )


def note_troubles(transaction: Transaction, began: pl.DataFrame, over: pl.DataFrame, now: datetime) -> None:
    """Remember that trouble `began` (as `told_troubles`, without since), and forget what is `over` (its key)."""
    if not over.is_empty():
        transaction.execute(
            """
            DELETE FROM market.alert_trouble t
            USING unnest($1::text[], $2::text[], $3::text[]) AS o(subscription, kind, subject)
            WHERE t.subscription = o.subscription AND t.kind = o.kind AND t.subject = o.subject
            """,
            over["subscription"],
            over["kind"],
            over["subject"],
        )
    if not began.is_empty():
        transaction.execute(
            """
            INSERT INTO market.alert_trouble (subscription, kind, subject, text, symbol, timeframe, since)
            SELECT b.*, $7 FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) AS b
            ON CONFLICT DO NOTHING
            """,
            *(began[name] for name in ("subscription", "kind", "subject", "text", "symbol", "timeframe")),
            now,
        )


def note_wanted(transaction: Transaction, wanted: Sequence[tuple[str, str]]) -> None:
    """Note which (subscription, kind) of trouble are `wanted` from now on; forget trouble reported to others."""
    names = [subscription for subscription, _ in wanted], [kind for _, kind in wanted]
    for table in ("alert_trouble", "alert_wanted"):
        transaction.execute(
            f"""
            DELETE FROM market.{table}
            WHERE (subscription, kind) NOT IN (SELECT * FROM unnest($1::text[], $2::text[]))
            """,
            *names,
        )
    transaction.execute(
        """
        INSERT INTO market.alert_wanted (subscription, kind)
        SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING
        """,
        *names,
    )


def wanted(transaction: Transaction) -> pl.DataFrame:
    """Return since when subscriptions want kinds of trouble, by the machine's clock: subscription, kind, since."""
    return transaction.query("SELECT subscription, kind, since FROM market.alert_wanted")


def failed_runs(transaction: Transaction, since: datetime, of_timeframe_since: datetime) -> pl.DataFrame:
    """Return Dagster runs that failed and are not retried: run_id, job, of_timeframe, backfill, ended_at; oldest first.

    Runs of a timeframe are those that ended after `of_timeframe_since`, if no later run of their job for the timeframe
    succeeded and a symbol is still watched on it. All others, whose of_timeframe is null, ended after `since`.
    `backfill` is null outside a backfill.
    """
    return transaction.query(
        """
        WITH failed AS (
            SELECT r.run_id::text AS run_id, r.pipeline_name::text AS job, w.value AS of_timeframe,
                   (SELECT t.value FROM dagster.run_tags t WHERE t.run_id = r.run_id AND t.key = 'dagster/backfill')
                   AS backfill,
                   r.end_time
            FROM dagster.runs r
            LEFT JOIN dagster.run_tags w ON w.run_id = r.run_id AND w.key = 'ema_assets/timeframe'
            WHERE r.status = 'FAILURE'
              AND to_timestamp(r.end_time) > CASE WHEN w.value IS NULL THEN $1::timestamptz ELSE $2::timestamptz END
              AND NOT EXISTS (SELECT FROM dagster.run_tags t
                              WHERE t.run_id = r.run_id AND t.key = 'dagster/will_retry' AND t.value = 'true')
        ), good AS (
            SELECT f.job, f.of_timeframe, (
                SELECT max(r.end_time) FROM dagster.runs r JOIN dagster.run_tags t ON t.run_id = r.run_id
                WHERE r.pipeline_name = f.job AND r.status = 'SUCCESS'
                  AND t.key = 'ema_assets/timeframe' AND t.value = f.of_timeframe
            ) AS end_time
            FROM (SELECT DISTINCT job, of_timeframe FROM failed) f
        )
        SELECT f.run_id, f.job, f.of_timeframe, f.backfill, to_timestamp(f.end_time) AS ended_at
        FROM failed f
        LEFT JOIN good g ON g.job = f.job AND g.of_timeframe = f.of_timeframe AND g.end_time > f.end_time
        WHERE g.job IS NULL
          AND (f.of_timeframe IS NULL
               OR EXISTS (SELECT FROM market.instrument i WHERE i.is_active AND f.of_timeframe = ANY (i.timeframes)))
        ORDER BY f.end_time, f.run_id
        """,
        since,
        of_timeframe_since,
    )


def freshness(transaction: Transaction, limits: pl.DataFrame) -> pl.DataFrame:
    """Return one row: fresh, late (numbers of fetched series that were loaded), asked_through (the latest of any).

    `limits` is as in `ledger.late`. Silent symbols do not count.
    """
    return transaction.query(
        """
        SELECT count(*) FILTER (WHERE s.checked_through >= c.late_before) AS fresh,
               count(*) FILTER (WHERE s.checked_through < c.late_before) AS late,
               max(s.checked_through) AS asked_through
        FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::bigint[])
             AS c(calendar, timeframe, late_before, provider, delay_seconds)
        JOIN market.instrument i ON i.calendar = c.calendar AND i.is_active AND i.is_fetched
             AND coalesce(i.provider, '') = c.provider AND i.delay_seconds = c.delay_seconds
        JOIN market.series_state s ON s.asset = $6 AND s.symbol = i.symbol AND s.timeframe = c.timeframe
        WHERE s.is_on AND i.silent_since IS NULL AND s.checked_through IS NOT NULL
        """,
        limits["calendar"],
        limits["timeframe"],
        limits["late_before"],
        limits["provider"].fill_null(""),
        limits["delay_seconds"],
        OHLC,
    )
