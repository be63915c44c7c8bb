"""Rolled-up bars that the stored sessions have no place for any more. SQL only."""

from datetime import datetime

from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction
from ema_assets.store.file_spans import STRETCHES
from ema_assets.store.tables import STORED_BARS


def delete_off_grid(transaction: Transaction, timeframe: Timeframe, calendar: str, since: datetime) -> None:
    """Delete rolled-up bars of `calendar` that open at `since` (UTC) or later and cannot be made again.

    `timeframe` is a rolled-up one below a day. Such a bar is off the grid of the sessions, or its bucket has become
    shorter and holds no bar of the source. All others stay: when they were stored, and what they were before, is what
    `market.ohlc_as_of` goes by.
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
