"""Settings to a provider client."""

from ema_assets.errors import ConfigurationError
from ema_assets.providers.alpaca import AlpacaProvider
from ema_assets.providers.base import Provider
from ema_assets.settings import Settings


def open_provider(settings: Settings) -> Provider:
    """A client of the configured provider. No connection is made yet.

    Raises:
        ConfigurationError: when the provider's address or keys are missing.
    """
    if settings.provider == "sandbox":
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
    key_id, secret_key = settings.alpaca_keys()
    return AlpacaProvider(
        settings.alpaca_base_url,
        key_id=key_id,
        secret_key=secret_key,
        feed=settings.alpaca_feed,
        requests_per_minute=settings.alpaca_requests_per_minute,
    )
