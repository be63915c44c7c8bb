"""The refresh job: the whole chain for whatever is stale in a rectangle of partitions."""

from dagster import AssetSelection, define_asset_job

from ema_assets.defs.checks import series_checks
from ema_assets.lineage import ASSETS

REFRESH_JOB = "refresh"

refresh_job = define_asset_job(
    REFRESH_JOB,
    selection=AssetSelection.assets(*ASSETS) | AssetSelection.checks(series_checks),
    description=(
        "Brings stale series up to date through all four assets in one run. Launched by the schedules and the sweep; "
        "to recompute partitions by hand, materialize the assets instead."
    ),
)
