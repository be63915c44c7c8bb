"""Stale series and the reasons, and series that still wait for the bars they are rolled up from. SQL only."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.timeframes import FETCHED, Timeframe
from ema_assets.store.database import Transaction
from ema_assets.store.ledger.row import CLOCK_SLACK_SECONDS, PAUSE_HOURS, RECORDING_GRACE_SECONDS


def _waiting(now: str, ohlc: str) -> str:
    """Return the CTE `waiting` of a recursive query: failed computed series, and series that read them in the same run.

    Dagster would not reach a reader after a failed step. An input on another timeframe is not a step of the same run.
    """
    return f"""waiting AS (
    SELECT s.asset, s.symbol, s.timeframe, s.next_attempt_at
    FROM market.series_state s JOIN market.asset a ON a.asset = s.asset AND a.is_on
    WHERE s.failures > 0 AND s.next_attempt_at > {now} AND s.dirty_from IS NOT NULL AND s.asset <> {ohlc} AND s.is_on
    UNION
    SELECT i.asset, w.symbol, w.timeframe, w.next_attempt_at
    FROM waiting w
    JOIN market.asset_input i ON i.reads = w.asset AND i.reads_timeframe = w.timeframe AND i.timeframe = w.timeframe
)"""


_STALE = f"""
WITH RECURSIVE closed AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $8::text[], $9::bigint[], $10::timestamptz[])
                  AS c(calendar, timeframe, ts_end, provider, delay_seconds, recheck_at)
), behind AS MATERIALIZED (
    -- Found before the instruments are joined: Postgres expects one instrument where there are thousands, and would
    -- look for the stale series once for each of them.
    SELECT c.calendar, c.provider, c.delay_seconds, c.ts_end, s.*
    FROM closed c
    CROSS JOIN LATERAL (
        SELECT k.asset, k.symbol, k.timeframe, k.checked_through, k.asked_at, k.last_ts, k.failures
        FROM market.series_state k
        WHERE k.asset = $5 AND k.timeframe = c.timeframe AND k.is_on
          AND (k.checked_through IS NULL OR k.checked_through < c.ts_end
               -- Where bars ahead of the clock are stored, a request brings nothing, until their time has come.
               OR (k.checked_through > $4 + make_interval(secs => {CLOCK_SLACK_SECONDS})
                   AND coalesce(k.checked_through > k.last_ts, true)))
          AND (k.next_attempt_at IS NULL OR k.next_attempt_at <= $4)
        -- Planned by itself: Postgres takes a third of all series for stale, and would look each of them up.
        OFFSET 0
    ) s
    WHERE c.timeframe = ANY ($6::text[])
), unconfirmed AS MATERIALIZED (
    SELECT c.calendar, c.provider, c.delay_seconds, c.recheck_at, s.*
    FROM closed c
    CROSS JOIN LATERAL (
        SELECT k.asset, k.symbol, k.timeframe, k.asked_at, k.last_ts, k.failures FROM market.series_state k
        WHERE k.asset = $5 AND k.timeframe = c.timeframe AND k.is_on
          -- A fresh series has failed when a person has requested it again.
          AND (k.asked_at < c.recheck_at OR k.failures > 0 AND k.checked_through = c.ts_end)
          AND (k.next_attempt_at IS NULL OR k.next_attempt_at <= $4)
        OFFSET 0
    ) s
    WHERE c.timeframe = ANY ($6::text[])
), {_waiting("$4", "$5")}
SELECT s.asset, s.symbol, s.timeframe,
       CASE WHEN s.checked_through IS NULL THEN 'never asked' WHEN s.checked_through < s.ts_end THEN 'bar closed'
            ELSE 'asked too early' END AS reason,
       s.ts_end AS since, s.failures
FROM behind s
JOIN market.instrument i ON i.symbol = s.symbol AND i.calendar = s.calendar AND i.is_active AND i.is_fetched
     AND coalesce(i.provider, '') = s.provider AND i.delay_seconds = s.delay_seconds
     AND coalesce(s.asked_at <= $4 - make_interval(hours => {PAUSE_HOURS}), true)
UNION ALL
SELECT s.asset, s.symbol, s.timeframe, 'to be confirmed', s.recheck_at, s.failures
FROM unconfirmed s
JOIN market.instrument i ON i.symbol = s.symbol AND i.calendar = s.calendar AND i.is_active AND i.is_fetched
     AND coalesce(i.provider, '') = s.provider AND i.delay_seconds = s.delay_seconds
     AND coalesce(s.asked_at <= $4 - make_interval(hours => {PAUSE_HOURS}), true)
UNION ALL
SELECT s.asset, s.symbol, s.timeframe, CASE WHEN s.last_ts IS NULL THEN 'never computed' ELSE 'input changed' END,
       s.dirty_from, s.failures
FROM market.series_state s
JOIN market.asset a ON a.asset = s.asset AND a.is_on
JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
LEFT JOIN market.timeframe r ON r.timeframe = s.timeframe
LEFT JOIN market.series_state base
       ON base.asset = $5 AND base.symbol = s.symbol AND base.timeframe = r.source
WHERE s.dirty_from IS NOT NULL AND s.is_on
  AND (s.asset <> $5 OR (s.timeframe <> ALL ($6::text[]) AND s.dirty_end <= base.checked_through))
  AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= $4)
  AND NOT EXISTS (SELECT FROM waiting w
                  WHERE w.asset = s.asset AND w.symbol = s.symbol AND w.timeframe = s.timeframe)
UNION ALL
SELECT s.asset, s.symbol, s.timeframe, 'bars missing', min(g.first_ts), s.failures
FROM market.bar_gap g
JOIN market.instrument i ON i.symbol = g.symbol AND i.is_active AND i.is_fetched AND i.silent_since IS NULL
JOIN market.series_state s ON s.asset = $5 AND s.symbol = g.symbol AND s.timeframe = g.timeframe
WHERE g.status = 'open' AND g.next_attempt_at <= $4 AND g.timeframe = ANY ($2::text[]) AND s.is_on
  AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= $4)
GROUP BY s.asset, s.symbol, s.timeframe, s.failures
UNION ALL
SELECT s.asset, s.symbol, s.timeframe, 'older bars', NULL::timestamptz, h.failures
FROM market.older_history h
JOIN market.instrument i ON i.symbol = h.symbol AND i.is_active AND i.is_fetched AND i.silent_since IS NULL
JOIN market.series_state s ON s.asset = $5 AND s.symbol = h.symbol AND s.timeframe = h.timeframe
WHERE h.due_at <= $4 AND h.timeframe = ANY ($2::text[]) AND s.is_on AND s.last_ts IS NOT NULL
  AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= $4)
UNION ALL
SELECT s.asset, s.symbol, s.timeframe, 'not recorded', s.computed_at, s.failures
FROM market.series_state s
JOIN market.asset a ON a.asset = s.asset AND a.is_on
JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
WHERE s.computed_at < clock_timestamp() - make_interval(secs => $7::float8)
  AND (s.recorded_at IS NULL OR s.recorded_at < s.computed_at)
  AND s.dirty_from IS NULL AND s.is_on
ORDER BY 1, 3, 2
"""


def stale(transaction: Transaction, closed: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Return every series of every asset that needs work at `now`.

    Args:
        transaction: any.
        closed: calendar, provider (null for the default one), delay_seconds, timeframe, ts_end (closing time of the
            last bar that can be requested), recheck_at (a series last requested before this time is requested again).
            `closed_bars` makes it.
        now: UTC; series whose next attempt is later are left out, and so are those computed from them.

    Returns:
        asset, symbol, timeframe, reason (`bar closed`, `never asked`, `asked too early`, `to be confirmed`, `bars
        missing`, `never computed`, `input changed`, `older bars`, `not recorded`), since (the closing time, gap or
        dirty_from behind the reason, or null), failures; sorted by asset, timeframe and symbol. A series has one row
        per reason.
    """
    return transaction.query(
        _STALE,
        closed["calendar"],
        closed["timeframe"],
        closed["ts_end"],
        now,
        OHLC,
        [timeframe.key for timeframe in FETCHED],
        float(RECORDING_GRACE_SECONDS),
        closed["provider"].fill_null(""),
        closed["delay_seconds"],
        closed["recheck_at"],
    )


def dirty_since(transaction: Transaction, asset: str, timeframe: Timeframe, symbols: Sequence[str]) -> pl.DataFrame:
    """Return from which bar on the inputs of `symbols` have changed: symbol, dirty_from; only those with a change."""
    return transaction.query(
        """
        SELECT symbol, dirty_from FROM market.series_state
        WHERE asset = $1 AND timeframe = $2 AND symbol = ANY ($3::text[]) AND dirty_from IS NOT NULL
        """,
        asset,
        timeframe.key,
        list(symbols),
    )


def newest_bars(
    transaction: Transaction, asset: str, timeframe: Timeframe, symbols: Sequence[str] | pl.Series | None
) -> pl.DataFrame:
    """Return the newest bar of `asset` for each of `symbols` (None: all) that has one: symbol, last_ts."""
    return transaction.query(
        """
        SELECT symbol, last_ts FROM market.series_state
        WHERE asset = $1 AND timeframe = $2 AND last_ts IS NOT NULL AND ($3 OR symbol = ANY ($4::text[]))
        """,
        asset,
        timeframe.key,
        symbols is None,
        [] if symbols is None else list(symbols),
    )


def pausing(transaction: Transaction, now: datetime) -> pl.DataFrame:
    """Return series whose next attempt is later than `now`, because they or their inputs have failed.

    These are the series that `stale` leaves out. Those that wait for another series have no failures and no last_error.
    Series that are requested only once in a while, because their symbol is silent, are left out. An index finds the few
    rows, whatever the number of series.

    Columns: asset, symbol, timeframe, calendar, provider (null for the default one), delay_seconds, timeframes (those
    that are on for the symbol), checked_through, asked_at, last_ts, dirty_from, failures, next_attempt_at, last_error.
    """
    return transaction.query(
        f"""
        WITH RECURSIVE {_waiting("$1", "$2")}
        SELECT s.asset, s.symbol, s.timeframe, i.calendar, i.provider, i.delay_seconds::bigint AS delay_seconds,
               i.timeframes, s.checked_through, s.asked_at, s.last_ts, s.dirty_from, s.failures, s.next_attempt_at,
               s.last_error
        FROM market.series_state s
        JOIN market.asset a ON a.asset = s.asset AND a.is_on
        JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
        WHERE s.failures > 0 AND s.next_attempt_at > $1 AND s.is_on
          AND (s.asset <> $2 OR s.timeframe <> ALL ($3::text[])
               OR (i.is_fetched AND coalesce(s.asked_at <= $1 - make_interval(hours => {PAUSE_HOURS}), true)))
        UNION ALL
        SELECT s.asset, s.symbol, s.timeframe, i.calendar, i.provider, i.delay_seconds::bigint,
               i.timeframes, s.checked_through, s.asked_at, s.last_ts, s.dirty_from, 0, w.next_attempt_at, NULL
        FROM (SELECT asset, symbol, timeframe, max(next_attempt_at) AS next_attempt_at FROM waiting GROUP BY 1, 2, 3) w
        JOIN market.series_state s USING (asset, symbol, timeframe)
        JOIN market.asset a ON a.asset = s.asset AND a.is_on
        JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
        WHERE s.dirty_from IS NOT NULL AND s.is_on AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= $1)
        ORDER BY 1, 3, 2
        """,
        now,
        OHLC,
        [timeframe.key for timeframe in FETCHED],
    )


def expected_rollups(transaction: Transaction, closed: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Return rolled-up series whose bar has closed but whose last source bars are still to be requested.

    `closed` is as in `stale`. A series whose source bars are failing is left out. Columns: symbol, timeframe, since
    (the close); sorted by timeframe and symbol.
    """
    return transaction.query(
        """
        WITH closed AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $6::text[], $7::bigint[])
                          AS c(calendar, timeframe, ts_end, provider, delay_seconds)
        )
        SELECT i.symbol, c.timeframe, c.ts_end AS since
        FROM closed c
        JOIN market.timeframe r ON r.timeframe = c.timeframe
        JOIN market.instrument i ON i.calendar = c.calendar AND i.is_active AND i.is_fetched
             AND coalesce(i.provider, '') = c.provider AND i.delay_seconds = c.delay_seconds AND i.silent_since IS NULL
             AND c.timeframe = ANY (i.timeframes)
        JOIN market.series_state base ON base.asset = $4 AND base.symbol = i.symbol AND base.timeframe = r.source
        WHERE base.checked_through < c.ts_end
          AND (base.next_attempt_at IS NULL OR base.next_attempt_at <= $5)
        ORDER BY 2, 1
        """,
        closed["calendar"],
        closed["timeframe"],
        closed["ts_end"],
        OHLC,
        now,
        closed["provider"].fill_null(""),
        closed["delay_seconds"],
    )


def source_behind(
    transaction: Transaction, source: Timeframe, symbols: Sequence[str], closed: pl.DataFrame, now: datetime
) -> int:
    """Return how many of `symbols` lack `source` bars up to `closed` (as in `stale`), not counting failing ones."""
    found = transaction.query(
        """
        SELECT count(*) AS n
        FROM unnest($1::text[], $2::timestamptz[], $7::text[], $8::bigint[])
             AS c(calendar, ts_end, provider, delay_seconds)
        JOIN market.instrument i
          ON i.calendar = c.calendar AND coalesce(i.provider, '') = c.provider AND i.delay_seconds = c.delay_seconds
         AND i.is_active AND i.is_fetched AND i.silent_since IS NULL AND i.symbol = ANY ($3::text[])
        JOIN market.series_state base ON base.asset = $4 AND base.symbol = i.symbol AND base.timeframe = $5
        WHERE (base.checked_through IS NULL OR base.checked_through < c.ts_end)
          AND (base.next_attempt_at IS NULL OR base.next_attempt_at <= $6)
        """,
        closed["calendar"],
        closed["ts_end"],
        list(symbols),
        OHLC,
        source.key,
        now,
        closed["provider"].fill_null(""),
        closed["delay_seconds"],
    )
    return int(found["n"][0])
