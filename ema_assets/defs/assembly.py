"""Everything that Dagster loads, put together for one namespace, on one screen."""

import warnings
from collections.abc import Sequence

from dagster import BetaWarning, Definitions, PreviewWarning, in_process_executor, json_console_logger

from ema_assets.defs.assets.computed import computed_assets
from ema_assets.defs.assets.ohlc import ohlc_asset
from ema_assets.defs.assets.sources import FILES, source_specs
from ema_assets.defs.checks import series_checks
from ema_assets.defs.jobs import refresh_job
from ema_assets.defs.maintenance import maintenance_job, maintenance_schedule
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.defs.partition_checks import partition_checks
from ema_assets.defs.performance import (
    performance_asset,
    performance_job,
    performance_schedule,
    performance_sensor,
    screener_spec,
)
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.defs.same_data import works_with
from ema_assets.defs.schedules import schedules
from ema_assets.defs.sensors import sensors
from ema_assets.refresh.graph import Graph


def assembled(
    graph: Graph,
    sources: Sequence[str] = ("sandbox", FILES),
    log_format: str = "text",
    namespace: Namespace = ALONE,
) -> Definitions:
    """Return all definitions: signals and strategies of `graph`, bars from `sources`, and the names of `namespace`."""
    with warnings.catch_warnings():
        # Warnings about backfill policies, kinds and multi-asset checks: dozens of lines that users cannot act on.
        warnings.simplefilter("ignore", BetaWarning)
        warnings.simplefilter("ignore", PreviewWarning)
        checks, maintenance = series_checks(graph, namespace), maintenance_job(namespace)
        return Definitions(
            assets=[
                *source_specs(sources, namespace),
                ohlc_asset(graph, sources, namespace),
                *computed_assets(graph, namespace),
                performance_asset(graph, namespace),
                screener_spec(graph, namespace),
            ],
            asset_checks=[checks, partition_checks(graph, namespace)],
            jobs=[refresh_job(graph, checks, namespace), maintenance, performance_job(namespace)],
            schedules=[
                *schedules(graph, namespace),
                maintenance_schedule(maintenance, namespace),
                performance_schedule(graph, namespace),
            ],
            sensors=[*sensors(graph, namespace), performance_sensor(graph, namespace)],
            resources={
                namespace.name("store"): StoreResource(namespace=namespace.id),
                namespace.name("market"): MarketResource(namespace=namespace.id),
            },
            # Also for runs of assets without a job, which a person launches. A host project chooses its own executor.
            executor=None if namespace.prefix or namespace.source is not None else in_process_executor,
            loggers={"console": json_console_logger} if log_format == "json" and not namespace.prefix else None,
            metadata=works_with(namespace),
        )
