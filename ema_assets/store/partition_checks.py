"""Results of asset checks per partition, read from Dagster's tables. SQL only."""

import json
from collections.abc import Sequence

from ema_assets.store.database import Transaction

# Its id in Dagster's event log, the id of its run, and its time in seconds since 1970.
Materialization = tuple[int, str, float]


def failed_partitions(
    transaction: Transaction, asset: Sequence[str], check: str
) -> dict[str, tuple[str | None, int | None]]:
    """Return the partitions of the asset with the path `asset` whose latest result of `check` is a failure.

    Each with the description of the result, and the id of the materialization that was checked. Reads an index.
    """
    found = transaction.query(
        """
        SELECT partition, evaluation_event::json #>> '{dagster_event,event_specific_data,description}' AS description,
               materialization_event_storage_id AS target
        FROM (
            SELECT DISTINCT ON (partition) partition, execution_status, evaluation_event,
                   materialization_event_storage_id
            FROM dagster.asset_check_executions
            WHERE asset_key = $1 AND check_name = $2 AND partition IS NOT NULL
              AND execution_status <> 'PLANNED'
            ORDER BY partition, id DESC
        ) latest
        WHERE execution_status = 'FAILED'
        """,
        json.dumps(list(asset)),
        check,
    )
    return {partition: (description, target) for partition, description, target in found.iter_rows()}


def newest_materializations(
    transaction: Transaction, asset: str, partitions: Sequence[str]
) -> dict[str, Materialization]:
    """Return the newest materialization of each of `partitions` that has one."""
    found = transaction.query(
        """
        SELECT p.partition, e.id, e.run_id, extract(epoch FROM e.timestamp)::float8 AS seconds
        FROM unnest($2::text[]) AS p(partition)
        JOIN market.series_state s ON s.asset = $1 AND s.symbol = split_part(p.partition, '|', 1)
             AND s.timeframe = split_part(p.partition, '|', 2)
        JOIN dagster.event_logs e ON e.id = s.recorded_event
        """,
        asset,
        list(partitions),
    )
    return {partition: (event, run_id, seconds) for partition, event, run_id, seconds in found.iter_rows()}
