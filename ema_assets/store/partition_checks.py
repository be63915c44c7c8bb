"""What Dagster's tables say of checks that have a result per partition. SQL only."""

from ema_assets.store.database import Transaction


def failed_partitions(transaction: Transaction, asset: str, check: str) -> dict[str, str | None]:
    """The partitions of `asset` whose latest result of `check` is a failure, and what it says; read by an index."""
    found = transaction.query(
        """
        SELECT partition, evaluation_event::json #>> '{dagster_event,event_specific_data,description}' AS description
        FROM (
            SELECT DISTINCT ON (partition) partition, execution_status, evaluation_event
            FROM dagster.asset_check_executions
            WHERE asset_key = '["' || $1 || '"]' AND check_name = $2 AND partition IS NOT NULL
              AND execution_status <> 'PLANNED'
            ORDER BY partition, id DESC
        ) latest
        WHERE execution_status = 'FAILED'
        """,
        asset,
        check,
    )
    return dict(found.iter_rows())
