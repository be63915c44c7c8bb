"""Stored bars that no longer fit the sessions: deleted, or moved to the opens. SQL only."""

from datetime import datetime

from ema_assets.model.asset_names import OHLC
from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction
from ema_assets.store.file_spans import STRETCHES
from ema_assets.store.tables import STORED_BARS


def delete_off_grid(transaction: Transaction, timeframe: Timeframe, calendar: str, since: datetime) -> None:
    """Delete rolled-up bars of `calendar` that open at `since` (UTC) or later and cannot be made again.

    `timeframe` is rolled up and shorter than a day. Such a bar is off the grid of the sessions, or its bucket is now
    shorter and contains no bar of the source. All others stay, because `market.ohlc_as_of` depends on when they were
    stored and on their earlier values.
    """
    step = f"make_interval(mins => {timeframe.minutes})"
    transaction.execute(
        f"""
        WITH grid AS MATERIALIZED (
            SELECT g.ts, least(g.ts + {step}, s.ends) AS ts_end
            FROM ({STRETCHES}) s
            CROSS JOIN LATERAL generate_series(s.starts, s.ends - interval '1 microsecond', {step}) AS g(ts)
            WHERE s.calendar = $1 AND s.ends > $2
        ), gone AS (
            SELECT o.symbol, o.ts
            FROM market.instrument i
            JOIN {STORED_BARS.part(timeframe)} o ON o.symbol = i.symbol
            LEFT JOIN grid g ON g.ts = o.ts
            WHERE i.calendar = $1 AND o.timeframe = $3 AND o.ts >= $2 AND o.missing_bars IS NOT NULL
              AND NOT EXISTS (
                  SELECT FROM {STORED_BARS.part(timeframe.source)} b
                  WHERE b.symbol = o.symbol AND b.timeframe = $4 AND b.ts >= g.ts AND b.ts < g.ts_end)
              AND NOT EXISTS (
                  SELECT FROM market.long_bar b
                  WHERE b.symbol = o.symbol AND b.timeframe = $4 AND b.ts >= g.ts AND b.ts < g.ts_end)
        )
        DELETE FROM {STORED_BARS.part(timeframe)} o USING gone
        WHERE o.symbol = gone.symbol AND o.timeframe = $3 AND o.ts = gone.ts
        """,
        calendar,
        since,
        timeframe.key,
        timeframe.source.key,
    )


# A bar belongs to the session that opens less than this far from it. Hours of a special day may begin further away from
# those of a market that trades around the clock: then it belongs to the session that closes within a day after it, as
# in an answer.
_SAME_SESSION_HOURS = 12


def move_to_opens(transaction: Transaction, timeframe: Timeframe, calendar: str, since: datetime) -> None:
    """Move the bars of whole sessions of `calendar`, from `since` (UTC) on, to the times at which their sessions open.

    `timeframe` is one whose bars are sessions; they begin at the exchange's regular open, also with extended hours.
    Otherwise the next answer would bring a second bar of the same session. If a bar at the open exists already, the
    other one is deleted. A bar whose session no longer exists stays: its source says that there was trading.
    """
    moved = transaction.query(
        f"""
        WITH astray AS (
            SELECT DISTINCT ON (o.symbol, n.open) o.symbol, o.ts, n.open
            FROM market.instrument i
            JOIN {STORED_BARS.part(timeframe)} o ON o.symbol = i.symbol
            CROSS JOIN LATERAL (
                SELECT s.regular_open AS open, greatest(s.regular_open - o.ts, o.ts - s.regular_open) AS away
                FROM market.session s
                WHERE s.calendar = $1
                  AND (s.regular_open > o.ts - make_interval(hours => {_SAME_SESSION_HOURS})
                       AND s.regular_open < o.ts + make_interval(hours => {_SAME_SESSION_HOURS})
                       OR s.regular_close > o.ts AND s.regular_close <= o.ts + interval '1 day')
                ORDER BY away LIMIT 1
            ) n
            WHERE i.calendar = $1 AND o.timeframe = $3 AND o.ts >= $2 AND n.open <> o.ts
            ORDER BY o.symbol, n.open, n.away
        ), gone AS (
            DELETE FROM {STORED_BARS.part(timeframe)} o USING astray a, {STORED_BARS.part(timeframe)} t
            WHERE (o.symbol, o.timeframe, o.ts) = (a.symbol, $3, a.ts)
                  AND (t.symbol, t.timeframe, t.ts) = (a.symbol, $3, a.open)
            RETURNING o.symbol
        ), moved AS (
            UPDATE {STORED_BARS.part(timeframe)} o SET ts = a.open
            FROM astray a
            WHERE (o.symbol, o.timeframe, o.ts) = (a.symbol, $3, a.ts)
                  AND NOT EXISTS (SELECT FROM {STORED_BARS.part(timeframe)} t
                                  WHERE (t.symbol, t.timeframe, t.ts) = (a.symbol, $3, a.open))
            RETURNING o.symbol
        )
        SELECT DISTINCT symbol FROM (SELECT * FROM gone UNION ALL SELECT * FROM moved) m
        """,
        calendar,
        since,
        timeframe.key,
    )
    transaction.execute(
        f"""
        UPDATE market.series_state s
        SET first_ts = CASE WHEN s.asset = $3 THEN b.first_ts ELSE s.first_ts END,
            last_ts = CASE WHEN s.asset = $3 THEN b.last_ts ELSE least(s.last_ts, b.last_ts) END,
            revision = s.revision + CASE WHEN s.asset = $3 THEN 1 ELSE 0 END,
            computed_at = CASE WHEN s.asset = $3 THEN clock_timestamp() ELSE s.computed_at END
        FROM (
            SELECT symbol, min(ts) AS first_ts, max(ts) AS last_ts FROM {STORED_BARS.part(timeframe)}
            WHERE symbol = ANY ($1::text[]) AND timeframe = $2 GROUP BY 1
        ) b
        WHERE s.symbol = b.symbol AND s.timeframe = $2
        """,
        moved["symbol"],
        timeframe.key,
        OHLC,
    )
