"""The code location: what Dagster loads of ema-assets alone. Its content is in defs/assembly."""

from ema_assets.config.settings import Settings
from ema_assets.defs.assembly import assembled
from ema_assets.defs.assets.sources import sources_in_use
from ema_assets.defs.one_sentence import in_one_sentence
from ema_assets.defs.recording import set_event_variables
from ema_assets.refresh.graph import configured

__all__ = ["assembled", "defs"]

set_event_variables()

# The watchlist file determines which signals and strategies there are, and how EMAs start.
with in_one_sentence():
    _settings = Settings.from_env()
    defs = assembled(configured(_settings), sources_in_use(_settings), _settings.log_format)
