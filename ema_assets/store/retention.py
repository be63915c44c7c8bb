"""Deletion of old data: Dagster's runs with their events, rejected bars, and old values of corrected bars. SQL only.

Runs are chosen and deleted in Dagster's own tables (schema `dagster`), in one transaction per batch. Dagster's API
(`instance.delete_run`) deletes a run and then its events, so that a kill in between leaves events without a run; it
never deletes the records of asset checks; and a run of 440 events takes 16 ms instead of 2 ms, one of 4,000 events
84 ms instead of 51 ms.
"""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from ema_assets.store.database import Transaction, identifier

# `needed` are the runs of all events that Dagster reads as "the latest": of an asset, its partitions and its checks.
# Also needed is the run of the first event of a series' current revision, because events of its readers name it. The
# recursion hops through an index from one partition to the next, so its cost grows with partitions, not with events
# (24,000 partitions with a million events: 0.6 s).
_LATEST = """
    partitioned AS (
        (SELECT asset_key, dagster_event_type, partition FROM dagster.event_logs
         WHERE asset_key IS NOT NULL AND partition IS NOT NULL ORDER BY 1, 2, 3 LIMIT 1)
        UNION ALL
        SELECT following.* FROM partitioned p, LATERAL (
            SELECT e.asset_key, e.dagster_event_type, e.partition FROM dagster.event_logs e
            WHERE e.asset_key IS NOT NULL AND e.partition IS NOT NULL
              AND (e.asset_key, e.dagster_event_type, e.partition) > (p.asset_key, p.dagster_event_type, p.partition)
            ORDER BY 1, 2, 3 LIMIT 1
        ) following
    ),
    whole AS (
        (SELECT asset_key, dagster_event_type FROM dagster.event_logs WHERE asset_key IS NOT NULL ORDER BY 1, 2 LIMIT 1)
        UNION ALL
        SELECT following.* FROM whole w, LATERAL (
            SELECT e.asset_key, e.dagster_event_type FROM dagster.event_logs e
            WHERE e.asset_key IS NOT NULL
              AND (e.asset_key, e.dagster_event_type) > (w.asset_key, w.dagster_event_type)
            ORDER BY 1, 2 LIMIT 1
        ) following
    ),
    latest_check AS (
        SELECT unnest(ARRAY[max(id), max(id) FILTER (WHERE execution_status <> 'PLANNED')]) AS id
        FROM dagster.asset_check_executions GROUP BY asset_key, check_name, partition
    ),
    needed AS (
        SELECT newest.run_id FROM partitioned p, LATERAL (
            SELECT e.run_id FROM dagster.event_logs e
            WHERE e.asset_key = p.asset_key AND e.dagster_event_type = p.dagster_event_type
              AND e.partition = p.partition
            ORDER BY e.id DESC LIMIT 1
        ) newest
        UNION SELECT newest.run_id FROM whole w, LATERAL (
            SELECT e.run_id FROM dagster.event_logs e
            WHERE e.asset_key = w.asset_key AND e.dagster_event_type = w.dagster_event_type
            ORDER BY e.id DESC LIMIT 1
        ) newest
        UNION SELECT e.run_id FROM market.series_state s
        JOIN dagster.event_logs e ON e.id = s.recorded_first_event AND e.id <> s.recorded_event
        WHERE EXISTS (SELECT FROM market.asset_input i WHERE i.reads = s.asset AND i.reads_timeframe = s.timeframe)
        UNION SELECT last_run_id FROM dagster.asset_keys
        UNION SELECT c.run_id FROM dagster.asset_check_executions c JOIN latest_check USING (id)
    )
"""

# No other status is final. A run that was cancelled before it started has no end.
_IS_OLD = """
    r.status IN ('SUCCESS', 'FAILURE', 'CANCELED')
    AND coalesce(r.end_time, extract(epoch FROM r.update_timestamp)) < extract(epoch FROM $1::timestamptz)
"""


def dagster_is_here(transaction: Transaction) -> bool:
    """Return whether Dagster has created its tables in this database."""
    found = transaction.query("SELECT to_regclass('dagster.asset_check_executions') IS NOT NULL AS is_here")
    return bool(found["is_here"][0])


def removable_runs(transaction: Transaction, ended_before: datetime, at_most: int) -> pl.DataFrame:
    """Return finished runs that ended before `ended_before` and have nothing that Dagster still reads: run_id, events.

    At most the `at_most` oldest, oldest first. A removable run stays removable: "latest" only moves to newer runs.
    """
    return transaction.query(
        f"""
        WITH RECURSIVE {_LATEST}
        SELECT r.run_id, (SELECT count(*) FROM dagster.event_logs e WHERE e.run_id = r.run_id) AS events
        FROM dagster.runs r
        WHERE {_IS_OLD} AND NOT EXISTS (SELECT FROM needed n WHERE n.run_id = r.run_id)
        ORDER BY r.id LIMIT $2
        """,
        ended_before,
        at_most,
    )


def count_old_runs(transaction: Transaction, ended_before: datetime) -> int:
    """Return the number of finished runs that ended before `ended_before`."""
    return int(transaction.query(f"SELECT count(*) AS n FROM dagster.runs r WHERE {_IS_OLD}", ended_before)["n"][0])


def delete_runs(transaction: Transaction, run_ids: Sequence[str]) -> int:
    """Delete these runs with their tags, events and the events' tags; return the number of events."""
    return _count(
        transaction,
        """
        WITH events AS (
            DELETE FROM dagster.event_logs WHERE run_id = ANY ($1::text[]) RETURNING id, asset_key
        ), tags AS (
            DELETE FROM dagster.asset_event_tags
            WHERE event_id IN (SELECT id FROM events WHERE asset_key IS NOT NULL)
        ), runs AS (
            DELETE FROM dagster.runs WHERE run_id = ANY ($1::text[])
        )
        SELECT count(*) AS n FROM events
        """,
        list(run_ids),
    )


def delete_check_records(transaction: Transaction, at_most: int) -> int:
    """Delete records of asset checks whose run was deleted, except the latest of each check; return their number."""
    return _count(
        transaction,
        """
        WITH latest_check AS (
            SELECT unnest(ARRAY[max(id), max(id) FILTER (WHERE execution_status <> 'PLANNED')]) AS id
            FROM dagster.asset_check_executions GROUP BY asset_key, check_name, partition
        ), gone AS (
            DELETE FROM dagster.asset_check_executions WHERE id IN (
                SELECT c.id FROM dagster.asset_check_executions c
                WHERE c.run_id <> '' AND NOT EXISTS (SELECT FROM dagster.runs r WHERE r.run_id = c.run_id)
                  AND NOT EXISTS (SELECT FROM latest_check l WHERE l.id = c.id)
                LIMIT $1
            ) RETURNING 1
        )
        SELECT count(*) AS n FROM gone
        """,
        at_most,
    )


def delete_backfills(transaction: Transaction, started_before: datetime, at_most: int) -> int:
    """Delete finished backfills that started before `started_before` and have no run left; return their number."""
    return _count(
        transaction,
        """
        WITH gone AS (
            DELETE FROM dagster.bulk_actions WHERE id IN (
                SELECT b.id FROM dagster.bulk_actions b
                WHERE b.status IN ('COMPLETED', 'COMPLETED_SUCCESS', 'COMPLETED_FAILED', 'FAILED', 'CANCELED')
                  AND b.timestamp < $1::timestamptz AT TIME ZONE 'UTC'
                  AND NOT EXISTS (SELECT FROM dagster.runs r WHERE r.backfill_id = b.key)
                LIMIT $2
            ) RETURNING key
        ), tags AS (
            DELETE FROM dagster.backfill_tags WHERE backfill_id IN (SELECT key FROM gone)
        )
        SELECT count(*) AS n FROM gone
        """,
        started_before,
        at_most,
    )


def delete_rejected(transaction: Transaction, rejected_before: datetime, at_most: int) -> int:
    """Delete bars that were rejected before `rejected_before`, oldest first; return their number."""
    return _count(
        transaction,
        """
        WITH gone AS (
            DELETE FROM market.bar_rejected WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM market.bar_rejected WHERE rejected_at < $1 ORDER BY rejected_at LIMIT $2
            )) RETURNING 1
        )
        SELECT count(*) AS n FROM gone
        """,
        rejected_before,
        at_most,
    )


def delete_corrections(transaction: Transaction, corrected_before: datetime, at_most: int) -> int:
    """Delete old values of bars that were corrected before `corrected_before`; return their number."""
    return _count(
        transaction,
        """
        WITH gone AS (
            DELETE FROM market.bar_correction WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM market.bar_correction WHERE corrected_at < $1 LIMIT $2
            )) RETURNING 1
        )
        SELECT count(*) AS n FROM gone
        """,
        corrected_before,
        at_most,
    )


def changed_tables(transaction: Transaction) -> list[str]:
    """Return market tables with rows changed since the last ANALYZE, partitions counted with their table; sorted.

    Autovacuum analyzes partitions but never the table as a whole, so its own ANALYZE counts as a change, too.
    """
    found = transaction.query(
        """
        SELECT root.relname::text AS name
        FROM pg_stat_user_tables s
        JOIN pg_class root ON root.oid = coalesce(pg_partition_root(s.relid), s.relid)
        WHERE s.schemaname = 'market'
        GROUP BY 1
        HAVING sum(s.n_mod_since_analyze) > 0
            OR max(s.last_autoanalyze) > coalesce(max(s.last_analyze), '-infinity')
        ORDER BY 1
        """
    )
    return [str(name) for name in found["name"]]


def analyze(transaction: Transaction, table: str) -> None:
    """Refresh the planner's statistics of a market table and its partitions."""
    transaction.execute(f"ANALYZE market.{identifier(table)}")


def _count(transaction: Transaction, sql: str, *parameters: object) -> int:
    return int(transaction.query(sql, *parameters)["n"][0])
