"""Which series were brought up to date and Dagster has not been told of, and what they were computed from. SQL only."""

from collections.abc import Sequence

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction


def lock_recording(transaction: Transaction, asset: str, timeframe: Timeframe) -> None:
    """Wait until nobody else tells Dagster of `asset` on `timeframe`, and keep others waiting until the end.

    Without it an older revision could be logged after a newer one.
    """
    transaction.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('ema_assets recording ' || $1 || '|' || $2, 0))",
        asset,
        timeframe.key,
    )


_TO_RECORD = """
WITH chosen AS (
    SELECT s.*, coalesce(s.inputs, CASE WHEN s.computed_at IS NULL THEN (
               SELECT jsonb_object_agg(i.reads || '|' || i.reads_timeframe, 0) FROM market.asset_input i
               WHERE i.asset = $1 AND i.timeframe = $2
           ) END) AS was_read
    FROM market.series_state s
    WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = ANY ($3::text[])
      AND ($4 OR (s.computed_at IS NOT NULL AND (s.recorded_at IS NULL OR s.recorded_at < s.computed_at)))
), each AS (
    SELECT c.symbol, split_part(e.key, '|', 1) AS asset, split_part(e.key, '|', 2) AS timeframe, e.key,
           e.value::bigint AS revision
    FROM chosen c CROSS JOIN LATERAL jsonb_each_text(c.was_read) AS e(key, value)
), per_asset AS (
    SELECT each.symbol, each.asset,
           string_agg(each.revision::text, ',' ORDER BY each.timeframe <> $2, each.timeframe) AS version,
           -- An input that has changed since makes the series stale, so the place is before that change.
           coalesce(min(up.recorded_first_event - 1) FILTER (WHERE up.recorded_revision > each.revision),
                    max(up.recorded_event), 1) AS event,
           array_agg(each.key) FILTER (
               WHERE up.computed_at IS NOT NULL AND coalesce(up.recorded_revision < each.revision, true)
           ) AS untold
    FROM each
    LEFT JOIN LATERAL (
        SELECT k.computed_at, k.recorded_revision, k.recorded_event, k.recorded_first_event
        FROM market.series_state k
        WHERE k.asset = each.asset AND k.symbol = each.symbol AND k.timeframe = each.timeframe
        -- Row by row: Postgres takes the inputs for a hundred times as many and would read the whole ledger.
        OFFSET 0
    ) up ON true
    GROUP BY each.symbol, each.asset
), per_symbol AS (
    SELECT symbol, array_agg(asset ORDER BY asset) AS reads, array_agg(version ORDER BY asset) AS read_versions,
           array_agg(event ORDER BY asset) AS read_events,
           string_to_array(string_agg(array_to_string(untold, ' '), ' '), ' ') AS untold
    FROM per_asset GROUP BY symbol
)
SELECT c.symbol, i.provider, c.revision, c.code_version, c.first_ts, c.last_ts, o.close AS last_close,
       c.computed_at, f.final_through, p.reads, p.read_versions, p.read_events, p.untold
FROM chosen c
JOIN market.instrument i ON i.symbol = c.symbol
LEFT JOIN market.ohlc o ON o.symbol = c.symbol AND o.timeframe = $2 AND o.ts = c.last_ts
LEFT JOIN market.series_state f ON f.asset = $5 AND f.symbol = c.symbol AND f.timeframe = $6
LEFT JOIN per_symbol p ON p.symbol = c.symbol
ORDER BY c.symbol
"""


def to_record(
    transaction: Transaction, asset: str, timeframe: Timeframe, symbols: Sequence[str], *, everything: bool = False
) -> pl.DataFrame:
    """Those of `symbols` that were brought up to date and that Dagster has not been told of; with `everything`, all.

    Returns:
        symbol, provider, revision, code_version (null when it was never computed), first_ts, last_ts, last_close (of
        the bar at last_ts), computed_at, final_through (of the fetched bars that it comes from); what it was computed
        from as lists: reads (assets), read_versions (their revisions, two with a comma where it reads two timeframes of
        one), read_events (a place in Dagster's event log behind the event of what was read, and before the next one
        that is different); untold (`ohlc|5m`: inputs of which Dagster is to be told first). Sorted by symbol.
    """
    return transaction.query(
        _TO_RECORD,
        asset,
        timeframe.key,
        list(symbols),
        everything,
        OHLC,
        timeframe.base.key,
    )


def mark_recorded(transaction: Transaction, asset: str, timeframe: Timeframe, told: pl.DataFrame) -> None:
    """Write that Dagster has been told of `told`: symbol, computed_at, revision, and event, its id in Dagster's log."""
    transaction.execute(
        """
        UPDATE market.series_state s
        SET recorded_at = t.computed_at, recorded_revision = t.revision, recorded_event = t.event,
            loaded_at = coalesce(s.loaded_at, clock_timestamp()),
            recorded_first_event = CASE WHEN s.recorded_revision = t.revision THEN s.recorded_first_event
                                        ELSE t.event END
        FROM unnest($3::text[], $4::timestamptz[], $5::bigint[], $6::bigint[])
             AS t(symbol, computed_at, revision, event)
        WHERE s.asset = $1 AND s.timeframe = $2 AND s.symbol = t.symbol
        """,
        asset,
        timeframe.key,
        told["symbol"],
        told["computed_at"],
        told["revision"],
        told["event"],
    )


# Forgets the series that come before it, and has what reads them told again: an event of a reader names an event of
# what it read, and where that is gone Dagster takes the reader for stale until it is computed from something newer.
_FORGET = """
    forgotten AS (
        UPDATE market.series_state s
        SET recorded_at = NULL, recorded_revision = NULL, recorded_event = NULL, recorded_first_event = NULL
        FROM chosen c
        WHERE s.asset = c.asset AND s.symbol = c.symbol AND s.timeframe = c.timeframe
        RETURNING s.asset, s.symbol, s.timeframe
    ), readers AS (
        UPDATE market.series_state s SET recorded_at = NULL
        FROM (
            SELECT i.asset, f.symbol, i.timeframe FROM forgotten f
            JOIN market.asset_input i ON i.reads = f.asset AND i.reads_timeframe = f.timeframe
            EXCEPT SELECT asset, symbol, timeframe FROM forgotten
        ) r
        WHERE s.asset = r.asset AND s.symbol = r.symbol AND s.timeframe = r.timeframe
    )
    SELECT count(*) AS n FROM forgotten
"""


def newest_events(transaction: Transaction) -> dict[str, int]:
    """Per asset of which Dagster was told, the id of the newest event that tells of one of its series."""
    found = transaction.query(
        """
        SELECT asset, max(recorded_event) AS event FROM market.series_state
        WHERE recorded_event IS NOT NULL GROUP BY asset
        """
    )
    return dict(found.iter_rows())


def adopt_storage(transaction: Transaction, storage_id: str) -> bool:
    """Remember which of Dagster's storages is told from now on; True when it was another one before."""
    found = transaction.query("SELECT storage_id FROM market.dagster_storage")["storage_id"].to_list()
    if found != [storage_id]:
        transaction.execute("DELETE FROM market.dagster_storage")
        transaction.execute("INSERT INTO market.dagster_storage VALUES ($1)", storage_id)
    return bool(found) and found != [storage_id]


def forget_asset(transaction: Transaction, asset: str) -> int:
    """Write that Dagster knows nothing of `asset` any more; return of how many series it knew.

    The next runs tell Dagster of each series again, and of what reads it.
    """
    found = transaction.query(
        f"""
        WITH chosen AS (
            SELECT asset, symbol, timeframe FROM market.series_state WHERE asset = $1 AND recorded_at IS NOT NULL
        ), {_FORGET}
        """,
        asset,
    )
    return int(found.item())


def forget_run(transaction: Transaction, run_id: str) -> int:
    """Write that Dagster does not know any more what the events of this run tell; return of how many series it knew.

    That is a series whose newest event it is, or the first one of its revision: what reads it names an event between
    these two. The next runs tell Dagster of each series again, and of what reads it.
    """
    found = transaction.query(
        f"""
        WITH gone AS MATERIALIZED (
            SELECT id, asset_key::json ->> -1 AS asset, split_part(partition, '|', 1) AS symbol,
                   split_part(partition, '|', 2) AS timeframe
            FROM dagster.event_logs
            WHERE run_id = $1 AND dagster_event_type = 'ASSET_MATERIALIZATION' AND partition IS NOT NULL
        ), chosen AS (
            SELECT DISTINCT s.asset, s.symbol, s.timeframe
            FROM gone g JOIN market.series_state s USING (asset, symbol, timeframe)
            WHERE g.id IN (s.recorded_event, s.recorded_first_event)
        ), {_FORGET}
        """,
        run_id,
    )
    return int(found.item())


def forget_series(transaction: Transaction, asset: str, symbol: str, timeframe: str) -> None:
    """Write that what Dagster was told of this series last is not what the ledger says."""
    transaction.execute(
        "UPDATE market.series_state SET recorded_at = NULL WHERE asset = $1 AND symbol = $2 AND timeframe = $3",
        asset,
        symbol,
        timeframe,
    )
