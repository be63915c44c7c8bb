"""The names of all jobs, and the refresh job: the whole graph for whatever is stale in a rectangle of partitions."""

from dagster import AssetChecksDefinition, AssetSelection, define_asset_job, in_process_executor
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.defs.run_tags import BACKGROUND_LANE, LANE_TAG
from ema_assets.refresh.graph import Graph

REFRESH_JOB = "refresh"
MAINTENANCE_JOB = "maintenance"
# Not the name of its asset: Dagster does not accept a job and a step with the same name.
PERFORMANCE_JOB = "performance"
JOBS = (REFRESH_JOB, MAINTENANCE_JOB, PERFORMANCE_JOB)


def refresh_job(
    graph: Graph, checks: AssetChecksDefinition, namespace: Namespace = ALONE
) -> UnresolvedAssetJobDefinition:
    """Return the job over every asset of `graph` that is switched on."""
    assets = AssetSelection.assets(*(namespace.key(node.name) for node in graph.on))
    return define_asset_job(
        namespace.name(REFRESH_JOB),
        # Without the check of each partition: the step of `checks` reports the partitions whose result has changed.
        selection=assets.without_checks() | AssetSelection.checks(checks),
        # For runs that a person launches; runs of schedules and of the sweep have their own tags.
        tags={LANE_TAG: BACKGROUND_LANE},
        description=(
            "Brings stale series up to date through all assets in one run. Launched by the schedules and the sweep; "
            "to recompute partitions by hand, materialize the assets instead."
        ),
        # One process for all steps of a run: with the multiprocess executor, each step pays the start of 3 s again.
        executor_def=in_process_executor,
    )
