"""The time from a bar's close to the commit of its last row, and where that time was spent. SQL only."""

from datetime import datetime

import polars as pl

from ema_assets.model import clock
from ema_assets.model.asset_names import OHLC, STRATEGY
from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction


def record(
    transaction: Transaction,
    timeframe: Timeframe,
    closed: pl.DataFrame,
    run_id: str | None = None,
    write_seconds: float | None = None,
) -> None:
    """Record that the bars in `closed` have reached the end of the chain.

    `closed` has bucket_end (the close) and series (their number). The commit follows within milliseconds. Seconds are
    the machine's, however fast the market's clock runs. `run_id` is Dagster's, `write_seconds` the time since the rows
    were computed.
    """
    transaction.execute(
        """
        INSERT INTO market.close_latency (timeframe, closed_at, series, seconds, run_id, write_seconds)
        SELECT $1, closed_at, series, extract(epoch FROM clock_timestamp() - instant), $5::text, $6::float8
        FROM unnest($2::timestamptz[], $3::bigint[], $4::timestamptz[]) AS c(closed_at, series, instant)
        WHERE instant <= clock_timestamp()
        """,
        timeframe.key,
        closed["bucket_end"],
        closed["series"],
        [clock.instant_of(moment) for moment in closed["bucket_end"]],
        run_id,
        write_seconds,
    )


def summary(transaction: Transaction, since: datetime) -> pl.DataFrame:
    """Return the latency of commits since `since`, one row per timeframe; each series counts once per close.

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


def moments(transaction: Transaction, since: datetime, closes: int) -> pl.DataFrame | None:
    """Return when the newest `closes` of each timeframe reached each stage, as recorded by Dagster and the run.

    Only closes since `since` whose run Dagster still has. Columns: timeframe, closed, requested, queued, launched,
    started, bars_stored, bars_recorded, signals, computed, written, recorded; null where unknown. Sorted by written.
    None when Dagster has no tables here or its schema may not be used.
    """
    # Looking up a table in a schema that the role may not use is an error.
    may_use = "coalesce(has_schema_privilege(to_regnamespace('dagster')::oid, 'USAGE'), false)"
    seen = f"SELECT CASE WHEN {may_use} THEN to_regclass('dagster.event_logs') IS NOT NULL ELSE false END AS seen"
    if not transaction.query(seen).item():
        return None
    return transaction.query(
        f"""
        WITH newest AS (
            SELECT timeframe, run_id, committed_at AS written, write_seconds,
                   committed_at - make_interval(secs => seconds) AS closed,
                   row_number() OVER (PARTITION BY timeframe ORDER BY committed_at DESC) AS place
            FROM market.close_latency WHERE committed_at >= $1 AND run_id IS NOT NULL
        ),
        chosen AS MATERIALIZED (SELECT * FROM newest WHERE place <= $2),
        known AS (
            SELECT e.run_id,
                   max(timestamp) FILTER (WHERE dagster_event_type = 'PIPELINE_ENQUEUED') AS queued,
                   max(timestamp) FILTER (WHERE dagster_event_type = 'PIPELINE_STARTING') AS launched,
                   max(timestamp) FILTER (WHERE dagster_event_type = 'PIPELINE_START') AS started,
                   max(timestamp) FILTER (WHERE dagster_event_type = 'ASSET_MATERIALIZATION') AS bars_stored,
                   max(timestamp) FILTER (WHERE dagster_event_type = 'STEP_SUCCESS' AND step_key = $3) AS bars_recorded,
                   max(timestamp) FILTER (WHERE dagster_event_type = 'STEP_START' AND step_key = $4) AS signals,
                   max(timestamp) FILTER (WHERE dagster_event_type = 'STEP_SUCCESS' AND step_key = $4) AS recorded
            FROM (SELECT DISTINCT run_id FROM chosen) c JOIN dagster.event_logs e ON e.run_id = c.run_id
            WHERE dagster_event_type IN ('PIPELINE_ENQUEUED', 'PIPELINE_STARTING', 'PIPELINE_START', 'STEP_START',
                                         'STEP_SUCCESS')
               OR (dagster_event_type = 'ASSET_MATERIALIZATION' AND step_key = $3)
            GROUP BY 1
        )
        SELECT c.timeframe, c.closed, r.create_timestamp AT TIME ZONE 'UTC' AS requested,
               {", ".join(f"k.{name} AT TIME ZONE 'UTC' AS {name}" for name in _BEFORE)},
               c.written - make_interval(secs => c.write_seconds) AS computed, c.written,
               k.recorded AT TIME ZONE 'UTC' AS recorded
        FROM chosen c JOIN dagster.runs r ON r.run_id = c.run_id LEFT JOIN known k ON k.run_id = c.run_id
        ORDER BY c.written
        """,
        since,
        closes,
        OHLC,
        STRATEGY,
    )


# The stages before the rows are computed, which are known from Dagster's events, in their order.
_BEFORE = ("queued", "launched", "started", "bars_stored", "bars_recorded", "signals")


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
