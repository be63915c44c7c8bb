"""Binance: crypto pairs over its public spot klines. Only the declaration; the client is in vendors."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ema_assets.model.variables import HttpUrl, Number
from ema_assets.providers.declaration import LongHistory, Provider, ProviderConfig, setting

if TYPE_CHECKING:
    from ema_assets.providers.fetching.base import ProviderClient
    from ema_assets.providers.fetching.describing import Described, Question
    from ema_assets.providers.http.budget import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class BinanceConfig(ProviderConfig):
    """The address of Binance and the limit of requests to it."""

    # The mirror for market data: it has the same klines and refuses no region.
    base_url: str = setting(
        HttpUrl(
            "EMA_BINANCE_BASE_URL",
            "https://data-api.binance.vision",
            "Binance's public market data, or `https://api.binance.com`",
        )
    )
    # A call has the weight 2, of 6,000 per minute and IP address. Others may use the same address.
    requests_per_minute: int = setting(
        Number(
            "EMA_BINANCE_REQUESTS_PER_MINUTE", 2_400, 1, 3_000, "of the 3,000 that an address has; others may share it"
        )
    )


def _open(config: BinanceConfig, budget: "Budget | None") -> "ProviderClient":
    from ema_assets.providers.http.source import HttpOptions
    from ema_assets.providers.vendors.binance import BinanceClient

    return BinanceClient(PROVIDER, config, HttpOptions(budget=budget))


async def _describe(config: BinanceConfig, budget: "Budget | None", question: "Question") -> "Described":
    from ema_assets.providers.http.source import HttpOptions
    from ema_assets.providers.vendors.binance import BinanceClient

    return await BinanceClient(PROVIDER, config, HttpOptions(budget=budget)).describe(question)


PROVIDER = Provider(
    name="binance",
    title="Binance",
    covers="crypto pairs; BTC-USD stands for BTCUSDT, for there are hardly any dollar pairs",
    open=_open,
    config=BinanceConfig,
    describe=_describe,
    timeframes={"1m": "1m", "5m": "5m", "1d": "1d"},
    long_history=LongHistory("1h", "1h"),
    asset_classes=frozenset({"crypto"}),
)
