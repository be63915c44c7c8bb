"""What is known about the quality of stored bars: gaps, flags, skipped bars, revisions. SQL only."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction

_GAP_COLUMNS = "first_ts, last_ts, bars, status, asked, next_attempt_at, found_at"


def gaps_within(transaction: Transaction, timeframe: Timeframe, windows: pl.DataFrame) -> pl.DataFrame:
    """Return known gaps that touch `windows` (symbol, start, end; end excluded): symbol and the columns of `bar_gap`.

    The gaps of a series do not overlap, so only the last one that begins before a window can reach into it.
    """
    # Gaps are never deleted. `from_ts`, as a column of its own, bounds the scan of the key at both ends.
    return transaction.query(
        f"""
        WITH w AS MATERIALIZED (
            SELECT symbol, start_ts, end_ts, coalesce((
                SELECT max(p.first_ts) FROM market.bar_gap p
                WHERE p.symbol = t.symbol AND p.timeframe = $4 AND p.first_ts < t.start_ts), start_ts) AS from_ts
            FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) AS t(symbol, start_ts, end_ts)
        )
        SELECT DISTINCT g.symbol, {", ".join(f"g.{name.strip()}" for name in _GAP_COLUMNS.split(","))}
        FROM w
        JOIN market.bar_gap g ON g.symbol = w.symbol AND g.timeframe = $4 AND g.first_ts >= w.from_ts
                             AND g.first_ts < w.end_ts AND g.last_ts >= w.start_ts
        ORDER BY 1, 2
        """,
        windows["symbol"],
        windows["start"],
        windows["end"],
        timeframe.key,
    )


def missed_by_all(transaction: Transaction, timeframe: Timeframe, missing: pl.DataFrame) -> pl.DataFrame:
    """Return those of the `missing` bars (symbol, ts) that no symbol of the same calendar and provider has: symbol, ts.

    Bars of a calendar and provider with a single symbol are left out: they allow no conclusion.
    """
    if missing.is_empty() or not timeframe.is_fetched:
        return missing.select("symbol", "ts").clear()
    return transaction.query(
        f"""
        WITH missing AS (
            SELECT m.symbol, m.ts, i.calendar, i.provider
            FROM unnest($1::text[], $2::timestamptz[]) AS m(symbol, ts) JOIN market.instrument i USING (symbol)
        ), crowd AS (
            SELECT calendar, provider FROM market.instrument
            WHERE is_active AND is_fetched AND silent_since IS NULL AND $3 = ANY (timeframes)
            GROUP BY 1, 2 HAVING count(*) > 1
        ), missed AS (
            SELECT w.* FROM (SELECT DISTINCT calendar, provider, ts FROM missing) w
            JOIN crowd c ON c.calendar = w.calendar AND c.provider IS NOT DISTINCT FROM w.provider
            WHERE NOT EXISTS (
                SELECT FROM market.instrument k
                JOIN market.ohlc_{timeframe.sql_name} o ON o.symbol = k.symbol AND o.timeframe = $3 AND o.ts = w.ts
                WHERE k.calendar = w.calendar AND k.provider IS NOT DISTINCT FROM w.provider AND k.is_active)
        )
        SELECT m.symbol, m.ts FROM missing m
        JOIN missed w ON w.calendar = m.calendar AND w.provider IS NOT DISTINCT FROM m.provider AND w.ts = m.ts
        """,
        missing["symbol"],
        missing["ts"],
        timeframe.key,
    )


def replace_gaps(transaction: Transaction, timeframe: Timeframe, known: pl.DataFrame, now_known: pl.DataFrame) -> None:
    """Replace the gaps `known` by `now_known`, both as returned by `gaps_within`."""
    if not known.is_empty():
        transaction.execute(
            """
            DELETE FROM market.bar_gap g USING unnest($1::text[], $2::timestamptz[]) AS k(symbol, first_ts)
            WHERE g.symbol = k.symbol AND g.timeframe = $3 AND g.first_ts = k.first_ts
            """,
            known["symbol"],
            known["first_ts"],
            timeframe.key,
        )
    if now_known.is_empty():
        return
    with transaction.given(now_known) as given:
        transaction.execute(
            f"""
            INSERT INTO market.bar_gap (symbol, timeframe, {_GAP_COLUMNS})
            SELECT symbol, $1, {_GAP_COLUMNS} FROM {given.after(1)} ORDER BY symbol, first_ts
            """,
            timeframe.key,
            *given.values,
        )


def due_gaps(transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str], now: datetime) -> pl.DataFrame:
    """Return gaps of `symbols` that are to be requested again at `now`, sorted by symbol and first_ts.

    Columns: symbol, calendar, provider, delay_seconds, first_ts, last_ts. Gaps of a series that pauses after a failure
    wait until the pause ends, and those of a silent symbol until it trades again.
    """
    return transaction.query(
        """
        SELECT g.symbol, i.calendar, i.provider, i.delay_seconds::bigint AS delay_seconds, g.first_ts, g.last_ts
        FROM market.bar_gap g
        JOIN market.instrument i ON i.symbol = g.symbol AND i.is_fetched AND i.silent_since IS NULL
        JOIN market.series_state s ON s.asset = $4 AND s.symbol = g.symbol AND s.timeframe = g.timeframe
        WHERE g.timeframe = $1 AND g.status = 'open' AND g.next_attempt_at <= $2 AND g.symbol = ANY ($3::text[])
          AND s.is_on AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= $2)
        ORDER BY g.symbol, g.first_ts
        """,
        timeframe.key,
        now,
        list(symbols),
        OHLC,
    )


def postpone_gaps(transaction: Transaction, timeframe: Timeframe, symbols: Sequence[str], until: datetime) -> None:
    """Postpone the due gaps of `symbols` to `until`, without counting the attempt: it was not answered."""
    transaction.execute(
        """
        UPDATE market.bar_gap SET next_attempt_at = $1
        WHERE timeframe = $2 AND status = 'open' AND next_attempt_at < $1 AND symbol = ANY ($3::text[])
        """,
        until,
        timeframe.key,
        list(symbols),
    )


def flag(
    transaction: Transaction, timeframe: Timeframe, looked_at: pl.DataFrame, after: pl.DataFrame, flags: pl.DataFrame
) -> None:
    """Replace the flags of the bars `looked_at` (symbol, ts) by `flags` (symbol, timeframe, ts, reason, detail).

    For the bars `after` (symbol, ts, reason), only flags of that reason are replaced.
    """
    if looked_at.is_empty() and after.is_empty():
        return
    looked_at = pl.concat([looked_at.with_columns(only=pl.lit(None, pl.String)), after.rename({"reason": "only"})])
    spans = looked_at.group_by("symbol").agg(first=pl.col("ts").min(), last=pl.col("ts").max())
    known = transaction.query(
        """
        SELECT f.symbol, f.ts, f.reason, f.detail
        FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) AS d(symbol, first, last)
        JOIN market.bar_flag f ON f.symbol = d.symbol AND f.timeframe = $4 AND f.ts BETWEEN d.first AND d.last
        """,
        spans["symbol"],
        spans["first"],
        spans["last"],
        timeframe.key,
    )
    key = ["symbol", "ts", "reason", "detail"]
    is_told = pl.col("only").is_null() | (pl.col("reason") == pl.col("only"))
    gone = known.join(looked_at, on=["symbol", "ts"]).filter(is_told).join(flags, on=key, how="anti")
    new = flags.join(known, on=key, how="anti")
    if not gone.is_empty():
        transaction.execute(
            """
            DELETE FROM market.bar_flag f
            USING unnest($1::text[], $2::timestamptz[], $3::text[]) AS g(symbol, ts, reason)
            WHERE f.symbol = g.symbol AND f.timeframe = $4 AND f.ts = g.ts AND f.reason = g.reason
            """,
            gone["symbol"],
            gone["ts"],
            gone["reason"],
            timeframe.key,
        )
    if not new.is_empty():
        with transaction.given(new.select("symbol", "timeframe", "ts", "reason", "detail")) as given:
            transaction.execute(
                f"""
                INSERT INTO market.bar_flag (symbol, timeframe, ts, reason, detail)
                SELECT symbol, timeframe, ts, reason, detail FROM {given.after(0)}
                """,
                *given.values,
            )


def count_skipped(transaction: Transaction, bars: pl.DataFrame, source: str) -> None:
    """Count the skipped `bars` (symbol, timeframe, ts, reason) of `source`."""
    counts = bars.group_by("symbol", "timeframe", "reason").agg(
        bars=pl.len().cast(pl.Int64), last_ts=pl.col("ts").max()
    )
    if counts.is_empty():
        return
    transaction.execute(
        """
        INSERT INTO market.bar_skipped AS p (symbol, timeframe, reason, source, bars, last_ts)
        SELECT symbol, timeframe, reason, $6, bars, last_ts
        FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::timestamptz[])
             AS c(symbol, timeframe, reason, bars, last_ts)
        ORDER BY 1, 2, 3
        ON CONFLICT (symbol, timeframe, reason, source) DO UPDATE
        SET bars = p.bars + excluded.bars, last_ts = greatest(p.last_ts, excluded.last_ts),
            last_seen_at = clock_timestamp()
        """,
        counts["symbol"],
        counts["timeframe"],
        counts["reason"],
        counts["bars"],
        counts["last_ts"],
        source,
    )


def rejected_after(
    transaction: Transaction, timeframe: Timeframe, since: pl.DataFrame, reasons: Sequence[str]
) -> pl.DataFrame:
    """Return bars of each symbol of `since` (symbol, from_ts) after from_ts that were rejected for one of `reasons`.

    BAR_SCHEMA, each bar once, as it was rejected last; sorted by symbol and ts.
    """
    return transaction.query(
        """
        SELECT DISTINCT ON (r.symbol, r.ts) r.symbol, r.timeframe, r.ts, r.open, r.high, r.low, r.close, r.volume
        FROM unnest($1::text[], $2::timestamptz[]) AS d(symbol, from_ts)
        JOIN market.bar_rejected r ON r.symbol = d.symbol AND r.timeframe = $3 AND r.ts > d.from_ts
        WHERE r.reason = ANY ($4::text[]) ORDER BY r.symbol, r.ts, r.rejected_at DESC
        """,
        since["symbol"],
        since["from_ts"],
        timeframe.key,
        list(reasons),
    )


def record_revisions(transaction: Transaction, timeframe: Timeframe, revisions: pl.DataFrame, source: str) -> None:
    """Record that the past of some series changed.

    `revisions` has symbol, kind (one that `bar_revision` allows), detail, changed_from, corrected, late.
    """
    if revisions.is_empty():
        return
    transaction.execute(
        """
        INSERT INTO market.bar_revision
            (symbol, timeframe, kind, detail, changed_from, bars_corrected, bars_late, source)
        SELECT symbol, $7, kind, detail, changed_from, corrected, late, $8
        FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[], $6::bigint[])
             AS r(symbol, kind, detail, changed_from, corrected, late)
        ORDER BY symbol
        """,
        revisions["symbol"],
        revisions["kind"],
        revisions["detail"],
        revisions["changed_from"],
        revisions["corrected"],
        revisions["late"],
        timeframe.key,
        source,
    )


def add_impact(transaction: Transaction, timeframe: Timeframe, impact: pl.DataFrame) -> None:
    """Add `impact` (symbol, recomputed, crossovers, trades) to the newest revision that affects each series.

    For a rolled-up series, that is the newest revision of its source timeframe, or of its own bars if they came from a
    file and were revised later.
    """
    if impact.is_empty():
        return
    transaction.execute(
        """
        WITH impact AS MATERIALIZED (
            SELECT i.*, (SELECT max(n.id) FROM market.bar_revision n
                         WHERE n.symbol = i.symbol AND n.timeframe = ANY ($5::text[])) AS id
            FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])
                 AS i(symbol, recomputed, crossovers, trades)
        ), locked AS MATERIALIZED (
            -- Runs of several timeframes add to the same revisions. In different orders, they would deadlock.
            SELECT id FROM market.bar_revision WHERE id IN (SELECT id FROM impact) ORDER BY id FOR NO KEY UPDATE
        )
        UPDATE market.bar_revision r
        SET rows_recomputed = r.rows_recomputed + i.recomputed,
            crossovers_flipped = r.crossovers_flipped + i.crossovers,
            trades_flipped = r.trades_flipped + i.trades
        FROM impact i JOIN locked USING (id) WHERE r.id = i.id
        """,
        impact["symbol"],
        impact["recomputed"],
        impact["crossovers"],
        impact["trades"],
        [timeframe.key] if timeframe.is_fetched else [timeframe.key, timeframe.source.key],
    )
