"""The names of all jobs, and the refresh job: the whole graph for whatever is stale in a rectangle of partitions."""

from dagster import AssetChecksDefinition, AssetSelection, define_asset_job
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ema_assets.refresh.graph import Graph

REFRESH_JOB = "refresh"
MAINTENANCE_JOB = "maintenance"
# Not the name of its asset: Dagster takes jobs and steps of one name for a conflict.
PERFORMANCE_JOB = "performance"
JOBS = (REFRESH_JOB, MAINTENANCE_JOB, PERFORMANCE_JOB)


def refresh_job(graph: Graph, checks: AssetChecksDefinition) -> UnresolvedAssetJobDefinition:
    """The job over every asset of `graph` that is switched on."""
    return define_asset_job(
        REFRESH_JOB,
        # Without the check of each partition: the step of `checks` tells of those that have changed.
        selection=AssetSelection.assets(*(node.name for node in graph.on)).without_checks()
        | AssetSelection.checks(checks),
        description=(
            "Brings stale series up to date through all assets in one run. Launched by the schedules and the sweep; "
            "to recompute partitions by hand, materialize the assets instead."
        ),
    )
