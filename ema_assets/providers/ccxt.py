"""One provider per exchange that the library ccxt can read, such as `ccxt:bitstamp`. The client is in vendors.

ccxt is an extra, because it is large and pins its own dependencies.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ema_assets.model.variables import Number
from ema_assets.providers.declaration import LongHistory, Provider, ProviderConfig, ProviderFamily, setting

if TYPE_CHECKING:
    from ema_assets.providers.fetching.base import ProviderClient
    from ema_assets.providers.http.budget import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class CcxtConfig(ProviderConfig):
    """The limit of requests to an exchange. ccxt knows the address."""

    requests_per_minute: int = setting(
        Number(
            "EMA_CCXT_REQUESTS_PER_MINUTE",
            120,
            1,
            100_000,
            "per exchange; the pause that ccxt names for an exchange is kept as well",
        )
    )


def _member(exchange: str) -> Provider[CcxtConfig]:
    def opened(config: CcxtConfig, budget: "Budget | None") -> "ProviderClient":
        from ema_assets.providers.http.source import HttpOptions
        from ema_assets.providers.vendors.ccxt import CcxtClient, make_exchange

        return CcxtClient(provider, make_exchange(provider.name, exchange), config, HttpOptions(budget=budget))

    provider = Provider(
        name=f"ccxt:{exchange}",
        title=f"{exchange} by ccxt",
        covers="crypto pairs of the exchange, as BTC-USDT",
        open=opened,
        config=CcxtConfig,
        timeframes={"1m": "1m", "5m": "5m", "1d": "1d"},
        # An exchange without bars of one hour refuses the request.
        long_history=LongHistory("1h", "1h"),
        asset_classes=frozenset({"crypto"}),
        extra="ccxt",
    )
    return provider


FAMILY = ProviderFamily(name="ccxt", parameter="exchange", config=CcxtConfig, member=_member)
