"""The code location: everything Dagster loads, on one screen."""

from dagster import Definitions, in_process_executor, map_asset_specs

from ema_assets.defs.assets.ema_signals import ema_signals
from ema_assets.defs.assets.ema_trend import ema_trend
from ema_assets.defs.assets.ohlc import ohlc
from ema_assets.defs.assets.strategy_9_30_ema import strategy_9_30_ema
from ema_assets.defs.checks import series_checks
from ema_assets.defs.jobs import refresh_job
from ema_assets.defs.maintenance import maintenance_job, maintenance_schedule
from ema_assets.defs.recording import set_event_variables
from ema_assets.defs.resources import MarketResource, StoreResource
from ema_assets.defs.schedules import schedules
from ema_assets.defs.sensors import sensors
from ema_assets.pipeline.watch import code_versions
from ema_assets.settings import Settings
from ema_assets.watchlist import configured_seed

set_event_variables()

# The watchlist file says how EMAs start, and another start is another version of their code.
VERSIONS = code_versions(configured_seed(Settings.from_env().watchlist_path))

defs = Definitions(
    assets=map_asset_specs(
        lambda spec: spec.replace_attributes(code_version=VERSIONS[spec.key.to_user_string()]),
        [ohlc, ema_signals, ema_trend, strategy_9_30_ema],
    ),
    asset_checks=[series_checks],
    jobs=[refresh_job, maintenance_job],
    schedules=[*schedules, maintenance_schedule],
    sensors=sensors,
    resources={"store": StoreResource(), "market": MarketResource()},
    # One process for all steps of a run: with the multiprocess executor each step pays the 3 s start again.
    executor=in_process_executor,
)
