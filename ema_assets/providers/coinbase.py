"""Coinbase: crypto pairs over Coinbase Exchange's public candles. Only the declaration; the client is in vendors."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ema_assets.model.variables import HttpUrl, Number
from ema_assets.providers.declaration import LongHistory, Provider, ProviderConfig, setting

if TYPE_CHECKING:
    from ema_assets.providers.fetching.base import ProviderClient
    from ema_assets.providers.fetching.describing import Described, Question
    from ema_assets.providers.http.budget import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class CoinbaseConfig(ProviderConfig):
    """The address of Coinbase and the limit of requests to it."""

    base_url: str = setting(
        HttpUrl("EMA_COINBASE_BASE_URL", "https://api.exchange.coinbase.com", "Coinbase Exchange's public market data")
    )
    requests_per_minute: int = setting(
        Number("EMA_COINBASE_REQUESTS_PER_MINUTE", 480, 1, 600, "of the 600 that an address has; others may share it")
    )


def _open(config: CoinbaseConfig, budget: "Budget | None") -> "ProviderClient":
    from ema_assets.providers.http.source import HttpOptions
    from ema_assets.providers.vendors.coinbase import CoinbaseClient

    return CoinbaseClient(PROVIDER, config, HttpOptions(budget=budget))


async def _describe(config: CoinbaseConfig, budget: "Budget | None", question: "Question") -> "Described":
    from ema_assets.providers.http.source import HttpOptions
    from ema_assets.providers.vendors.coinbase import CoinbaseClient

    return await CoinbaseClient(PROVIDER, config, HttpOptions(budget=budget)).describe(question)


PROVIDER = Provider(
    name="coinbase",
    title="Coinbase",
    covers="crypto pairs as Coinbase Exchange lists them, as BTC-USD and ETH-EUR",
    open=_open,
    config=CoinbaseConfig,
    describe=_describe,
    # The vendor's word for a timeframe is its granularity in seconds.
    timeframes={"1m": "60", "5m": "300", "1d": "86400"},
    long_history=LongHistory("1h", "3600"),
    asset_classes=frozenset({"crypto"}),
)
