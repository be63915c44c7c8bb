"""Settings to a provider client."""

from ema_assets.errors import ConfigurationError
from ema_assets.providers.alpaca import AlpacaProvider
from ema_assets.providers.base import Provider
from ema_assets.providers.binance import BinanceProvider
from ema_assets.providers.yahoo import YahooProvider
from ema_assets.settings import PROVIDERS, Settings


def open_provider(settings: Settings, name: str | None = None) -> Provider:
    """A client of the provider `name`, one of `settings.PROVIDERS`; by default the configured one. It connects later.

    Raises:
        ConfigurationError: when the provider's address or keys are missing, or there is no such provider.
    """
    name = settings.provider if name is None else name
    match name:
        case "sandbox":
            return _sandbox(settings)
        case "alpaca":
            key_id, secret_key = settings.alpaca_keys()
            return AlpacaProvider(
                settings.alpaca_base_url,
                key_id=key_id,
                secret_key=secret_key,
                feed=settings.alpaca_feed,
                requests_per_minute=settings.alpaca_requests_per_minute,
            )
        case "yahoo":
            return YahooProvider(
                settings.yahoo_base_url,
                requests_per_minute=settings.yahoo_requests_per_minute,
            )
        case "binance":
            return BinanceProvider(
                settings.binance_base_url,
                requests_per_minute=settings.binance_requests_per_minute,
            )
    raise ConfigurationError(f"`provider` must be one of {', '.join(PROVIDERS)}, received {name!r}")


def _sandbox(settings: Settings) -> Provider:
    if settings.sandbox_url is None:
        raise ConfigurationError(
            "the sandbox exchange is the provider but EMA_SANDBOX_URL is not set; start everything with "
            "`ema-assets up`, or run `ema-assets sandbox` and set EMA_SANDBOX_URL to what it prints"
        )
    return AlpacaProvider(
        settings.sandbox_url,
        name="sandbox",
        is_synthetic=True,
        requests_per_minute=10_000,
    )
