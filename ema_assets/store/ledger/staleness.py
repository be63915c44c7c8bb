"""Which series want work, and why. Reads only; what is done about it is in work."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.timeframes import FETCHED, KEYS, ROLLED_UP, Timeframe
from ema_assets.store.database import Transaction

# A run tells Dagster within a second or two of its commit; later than this, it died in between.
RECORDING_GRACE_SECONDS = 60

# Parameters: 1 to 3 the last closed bars (calendar, timeframe, ts_end), 4 now, 5 the asset of bars, 6 fetched
# timeframes, 7 rolled-up ones and 8 what each of them is made of, 9 all timeframes, 10 the grace of recording.
_STALE = """
    WITH closed AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS c(calendar, timeframe, ts_end)
    )
    SELECT s.asset, s.symbol, s.timeframe,
           CASE WHEN s.checked_through IS NULL THEN 'never asked' ELSE 'bar closed' END AS reason,
           c.ts_end AS since, s.failures
    FROM closed c
    CROSS JOIN LATERAL (
        SELECT * FROM market.series_state k
        WHERE k.asset = $5 AND k.timeframe = c.timeframe
          AND (k.checked_through IS NULL OR k.checked_through < c.ts_end)
          AND (k.next_attempt_at IS NULL OR k.next_attempt_at <= $4)
        -- Planned by itself: Postgres takes a third of all series for stale, and would look each of them up.
        OFFSET 0
    ) s
    JOIN market.instrument i ON i.symbol = s.symbol AND i.calendar = c.calendar AND i.is_active AND i.is_fetched
    WHERE c.timeframe = ANY ($6::text[])
    UNION ALL
    SELECT s.asset, s.symbol, s.timeframe, 'input changed', s.dirty_from, s.failures
    FROM market.series_state s
    JOIN market.asset a ON a.asset = s.asset AND a.is_on
    JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
    LEFT JOIN unnest($7::text[], $8::text[]) AS r(timeframe, source) ON r.timeframe = s.timeframe
    LEFT JOIN market.series_state base
           ON base.asset = $5 AND base.symbol = s.symbol AND base.timeframe = r.source
    WHERE s.dirty_from IS NOT NULL AND s.timeframe = ANY ($9::text[])
      AND (s.asset <> $5 OR (s.timeframe <> ALL ($6::text[]) AND s.dirty_end <= base.checked_through))
      AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= $4)
    UNION ALL
    SELECT s.asset, s.symbol, s.timeframe, 'bars missing', min(g.first_ts), s.failures
    FROM market.bar_gap g
    JOIN market.instrument i ON i.symbol = g.symbol AND i.is_active AND i.is_fetched
    JOIN market.series_state s ON s.asset = $5 AND s.symbol = g.symbol AND s.timeframe = g.timeframe
    WHERE g.status = 'open' AND g.next_attempt_at <= $4 AND g.timeframe = ANY ($2::text[])
      AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= $4)
    GROUP BY s.asset, s.symbol, s.timeframe, s.failures
    UNION ALL
    SELECT s.asset, s.symbol, s.timeframe, 'not recorded', s.computed_at, s.failures
    FROM market.series_state s
    JOIN market.asset a ON a.asset = s.asset AND a.is_on
    JOIN market.instrument i ON i.symbol = s.symbol AND i.is_active
    WHERE s.computed_at < clock_timestamp() - make_interval(secs => $10::float8)
      AND (s.recorded_at IS NULL OR s.recorded_at < s.computed_at)
      AND s.dirty_from IS NULL AND s.timeframe = ANY ($9::text[])
    ORDER BY 1, 3, 2
"""

_EXPECTED_ROLLUPS = """
    WITH closed AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS c(calendar, timeframe, ts_end)
    )
    SELECT i.symbol, c.timeframe, c.ts_end AS since
    FROM closed c
    JOIN unnest($5::text[], $6::text[]) AS r(timeframe, source) ON r.timeframe = c.timeframe
    JOIN market.instrument i ON i.calendar = c.calendar AND i.is_active AND i.is_fetched
    JOIN market.series_state base ON base.asset = $4 AND base.symbol = i.symbol AND base.timeframe = r.source
    WHERE base.checked_through < c.ts_end
      AND (base.next_attempt_at IS NULL OR base.next_attempt_at <= $7)
    ORDER BY 2, 1
"""

_SOURCE_BEHIND = """
    SELECT count(*) AS n
    FROM unnest($1::text[], $2::timestamptz[]) AS c(calendar, ts_end)
    JOIN market.instrument i
      ON i.calendar = c.calendar AND i.is_active AND i.is_fetched AND i.symbol = ANY ($3::text[])
    JOIN market.series_state base ON base.asset = $4 AND base.symbol = i.symbol AND base.timeframe = $5
    WHERE (base.checked_through IS NULL OR base.checked_through < c.ts_end)
      AND (base.next_attempt_at IS NULL OR base.next_attempt_at <= $6)
"""


def stale(transaction: Transaction, closed: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Every series of every asset that wants work at `now`, on the timeframes there are.

    Args:
        transaction: any.
        closed: calendar, timeframe, ts_end: closing time of the last bar of each calendar and timeframe.
        now: UTC; series whose next attempt is later are left out.

    Returns:
        asset, symbol, timeframe, reason (`bar closed`, `never asked`, `bars missing`, `input changed`, `not
        recorded`), since (the closing time, gap or dirty_from behind the reason), failures; sorted by asset, timeframe
        and symbol. A series has one row for each reason.
    """
    return transaction.query(
        _STALE,
        closed["calendar"],
        closed["timeframe"],
        closed["ts_end"],
        now,
        OHLC,
        [timeframe.key for timeframe in FETCHED],
        [timeframe.key for timeframe in ROLLED_UP],
        [timeframe.source.key for timeframe in ROLLED_UP],
        list(KEYS),
        float(RECORDING_GRACE_SECONDS),
    )


def expected_rollups(transaction: Transaction, closed: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Rolled-up series whose bar has just closed but whose last source bars are still to be asked for.

    `closed` as in `stale`. A series whose source bars fail at present is left out. Returns symbol, timeframe, since.
    """
    return transaction.query(
        _EXPECTED_ROLLUPS,
        closed["calendar"],
        closed["timeframe"],
        closed["ts_end"],
        OHLC,
        [timeframe.key for timeframe in ROLLED_UP],
        [timeframe.source.key for timeframe in ROLLED_UP],
        now,
    )


def source_behind(
    transaction: Transaction, source: Timeframe, symbols: Sequence[str], closed: pl.DataFrame, now: datetime
) -> int:
    """How many of `symbols` lack `source` bars up to `closed` (calendar, ts_end). Failing ones do not count."""
    behind = transaction.query(
        _SOURCE_BEHIND,
        closed["calendar"],
        closed["ts_end"],
        list(symbols),
        OHLC,
        source.key,
        now,
    )
    return int(behind["n"][0])
