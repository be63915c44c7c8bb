"""How long after a bar's close its last row is committed: one row per close and timeframe. SQL only."""

from datetime import datetime

import polars as pl

from ema_assets.model import clock
from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction


def record(transaction: Transaction, timeframe: Timeframe, closed: pl.DataFrame) -> None:
    """Note that the bars that closed at `bucket_end` have come to the end of the chain, of so many `series`.

    `closed` has bucket_end and series. The commit follows within milliseconds. Seconds are the machine's, however fast
    the market's clock runs.
    """
    transaction.execute(
        """
        INSERT INTO market.close_latency (timeframe, closed_at, series, seconds)
        SELECT $1, closed_at, series, extract(epoch FROM clock_timestamp() - instant)
        FROM unnest($2::timestamptz[], $3::bigint[], $4::timestamptz[]) AS c(closed_at, series, instant)
        WHERE instant <= clock_timestamp()
        """,
        timeframe.key,
        closed["bucket_end"],
        closed["series"],
        [clock.instant_of(moment) for moment in closed["bucket_end"]],
    )


def summary(transaction: Transaction, since: datetime) -> pl.DataFrame:
    """Of what was committed since then, each series counted once a close.

    Columns: timeframe, closes, series, p50_seconds, p99_seconds.
    """
    return transaction.query(
        """
        WITH ordered AS (
            SELECT timeframe, closed_at, series, seconds,
                   sum(series) OVER (PARTITION BY timeframe ORDER BY seconds, closed_at) AS upto,
                   sum(series) OVER (PARTITION BY timeframe) AS total
            FROM market.close_latency WHERE committed_at >= $1
        )
        SELECT timeframe, count(DISTINCT closed_at) AS closes, max(total)::bigint AS series,
               min(seconds) FILTER (WHERE upto >= 0.50 * total) AS p50_seconds,
               min(seconds) FILTER (WHERE upto >= 0.99 * total) AS p99_seconds
        FROM ordered GROUP BY 1
        """,
        since,
    )


def delete_before(transaction: Transaction, moment: datetime, rows: int) -> int:
    """Delete at most `rows` rows committed before `moment`; return how many."""
    found = transaction.query(
        """
        WITH gone AS (
            DELETE FROM market.close_latency
            WHERE ctid IN (SELECT ctid FROM market.close_latency WHERE committed_at < $1 LIMIT $2)
            RETURNING 1
        )
        SELECT count(*) AS n FROM gone
        """,
        moment,
        rows,
    )
    return int(found.item())
