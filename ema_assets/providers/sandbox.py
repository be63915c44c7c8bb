"""The sandbox: synthetic bars of any symbol, from a server of this project. Only the declaration.

The server is the package `sandbox`. The client uses the format of Alpaca, one of the formats of the server.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ema_assets.model.symbols import ASSET_CLASSES
from ema_assets.model.variables import HttpUrl, Number
from ema_assets.providers import alpaca
from ema_assets.providers.declaration import Provider, ProviderConfig, Service, setting

if TYPE_CHECKING:
    from ema_assets.providers.fetching.base import ProviderClient
    from ema_assets.providers.http.budget import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig(ProviderConfig):
    """The address of the sandbox; `seed` is for the process that starts it."""

    base_url: str | None = setting(HttpUrl("EMA_SANDBOX_URL", None, "a sandbox you run yourself"), is_needed=True)
    requests_per_minute: int = 10_000
    seed: int = setting(Number("EMA_SANDBOX_SEED", 930, 0, 2**31 - 1, "another seed, other synthetic prices"))


def _open(config: SandboxConfig, budget: "Budget | None") -> "ProviderClient":
    from ema_assets.providers.http.source import HttpOptions
    from ema_assets.providers.vendors.alpaca import AlpacaClient

    assert config.base_url is not None, "checked before"
    # All feeds have the same bars, so there is no reason to request two.
    spoken = alpaca.AlpacaConfig(base_url=config.base_url, requests_per_minute=config.requests_per_minute, feed="sip")
    return AlpacaClient(PROVIDER, spoken, HttpOptions(budget=budget))


PROVIDER = Provider(
    name="sandbox",
    title="sandbox exchange",
    covers="every symbol on the watchlist, as it is spelt there",
    open=_open,
    config=SandboxConfig,
    timeframes=alpaca.PROVIDER.timeframes,
    asset_classes=frozenset(ASSET_CLASSES),
    long_history=alpaca.PROVIDER.long_history,
    symbols_per_call=alpaca.PROVIDER.symbols_per_call,
    publication_delay=timedelta(0),
    is_synthetic=True,
    is_fallback=True,
    service=Service("sandbox", answers_at="/sandbox"),
)
