"""Alpaca: US stocks and crypto pairs over its Market Data v2 API. Only the declaration; the client is in vendors."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ema_assets.model.variables import Choice, HttpUrl, Number, Secret
from ema_assets.providers.declaration import LongHistory, Provider, ProviderConfig, setting

if TYPE_CHECKING:
    from ema_assets.providers.fetching.base import ProviderClient
    from ema_assets.providers.fetching.describing import Described, Question
    from ema_assets.providers.http.budget import Budget

_DATA_URL = "https://data.alpaca.markets"
_PAPER_URL, _LIVE_URL = "https://paper-api.alpaca.markets", "https://api.alpaca.markets"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlpacaConfig(ProviderConfig):
    """The addresses, keys, feeds and limits of requests to Alpaca. `feed` and `history_feed` concern stocks."""

    base_url: str = setting(HttpUrl("EMA_ALPACA_BASE_URL", _DATA_URL, "Alpaca's data API"))
    trading_url: str | None = setting(
        HttpUrl(
            "EMA_ALPACA_TRADING_URL",
            None,
            "which symbols are active; without it the paper or the live trading API, by the key, or the data API where "
            "that is not Alpaca's",
        )
    )
    key_id: str | None = setting(Secret("APCA_API_KEY_ID", "Alpaca's key id; never written anywhere"), is_needed=True)
    secret_key: str | None = setting(
        Secret("APCA_API_SECRET_KEY", "Alpaca's secret key; never written anywhere"), is_needed=True
    )
    feed: str = setting(
        Choice(
            "EMA_ALPACA_FEED",
            "iex",
            ("iex", "sip", "delayed_sip", "otc", "boats", "overnight"),
            "`iex` is free; `sip` needs a paid plan for recent bars",
        )
    )
    history_feed: str = setting(
        Choice(
            "EMA_ALPACA_HISTORY_FEED",
            "sip",
            ("sip", "iex"),
            "with feed `iex`, where bars older than 16 minutes come from: `sip` has all of the volume",
        )
    )
    requests_per_minute: int = setting(Number("EMA_ALPACA_REQUESTS_PER_MINUTE", 200, 1, 100_000, "your plan's limit"))

    @property
    def assets_url(self) -> str:
        """The API with the list of assets. Keys of a live account begin with AK, and the paper API refuses them."""
        if self.trading_url is not None:
            return self.trading_url
        if self.base_url != _DATA_URL:
            return self.base_url
        return _LIVE_URL if (self.key_id or "").startswith("AK") else _PAPER_URL


def _open(config: AlpacaConfig, budget: "Budget | None") -> "ProviderClient":
    from ema_assets.providers.http.source import HttpOptions
    from ema_assets.providers.vendors.alpaca import AlpacaClient

    return AlpacaClient(PROVIDER, config, HttpOptions(budget=budget))


async def _describe(config: AlpacaConfig, budget: "Budget | None", question: "Question") -> "Described":
    from ema_assets.providers.http.source import HttpOptions
    from ema_assets.providers.vendors.alpaca_reference import describe

    return await describe(PROVIDER, config, question, HttpOptions(budget=budget))


PROVIDER = Provider(
    name="alpaca",
    title="Alpaca",
    covers="US stocks and funds, class shares as BRK.B, and crypto pairs against the dollar as BTC-USD",
    open=_open,
    config=AlpacaConfig,
    describe=_describe,
    timeframes={"1m": "1Min", "5m": "5Min", "1d": "1Day"},
    asset_classes=frozenset({"stocks", "funds", "crypto"}),
    calendars=frozenset({"XNYS", "XNAS"}),
    # Its hours begin by the clock, so the first one of a session includes half an hour before the open.
    long_history=LongHistory("30m", "30Min"),
    symbols_per_call=200,
    # Trades that are reported late change a bar for some minutes after its close. And with feed `iex` the bars of the
    # last 21 minutes (16 and the length of a bar) come from one exchange: they are requested again once SIP has them.
    settling_time=timedelta(minutes=25),
    # The closing auction follows the close, and trades that were reported late follow in the evening.
    day_settling=(timedelta(minutes=20), timedelta(hours=4)),
    default_when_set="key_id",
)
