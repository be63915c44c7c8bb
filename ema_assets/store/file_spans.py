"""The spans of rolled-up series that belong to files, so that every span has one owner and one grid. SQL only."""

from collections.abc import Iterable

import polars as pl

from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction
from ema_assets.store.tables import BARS, STORED_BARS

# SQL: the continuous stretches of trading of all calendars, two where there is a lunch break.
STRETCHES = """
SELECT calendar, open AS starts, coalesce(break_start, close) AS ends FROM market.session
UNION ALL
SELECT calendar, break_end, close FROM market.session WHERE break_end IS NOT NULL
"""


def owned(transaction: Transaction, timeframe: Timeframe, symbols: Iterable[str]) -> pl.DataFrame:
    """Return the spans of files: symbol, first_ts, last_end; sorted by symbol and first_ts, without overlap."""
    return transaction.query(
        """
        SELECT symbol, first_ts, last_end FROM market.file_span
        WHERE timeframe = $1 AND symbol = ANY ($2::text[]) ORDER BY symbol, first_ts
        """,
        timeframe.key,
        list(symbols),
    )


def timeframes(transaction: Transaction, symbols: Iterable[str]) -> list[str]:
    """Return the keys of the timeframes on which files own spans of `symbols`."""
    found = transaction.query(
        "SELECT DISTINCT timeframe FROM market.file_span WHERE symbol = ANY ($1::text[])", list(symbols)
    )
    return found["timeframe"].to_list()


def bars_of_files(transaction: Transaction, timeframe: Timeframe, symbols: Iterable[str]) -> pl.DataFrame:
    """Return the bars of files of `symbols`: symbol, span (its first_ts), ts and a bar's values.

    Sorted by symbol and ts.
    """
    values = ", ".join(f"o.{name}" for name in BARS.values)
    return transaction.query(
        f"""
        SELECT o.symbol, s.first_ts AS span, o.ts, {values}
        FROM market.file_span s
        JOIN {STORED_BARS.part(timeframe)} o
            ON o.symbol = s.symbol AND o.timeframe = s.timeframe AND o.missing_bars IS NULL
           AND o.ts >= s.first_ts AND o.ts < s.last_end
        WHERE s.timeframe = $1 AND s.symbol = ANY ($2::text[])
        ORDER BY o.symbol, o.ts
        """,
        timeframe.key,
        list(symbols),
    )


def take(transaction: Transaction, timeframe: Timeframe, spans: pl.DataFrame) -> None:
    """Add `spans` (symbol, first_ts, last_end; one per symbol) to the spans of files; spans that touch are merged."""
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
    """Return the stored bars that open within `spans` (symbol, first_ts, last_end).

    Columns: symbol, ts, is_rolled_up, source (its name, null if unknown).
    """
    return transaction.query(
        f"""
        SELECT o.symbol, o.ts, o.missing_bars IS NOT NULL AS is_rolled_up, n.name AS source
        FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) AS d(symbol, first_ts, last_end)
        JOIN {STORED_BARS.part(timeframe)} o
            ON o.symbol = d.symbol AND o.timeframe = $4 AND o.ts >= d.first_ts AND o.ts < d.last_end
        LEFT JOIN market.source n ON n.id = o.source_id
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


def keep_within_sessions(transaction: Transaction, timeframe: Timeframe, symbols: Iterable[str]) -> None:
    """Delete the bars of files of `symbols` that overlap no stored session of their calendar, and narrow the spans.

    `timeframe` is rolled up and shorter than a day. A bar stays if it could be ingested now, so it may begin before its
    session. Bars that are older than all stored sessions stay, too.
    """
    step = f"make_interval(mins => {timeframe.minutes})"
    transaction.execute(
        f"""
        WITH pause AS (
            SELECT calendar, ends AS since, lead(starts) OVER (PARTITION BY calendar ORDER BY starts) AS until
            FROM ({STRETCHES}) s
        )
        DELETE FROM {STORED_BARS.part(timeframe)} o
        USING market.instrument i JOIN pause p USING (calendar)
        WHERE i.symbol = ANY ($1::text[]) AND o.symbol = i.symbol AND o.timeframe = $2 AND o.missing_bars IS NULL
              AND o.ts >= p.since AND o.ts <= p.until - {step}
        """,
        list(symbols),
        timeframe.key,
    )
    _narrow(transaction, timeframe, symbols)


def _narrow(transaction: Transaction, timeframe: Timeframe, symbols: Iterable[str]) -> None:
    """Narrow each span of `symbols` to reach from its first to its last stored bar of a file.

    A span without such bars is deleted.
    """
    step = f"make_interval(mins => {timeframe.minutes})"
    transaction.execute(
        f"""
        WITH kept AS (
            SELECT s.symbol, s.first_ts, i.calendar, min(o.ts) AS first_bar, max(o.ts) AS last_bar
            FROM market.file_span s
            JOIN market.instrument i USING (symbol)
            LEFT JOIN {STORED_BARS.part(timeframe)} o
                ON o.symbol = s.symbol AND o.timeframe = s.timeframe AND o.missing_bars IS NULL
               AND o.ts >= s.first_ts AND o.ts < s.last_end
            WHERE s.timeframe = $2 AND s.symbol = ANY ($1::text[])
            GROUP BY 1, 2, 3
        ), gone AS (
            DELETE FROM market.file_span s USING kept k
            WHERE s.symbol = k.symbol AND s.timeframe = $2 AND s.first_ts = k.first_ts AND k.last_bar IS NULL
        )
        UPDATE market.file_span s
        SET first_ts = k.first_bar,
            -- The bar ends with its stretch of trading at the latest. One that is off the grid ends in the last one.
            last_end = CASE WHEN s.last_end <= k.last_bar + {step} THEN s.last_end ELSE least(k.last_bar + {step}, (
                SELECT t.ends FROM ({STRETCHES}) t
                WHERE t.calendar = k.calendar AND t.starts < k.last_bar + {step} AND t.ends > k.last_bar
                ORDER BY t.starts <= k.last_bar
                         AND mod(extract(epoch FROM k.last_bar - t.starts)::bigint, {timeframe.minutes * 60}) = 0 DESC,
                         t.starts DESC
                LIMIT 1)) END
        FROM kept k
        WHERE s.symbol = k.symbol AND s.timeframe = $2 AND s.first_ts = k.first_ts AND k.last_bar IS NOT NULL
        """,
        list(symbols),
        timeframe.key,
    )
