"""Yahoo Finance: symbols of the whole world over its chart endpoint. Only the declaration; the client is in vendors."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ema_assets.model.symbols import ASSET_CLASSES
from ema_assets.model.variables import Choice, HttpUrl, Number
from ema_assets.providers.declaration import LongHistory, Provider, ProviderConfig, setting

if TYPE_CHECKING:
    from ema_assets.providers.fetching.base import ProviderClient
    from ema_assets.providers.http.budget import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class YahooConfig(ProviderConfig):
    """The address of Yahoo, the limit of requests to it, and the transport."""

    base_url: str = setting(HttpUrl("EMA_YAHOO_BASE_URL", "https://query1.finance.yahoo.com", "Yahoo's chart API"))
    requests_per_minute: int = setting(
        Number(
            "EMA_YAHOO_REQUESTS_PER_MINUTE",
            100,
            1,
            100_000,
            "Yahoo names no limit, but blocks callers that send too many requests",
        )
    )
    transport: str = setting(
        Choice(
            "EMA_YAHOO_TRANSPORT",
            "httpx",
            ("httpx", "curl_cffi"),
            "`curl_cffi`, an extra, begins its TLS as a browser does, where others are refused",
        )
    )


def _open(config: YahooConfig, budget: "Budget | None") -> "ProviderClient":
    from ema_assets.providers.http.source import HttpOptions
    from ema_assets.providers.vendors.yahoo import MAX_CONCURRENCY, YahooClient

    if config.transport == "httpx":
        return YahooClient(PROVIDER, config, HttpOptions(budget=budget))
    from ema_assets.providers.http.curl_transport import CurlTransport

    return YahooClient(PROVIDER, config, HttpOptions(budget=budget, transport=CurlTransport(MAX_CONCURRENCY)))


PROVIDER = Provider(
    name="yahoo",
    title="Yahoo",
    covers="symbols the world over, as AAPL, BRK.B, AZN.L, ^GSPC, ES=F, EURUSD=X and BTC-USD",
    open=_open,
    config=YahooConfig,
    timeframes={"1m": "1m", "5m": "5m", "1d": "1d"},
    asset_classes=frozenset(ASSET_CLASSES),
    # Yahoo refuses exactly 60 days, and the clocks may differ. It has 30 days of 1m, but at most eight per call.
    depth={"1m": timedelta(days=8) - timedelta(hours=1), "5m": timedelta(days=60) - timedelta(hours=1)},
    # Hours begin with the session. Bars of 30 minutes reach no further back than those of five.
    long_history=LongHistory("1h", "1h", timedelta(days=730) - timedelta(hours=1)),
    settling_time=timedelta(minutes=15),
    # The closing auction follows the close, and trades that were reported late follow in the evening.
    day_settling=(timedelta(minutes=20), timedelta(hours=4)),
)
