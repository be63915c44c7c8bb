"""Settings open a provider client: each provider by its name, and the configured provider by default."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ema_assets.config import watchlist
from ema_assets.config.settings import PROVIDERS, Settings
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.operations.refresh_all import refresh_all
from ema_assets.providers.fetching.base import BarRequest, FetchBatch, ProviderClient
from ema_assets.providers.registry import PROVIDERS as PROVIDER_RECORDS
from ema_assets.refresh.clients import open_provider
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.sandbox.server import RunningSandbox, running_sandbox
from ema_assets.store.database import Database
from ema_assets_tests.core import CORE_TEXT
from ema_assets_tests.timeframes import M5, ORDER

PAIR = Instrument("BTC-USD", ALWAYS_OPEN)


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("is_default", [True, False])
def test_every_provider_opens_by_name_at_its_configured_address_and_delivers_bars(name: str, is_default: bool) -> None:
    """Nothing answers at the addresses of the other providers."""
    with running_sandbox([PAIR], required_keys=("key", "secret") if name == "alpaca" else None) as sandbox:
        addresses = {
            "EMA_SANDBOX_URL" if each == "sandbox" else f"EMA_{each.upper()}_BASE_URL": (
                sandbox.base_url if each == name else "http://127.0.0.1:1"
            )
            for each in PROVIDERS
        }
        settings = Settings.from_env(
            {
                **addresses,
                "EMA_PROVIDER": name if is_default else "sandbox",
                "APCA_API_KEY_ID": "key",
                "APCA_API_SECRET_KEY": "secret",
            }
        )

        async def run() -> tuple[str, bool, list[FetchBatch]]:
            provider = open_provider(settings, None if is_default else name)
            now = datetime.now(UTC)
            try:
                request = BarRequest(PAIR, M5, now - timedelta(hours=1), now)
                return (
                    provider.name,
                    PROVIDER_RECORDS[provider.name].is_synthetic,
                    [part async for part in provider.fetch([request])],
                )
            finally:
                await provider.aclose()

        opened, is_synthetic, parts = asyncio.run(run())
    assert (opened, is_synthetic) == (name, name == "sandbox")
    assert sum(part.bars.height for part in parts) in (11, 12)
    assert [len(part.completed) for part in parts if part.completed] == [1]


def test_an_unknown_provider_name_is_refused_with_the_allowed_names() -> None:
    with pytest.raises(
        ConfigurationError, match="one of sandbox, alpaca, yahoo, binance, coinbase, ccxt:<exchange>, received 'google'"
    ):
        open_provider(Settings.from_env({}), "google")


@pytest.mark.parametrize(("name", "variable"), [("alpaca", "APCA_API_KEY_ID"), ("sandbox", "EMA_SANDBOX_URL")])
def test_the_error_names_the_missing_variable_of_a_provider(name: str, variable: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        open_provider(Settings.from_env({}), name)


WATCHLIST = """
[history]
"5m" = 9
"1d" = 400

[[group]]
calendar = "XNYS"
symbols = ["AAPL", "BRK.B"]

[[group]]
calendar = "24/7"
symbols = ["BTC-USD", "DOGE-USD"]
"""
WATCHED = watchlist.parse(WATCHLIST + CORE_TEXT)
# Clients of vendors use the system clock.
NOW = datetime.now(UTC)


def _opened(settings: Settings, provider: str, _group: str | None) -> ProviderClient:
    """Open this provider, whichever group of the watchlist requests it."""
    return open_provider(settings, provider)


def _stored(database: Database, sandbox: RunningSandbox, name: str, symbols: list[str]) -> pl.DataFrame:
    """Refresh `symbols` with the bars of one provider, and return all bars."""
    bases = {f"EMA_{each}_BASE_URL": sandbox.base_url for each in ("ALPACA", "YAHOO", "BINANCE", "COINBASE")}
    keys = {"APCA_API_KEY_ID": "key", "APCA_API_SECRET_KEY": "secret", "EMA_SANDBOX_URL": sandbox.base_url}
    outcomes = refresh_all(
        database,
        WATCHED,
        partial(_opened, Settings.from_env({**bases, **keys}), name),
        FetchRules(WATCHED.history_days),
        symbols,
        list(ORDER),
        clock=lambda: NOW,
    )
    for asset, timeframe, outcome in outcomes:
        assert (asset, timeframe, outcome.errors) == (asset, timeframe, {})
        assert sorted(outcome.done) == sorted(symbols)
    with database.transaction() as transaction:
        return transaction.query(
            "SELECT symbol, timeframe, ts, open, high, low, close FROM market.ohlc ORDER BY 1, 2, 3"
        )


@pytest.fixture(scope="module")
def market() -> Iterator[RunningSandbox]:
    with running_sandbox(WATCHED.instruments) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def bars(market: RunningSandbox, module_database: Database) -> pl.DataFrame:
    """The bars of the market, as the sandbox's own client delivers them."""
    return _stored(module_database, market, "sandbox", list(WATCHED.symbols))


@pytest.mark.broad
@pytest.mark.usefixtures("no_pace")
@pytest.mark.parametrize(
    ("name", "symbols"),
    [
        ("alpaca", ["AAPL", "BRK.B", "BTC-USD", "DOGE-USD"]),
        ("yahoo", ["AAPL", "BRK.B", "BTC-USD", "DOGE-USD"]),
        ("binance", ["BTC-USD", "DOGE-USD"]),
        ("coinbase", ["BTC-USD", "DOGE-USD"]),
    ],
)
def test_the_whole_chain_runs_on_the_bars_of_each_provider(
    database: Database, market: RunningSandbox, bars: pl.DataFrame, name: str, symbols: list[str]
) -> None:
    """The stored bars equal those of the market, whichever format they came in."""
    stored = _stored(database, market, name, symbols)
    assert_frame_equal(stored, bars.filter(pl.col("symbol").is_in(symbols)))
    with database.transaction() as transaction:
        trades = transaction.query("SELECT DISTINCT symbol FROM market.strategy_9_30_ema")
    assert set(stored["timeframe"]) == {timeframe.key for timeframe in ORDER}
    assert set(trades["symbol"]) == set(symbols)
