"""Settings to a provider client."""

from ema_assets.config.settings import PROVIDERS, Settings, check_clock
from ema_assets.model.errors import ConfigurationError, not_one_of
from ema_assets.providers.alpaca import AlpacaProvider
from ema_assets.providers.base import Provider
from ema_assets.providers.binance import BinanceProvider
from ema_assets.providers.yahoo import YahooProvider
from ema_assets.refresh.call_budget import SharedBudget
from ema_assets.store.database import Database

_SANDBOX_REQUESTS_PER_MINUTE = 10_000
# What is not urgent leaves a part of a provider's calls to what is.
SLOW_SHARE = 0.8


def open_provider(
    settings: Settings, name: str | None = None, *, database: Database | None = None, share: float = 1.0
) -> Provider:
    """A client of the provider `name`, one of `settings.PROVIDERS`; by default the configured one. It connects later.

    With `database` its calls a minute are counted there, together with those of all other processes, and this
    client takes no call once `share` of them is used up.

    Raises:
        ConfigurationError: when the provider's address or keys are missing, there is no such provider, or its prices
            are real and the market's time is not.
    """
    name = settings.provider if name is None else name
    check_clock(settings.clock, name)

    def budget(requests_per_minute: int) -> SharedBudget | None:
        if database is None:
            return None
        return SharedBudget(database, name, max(1, int(requests_per_minute * share)))

    match name:
        case "sandbox":
            if settings.sandbox_url is None:
                raise ConfigurationError(
                    "the sandbox exchange is the provider but EMA_SANDBOX_URL is not set; start everything with "
                    "`ema-assets up`, or run `ema-assets sandbox` and set EMA_SANDBOX_URL to what it prints"
                )
            return AlpacaProvider(
                settings.sandbox_url,
                name="sandbox",
                is_synthetic=True,
                requests_per_minute=_SANDBOX_REQUESTS_PER_MINUTE,
                budget=budget(_SANDBOX_REQUESTS_PER_MINUTE),
            )
        case "alpaca":
            key_id, secret_key = settings.alpaca_keys()
            return AlpacaProvider(
                settings.alpaca_base_url,
                key_id=key_id,
                secret_key=secret_key,
                feed=settings.alpaca_feed,
                requests_per_minute=settings.alpaca_requests_per_minute,
                budget=budget(settings.alpaca_requests_per_minute),
            )
        case "yahoo":
            return YahooProvider(
                settings.yahoo_base_url,
                requests_per_minute=settings.yahoo_requests_per_minute,
                budget=budget(settings.yahoo_requests_per_minute),
            )
        case "binance":
            return BinanceProvider(
                settings.binance_base_url,
                requests_per_minute=settings.binance_requests_per_minute,
                budget=budget(settings.binance_requests_per_minute),
            )
    raise not_one_of("provider", name, PROVIDERS)
