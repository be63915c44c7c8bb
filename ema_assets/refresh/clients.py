"""Opens the client of a provider by its name, with the call budget that all processes share."""

from ema_assets.config.settings import Settings
from ema_assets.providers import registry
from ema_assets.providers.fetching.base import ProviderClient
from ema_assets.refresh.call_budget import SharedBudget
from ema_assets.store.database import Database

# Work that is not urgent uses at most this share of a provider's calls. The rest is left to urgent work.
SLOW_SHARE = 0.8


def open_provider(
    settings: Settings, name: str | None = None, *, database: Database | None = None, share: float = 1.0
) -> ProviderClient:
    """Return a client of the provider `name`, or of the default provider if it is None. It connects later.

    With `database`, calls per minute are counted there, together with the calls of all other processes, and this
    client makes no call once `share` of the limit is used up.

    Raises:
        ConfigurationError: when the provider's address or keys are missing, there is no such provider, or its prices
            are real and the market's time is not.
    """
    provider = registry.by_name(settings.provider if name is None else name)
    settings.check_provider(provider.name)
    config = settings.config_of(provider)
    budget = None
    if database is not None:
        budget = SharedBudget(database, provider.name, max(1, int(config.requests_per_minute * share)))
    assert provider.open is not None
    return provider.open(config, budget)
