"""How Dagster is told which partitions were materialized: exactly those, in bulk.

A scheduled run covers a rectangle of partitions but brings only the stale ones up to date. It carries the tag
`dagster/defer_asset_events`, so that Dagster logs no event for the rectangle, and this module logs one
AssetMaterialization for each series that was processed. Written one by one, 1,000 events cost 15 s on Postgres; sent
as one batch, well under one. The batch goes through `DagsterEvent.asset_materialization`, which is not public API: when
it is not as we know it, events go one by one through the public `context.log_event`. This is the only module that
reaches behind Dagster's public API to log events.
"""

import os
import uuid
from collections.abc import Sequence

from dagster import AssetExecutionContext, AssetMaterialization

from ema_assets.settings import DAGSTER_EVENT_VARIABLES

# A run with this tag logs no asset events of its own.
DEFER_TAG = "dagster/defer_asset_events"


def set_event_variables() -> None:
    """Set Dagster's batching variables in this process and its children, where the user did not."""
    for name, value in DAGSTER_EVENT_VARIABLES.items():
        os.environ.setdefault(name, value)


def record(context: AssetExecutionContext, materializations: Sequence[AssetMaterialization]) -> bool:
    """Log all `materializations`; return True when they went as one batch, False when one by one."""
    if not materializations:
        return True
    try:
        from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata

        step_context = context.get_step_execution_context()
        send = DagsterEvent.asset_materialization
        batch_id = uuid.uuid4().hex
        marks = [DagsterEventBatchMetadata(batch_id, False)] * (len(materializations) - 1)
        marks.append(DagsterEventBatchMetadata(batch_id, True))
    except (ImportError, AttributeError, TypeError):
        for materialization in materializations:
            context.log_event(materialization)
        return False
    for materialization, mark in zip(materializations, marks, strict=True):
        send(step_context, materialization, mark)
    return True
