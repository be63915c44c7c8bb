"""Tests of the registry: the known providers, what their declarations promise, and the errors of wrong declarations."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from ema_assets.config.settings import PROVIDERS as NAMES
from ema_assets.config.settings import Settings, is_synthetic
from ema_assets.market.calendars import bar_grid
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.model.errors import ConfigurationError, RequestRefused
from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.model.timeframes import FETCHED, by_key
from ema_assets.model.variables import Number, Secret
from ema_assets.providers import alpaca, binance, coinbase, registry, sandbox, yahoo
from ema_assets.providers.declaration import LongHistory, Provider, ProviderConfig, setting
from ema_assets.providers.fetching.base import BarRequest, FetchBatch
from ema_assets.refresh.clients import open_provider
from ema_assets.sandbox.server import running_sandbox
from ema_assets_tests.providers.conftest import ask, vendor

KEYS = {"APCA_API_KEY_ID": "key", "APCA_API_SECRET_KEY": "secret"}
MINUTE = timedelta(minutes=1)


def addresses(base_url: str) -> dict[str, str]:
    """Return the variables that make every provider use one address."""
    variables = [registry.PROVIDERS[name].config.variables()["base_url"].name for name in NAMES]
    return {**KEYS, **dict.fromkeys(variables, base_url)}


def fetch(settings: Settings, name: str, requests: list[BarRequest]) -> tuple[list[FetchBatch], int]:
    async def run() -> tuple[list[FetchBatch], int]:
        client = open_provider(settings, name)
        try:
            return [batch async for batch in client.fetch(requests)], client.calls
        finally:
            await client.aclose()

    return asyncio.run(run())


# --- known providers --------------------------------------------------------------------------------------------------


def test_the_registry_lists_the_providers_of_the_package_in_order() -> None:
    assert list(registry.PROVIDERS) == ["sandbox", "alpaca", "file", "yahoo", "binance", "coinbase"]
    assert NAMES == registry.ASKED == ("sandbox", "alpaca", "yahoo", "binance", "coinbase")
    assert [name for name in NAMES if is_synthetic(name)] == ["sandbox"]


def test_settings_are_imported_without_the_libraries_for_http_and_frames() -> None:
    heavy = ("asyncio", "httpx", "msgspec", "polars", "numpy", "tenacity")
    code = f"import sys, ema_assets.config.settings; print([each for each in {heavy} if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_provider_and_the_file_provider_are_refused_with_the_valid_names() -> None:
    for name in ("yaho", "file"):
        with pytest.raises(
            ConfigurationError,
            match="`provider` must be one of sandbox, alpaca, yahoo, binance, coinbase, ccxt:<exchange>",
        ) as told:
            registry.by_name(name)
    with pytest.raises(ConfigurationError, match="did you mean `yahoo`"):
        registry.by_name("yaho")
    assert "'file'" in str(told.value)


# --- the default ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "default"),
    [
        ({}, "sandbox"),
        (KEYS, "alpaca"),
        ({"APCA_API_KEY_ID": "key"}, "alpaca"),
        ({"APCA_API_SECRET_KEY": "secret"}, "sandbox"),
        ({**KEYS, "EMA_PROVIDER": "binance"}, "binance"),
    ],
)
def test_a_provider_becomes_the_default_by_its_own_declaration(env: dict[str, str], default: str) -> None:
    assert Settings.from_env(env).provider == default


# --- promises ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_pace")
@pytest.mark.parametrize("name", NAMES)
def test_a_provider_has_bars_of_its_asset_classes_on_its_timeframes(name: str) -> None:
    provider = registry.PROVIDERS[name]
    instruments = [Instrument("AAPL"), Instrument("BTC-USD", ALWAYS_OPEN)]
    covered = [each for each in instruments if ("crypto" if each.is_crypto else "stocks") in provider.asset_classes]
    now = datetime.now(UTC)
    assert set(provider.timeframes) == {timeframe.key for timeframe in FETCHED}
    with running_sandbox(instruments) as server:
        settings = Settings.from_env(addresses(server.base_url))
        for key in provider.timeframes:
            # Yahoo sends at most eight days of 1m per call, and an exchange may be closed for three days.
            batches, _ = fetch(settings, name, ask(instruments, now - timedelta(days=7), now, by_key(key)))
            assert {symbol for batch in batches for symbol in batch.bars["symbol"]} == {each.symbol for each in covered}
            missed = {each.request.instrument.symbol for batch in batches for each in batch.failures}
            assert missed == {each.symbol for each in instruments if each not in covered}


@pytest.mark.usefixtures("no_pace")
@pytest.mark.parametrize("name", NAMES)
def test_the_long_history_of_a_provider_has_the_prices_of_its_5m_bars(name: str) -> None:
    """In every dialect the long bars open where ours do, so each of them consists of whole bars of 5m."""
    provider = registry.PROVIDERS[name]
    assert provider.long_history is not None
    length = by_key(provider.long_history.timeframe)
    instruments = [Instrument("AAPL"), Instrument("BTC-USD", ALWAYS_OPEN)]
    covered = [each for each in instruments if ("crypto" if each.is_crypto else "stocks") in provider.asset_classes]
    now = datetime.now(UTC)
    start, end = now - timedelta(days=9), now - timedelta(days=2)
    with running_sandbox(instruments) as server:
        settings = Settings.from_env(addresses(server.base_url))
        found = {}
        for timeframe in (by_key("5m"), length):
            batches, _ = fetch(settings, name, ask(covered, start, end, timeframe))
            found[timeframe] = pl.concat(batch.bars for batch in batches)
    for instrument in covered:
        sessions = exchange_sessions(instrument.calendar, start.date(), end.date()).with_columns(
            calendar=pl.lit(instrument.calendar)
        )
        sessions = sessions.filter(pl.col("open") >= start, pl.col("close") <= end)
        grid = bar_grid(sessions, length).select("ts", "ts_end")
        mine = {key: bars.filter(symbol=instrument.symbol) for key, bars in found.items()}
        ours = (
            mine[by_key("5m")]
            .sort("ts")
            .join_asof(grid.select(bucket="ts", ends="ts_end"), left_on="ts", right_on="bucket")
            .filter(pl.col("ts") < pl.col("ends"))
            .group_by("bucket", maintain_order=True)
            .agg(pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last())
            .rename({"bucket": "ts"})
        )
        theirs = mine[length].join(grid, on="ts", how="semi").select(ours.columns)
        assert theirs.height == grid.height > 20
        assert theirs.equals(ours)


@pytest.mark.parametrize("name", NAMES)
def test_a_call_has_as_many_symbols_as_the_provider_declares(name: str) -> None:
    provider = registry.PROVIDERS[name]
    pairs = [Instrument(f"C{number:03}-USD", ALWAYS_OPEN) for number in range(min(201, provider.symbols_per_call + 1))]
    now = datetime.now(UTC)
    with running_sandbox(pairs) as server:
        _, calls = fetch(Settings.from_env(addresses(server.base_url)), name, ask(pairs, now - 20 * MINUTE, now))
    assert calls == 2


def test_bars_from_before_the_depth_of_a_provider_are_not_requested() -> None:
    depth = yahoo.PROVIDER.depth["5m"]
    now = datetime.now(UTC)
    with running_sandbox([Instrument("AAPL")]) as server:
        settings = Settings.from_env(addresses(server.base_url))
        request = ask([Instrument("AAPL")], now - depth - timedelta(days=9), now - depth - MINUTE)
        batches, calls = fetch(settings, "yahoo", request)
    assert ([each for batch in batches for each in batch.completed], calls) == (request, 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_timeframe_that_a_provider_does_not_serve_fails_without_a_call(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = replace(registry.PROVIDERS[name], timeframes={"1d": registry.PROVIDERS[name].timeframes["1d"]})
    module = {"alpaca": alpaca, "yahoo": yahoo, "binance": binance, "coinbase": coinbase, "sandbox": sandbox}[name]
    monkeypatch.setattr(module, "PROVIDER", provider)
    now = datetime.now(UTC)
    with vendor(lambda _: pytest.fail("a call")) as (base_url, seen):
        requests = ask([Instrument("BTC-USD", ALWAYS_OPEN)], now - 20 * MINUTE, now)
        batches, calls = fetch(Settings.from_env(addresses(base_url)), name, requests)
    assert (calls, seen) == (0, [])
    (failure,) = [each for batch in batches for each in batch.failures]
    assert isinstance(failure.error, RequestRefused)
    assert str(failure.error) == f"{name} has no 5m bars; it serves 1d"


# --- keys and addresses -----------------------------------------------------------------------------------------------


def test_a_service_needs_an_address_unless_it_is_about_to_start() -> None:
    settings = Settings.from_env({})
    assert settings.unserved(NAMES) == ["sandbox"]
    settings.check_provider("sandbox", is_starting=True)
    with pytest.raises(
        ConfigurationError, match="the sandbox exchange is a provider but does not run.*EMA_SANDBOX_URL"
    ):
        settings.check_provider("sandbox")
    served = settings.with_addresses({"sandbox": "http://127.0.0.1:1"})
    served.check_provider("sandbox")
    assert (served.unserved(NAMES), served.service_urls) == ([], {"sandbox": "http://127.0.0.1:1"})
    assert (settings.service_urls, settings == served) == ({}, False)


def test_an_address_from_the_environment_is_kept() -> None:
    settings = Settings.from_env({"EMA_SANDBOX_URL": "http://127.0.0.1:1"})
    assert settings.with_addresses({"sandbox": "http://127.0.0.1:2", "yahoo": "http://127.0.0.1:2"}) == settings


def test_each_provider_has_its_own_publication_delay() -> None:
    seconds = {name: each.delay.total_seconds() for name, each in Settings.from_env({}).publications.items()}
    assert seconds == {None: 0, "sandbox": 0, "alpaca": 3, "yahoo": 3, "binance": 3, "coinbase": 3}
    assert Settings.from_env(KEYS).publications[None].delay.total_seconds() == 3


def test_settings_are_hashable_and_compare_by_value() -> None:
    one, other = Settings.from_env({}), Settings.from_env({})
    assert (one == other, hash(one) == hash(other)) == (True, True)
    assert Settings.from_env({"EMA_ALPACA_FEED": "sip"}) != one


# --- wrong declarations -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyConfig(ProviderConfig):
    token: str | None = setting(Secret("EMA_TOY_TOKEN"), is_needed=True)
    rate: int = setting(Number("EMA_TOY_RATE", 3, 1, 9, "calls"))


TOY = Provider(
    name="toy",
    title="Toy",
    covers="toys",
    open=lambda config, budget: pytest.fail("opened"),
    config=ToyConfig,
    timeframes={"5m": "5"},
    asset_classes=frozenset({"crypto"}),
)


def discovered(monkeypatch: pytest.MonkeyPatch, *more: Provider[Any]) -> Mapping[str, Provider[Any]]:
    known = [(f"ema_assets.providers.{each.name}", each) for each in (sandbox.PROVIDER, alpaca.PROVIDER)]
    monkeypatch.setattr(registry, "_declared", lambda: [*known, *(("mine", each) for each in more)])
    return registry.discover()


def test_a_new_provider_is_listed_after_the_fallback_and_those_that_can_become_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert list(discovered(monkeypatch, TOY)) == ["sandbox", "alpaca", "toy"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "Toy Two"}, "mine: `name` must be 1 to 32 lower-case letters, digits or _, received 'Toy Two'"),
        ({"name": "alpaca"}, "mine: there is a provider `alpaca` already, in ema_assets.providers.alpaca"),
        (
            {"timeframes": {"15m": "15"}},
            "mine: `timeframes` must be among those that are fetched, 1m, 5m, 1d, received '15m'",
        ),
        ({"timeframes": {}}, "mine: `timeframes` must name at least one"),
        ({"depth": {"1d": timedelta(days=1)}}, "mine: `depth` must be of timeframes that it serves, received '1d'"),
        ({"publication_delay": timedelta(seconds=-1)}, "mine: `publication_delay` must not be below zero"),
        ({"settling_time": timedelta(seconds=-1)}, "mine: `settling_time` must not be below zero"),
        ({"symbols_per_call": 0}, "mine: `symbols_per_call` must be at least 1, received 0"),
        ({"long_history": LongHistory("2d", "2d")}, "mine: `long_history` must be of a timeframe that there is"),
        (
            {"long_history": LongHistory("5m", "5")},
            "mine: `long_history` must be of an intraday timeframe that is not among `timeframes`",
        ),
        ({"long_history": LongHistory("1d", "1d")}, "mine: `long_history` must be of an intraday timeframe"),
        ({"long_history": LongHistory("1h", "")}, "mine: `long_history` must have the provider's own word"),
        (
            {"long_history": LongHistory("1h", "1h", timedelta(0))},
            "mine: `depth` of `long_history` must be above zero, received 0:00:00",
        ),
        ({"default_when_set": "key"}, "mine: `default_when_set` must be a setting of ToyConfig, received 'key'"),
        ({"is_fallback": True}, "exactly one provider must be the fallback, received sandbox, toy"),
    ],
)
def test_an_invalid_declaration_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        discovered(monkeypatch, replace(TOY, **change))
    assert str(caught.value).startswith(said)


def test_a_declaration_of_another_type_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"mine: `PROVIDER` must be a Provider of .*, received 'toy'"):
        discovered(monkeypatch, "toy")  # type: ignore[arg-type]


def test_a_configuration_reads_its_variables_with_their_limits_and_hides_its_secrets() -> None:
    found = ToyConfig.from_env({"EMA_TOY_TOKEN": " abc ", "EMA_TOY_RATE": "9"})
    assert (found.token, found.rate, found.requests_per_minute) == ("abc", 9, 200)
    assert "abc" not in repr(found)
    TOY.check(found)
    with pytest.raises(ConfigurationError, match="`EMA_TOY_RATE` must be a whole number from 1 to 9, received '10'"):
        ToyConfig.from_env({"EMA_TOY_RATE": "10"})
    with pytest.raises(ConfigurationError, match="the provider toy needs keys: set EMA_TOY_TOKEN to yours"):
        TOY.check(ToyConfig.from_env({"EMA_TOY_TOKEN": " "}))
