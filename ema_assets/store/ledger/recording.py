"""Series that are up to date but not yet reported to Dagster, and what they were computed from. SQL only."""

from collections.abc import Sequence

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import Transaction
from ema_assets.store.ledger.row import IN_ORDER


def lock_recording(transaction: Transaction, asset: str, timeframe: Timeframe) -> None:
    """Lock the reporting of `asset` on `timeframe` to Dagster until the transaction ends; wait while others hold it.

    Without the lock, an older revision could be logged after a newer one.
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
LEFT JOIN market.ohlc o ON $1 = $5 AND o.symbol = c.symbol AND o.timeframe = $2 AND o.ts = c.last_ts
LEFT JOIN market.series_state f ON f.asset = $5 AND f.symbol = c.symbol AND f.timeframe = $6
LEFT JOIN per_symbol p ON p.symbol = c.symbol
ORDER BY c.symbol
"""


def to_record(
    transaction: Transaction, asset: str, timeframe: Timeframe, symbols: Sequence[str], *, everything: bool = False
) -> pl.DataFrame:
    """Return those of `symbols` that are up to date but not yet reported to Dagster; with `everything`, all.

    Returns:
        symbol, provider, revision, code_version (null when it was never computed), first_ts, last_ts, last_close (of
        the bar at last_ts; only for bars), computed_at, final_through (of the fetched bars that it comes from); its
        inputs as lists: reads (assets), read_versions (their revisions, separated by commas if it reads several
        timeframes of an asset), read_events (a position in Dagster's event log at or after the event of the version
        that was read, and before the event of the next version); untold (inputs such as `ohlc|5m` that must be reported
        to Dagster first). Sorted by symbol.
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
    """Write that series were reported to Dagster.

    `told` has symbol, computed_at, revision, and event: the id of the event in Dagster's log.
    """
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


# Forgets the series in the preceding CTE `chosen`, and has their readers reported again: an event of a reader names an
# event of its input. If that one is deleted, Dagster takes the reader for stale until it is computed from a newer one.
_FORGET = f"""
    listed AS MATERIALIZED (
        SELECT asset, symbol, timeframe, true AS is_chosen FROM chosen
        UNION ALL
        SELECT DISTINCT i.asset, c.symbol, i.timeframe, false FROM chosen c
        JOIN market.asset_input i ON i.reads = c.asset AND i.reads_timeframe = c.timeframe
        WHERE NOT EXISTS (SELECT FROM chosen x
                          WHERE (x.asset, x.symbol, x.timeframe) = (i.asset, c.symbol, i.timeframe))
    ), locked AS MATERIALIZED (
        SELECT s.asset, s.symbol, s.timeframe, l.is_chosen FROM listed l
        JOIN market.series_state s USING (asset, symbol, timeframe) JOIN market.asset a USING (asset)
        {IN_ORDER}
    ), forgotten AS (
        UPDATE market.series_state s
        SET recorded_at = NULL, recorded_revision = NULL, recorded_event = NULL, recorded_first_event = NULL
        FROM locked l
        WHERE l.is_chosen AND (s.asset, s.symbol, s.timeframe) = (l.asset, l.symbol, l.timeframe)
        RETURNING s.asset
    ), readers AS (
        UPDATE market.series_state s SET recorded_at = NULL
        FROM locked l
        WHERE NOT l.is_chosen AND (s.asset, s.symbol, s.timeframe) = (l.asset, l.symbol, l.timeframe)
    )
    SELECT count(*) AS n FROM forgotten
"""


def newest_events(transaction: Transaction) -> dict[str, int]:
    """Return, per asset with reported series, the id of its newest event in Dagster's log."""
    found = transaction.query(
        """
        SELECT asset, max(recorded_event) AS event FROM market.series_state
        WHERE recorded_event IS NOT NULL GROUP BY asset
        """
    )
    return dict(found.iter_rows())


def adopt_storage(transaction: Transaction, storage_id: str) -> bool:
    """Remember the Dagster storage that receives reports from now on; return whether it was another one before."""
    found = transaction.query("SELECT storage_id FROM market.dagster_storage")["storage_id"].to_list()
    if found != [storage_id]:
        transaction.execute("DELETE FROM market.dagster_storage")
        transaction.execute("INSERT INTO market.dagster_storage VALUES ($1)", storage_id)
    return bool(found) and found != [storage_id]


def forget_asset(transaction: Transaction, asset: str) -> int:
    """Write that Dagster no longer knows any series of `asset`; return how many it knew.

    The next runs report each series and its readers to Dagster again.
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
    """Write that Dagster no longer has the events of this run; return how many series are affected.

    A series is affected if the run has its newest event or the first event of its revision: readers name an event
    between these two. The next runs report each of these series and its readers to Dagster again.
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
    """Write that the last report of this series to Dagster differs from the ledger, so that it is reported again."""
    transaction.execute(
        "UPDATE market.series_state SET recorded_at = NULL WHERE asset = $1 AND symbol = $2 AND timeframe = $3",
        asset,
        symbol,
        timeframe,
    )
