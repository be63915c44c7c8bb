"""The code location: everything Dagster loads, on one screen."""

from collections.abc import Sequence

from dagster import Definitions, in_process_executor, json_console_logger

from ema_assets.config.settings import Settings
from ema_assets.defs.assets.computed import computed_assets
from ema_assets.defs.assets.ohlc import ohlc_asset
from ema_assets.defs.assets.sources import FILES, source_specs, sources_in_use
from ema_assets.defs.checks import series_checks
from ema_assets.defs.jobs import refresh_job
from ema_assets.defs.maintenance import maintenance_job, maintenance_schedule
from ema_assets.defs.partition_checks import partition_checks
from ema_assets.defs.performance import (
    performance_asset,
    performance_job,
    performance_schedule,
    performance_sensor,
    screener_spec,
)
from ema_assets.defs.recording import set_event_variables
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.defs.schedules import schedules
from ema_assets.defs.sensors import sensors
from ema_assets.refresh.graph import Graph, configured

set_event_variables()


def assembled(graph: Graph, sources: Sequence[str] = ("sandbox", FILES), log_format: str = "text") -> Definitions:
    """Everything, with the signals and strategies of `graph`, and bars from `sources`."""
    checks = series_checks(graph)
    return Definitions(
        assets=[
            *source_specs(sources),
            ohlc_asset(graph, sources),
            *computed_assets(graph),
            performance_asset(graph),
            screener_spec(graph),
        ],
        asset_checks=[checks, partition_checks(graph)],
        jobs=[refresh_job(graph, checks), maintenance_job, performance_job],
        schedules=[*schedules(graph), maintenance_schedule, performance_schedule(graph)],
        sensors=[*sensors(graph), performance_sensor(graph)],
        resources={"store": StoreResource(), "market": MarketResource()},
        # One process for all steps of a run: with the multiprocess executor each step pays the 3 s start again.
        executor=in_process_executor,
        loggers={"console": json_console_logger} if log_format == "json" else None,
    )


# The watchlist file says which signals and strategies there are, and how EMAs start.
_settings = Settings.from_env()
defs = assembled(configured(_settings), sources_in_use(_settings), _settings.log_format)
