"""Tests of exchanges read by ccxt, with a stand-in for the library, and with the real one if it is installed."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ema_assets.config import watchlist
from ema_assets.config.settings import Settings, is_synthetic
from ema_assets.model.errors import (
    ConfigurationError,
    MalformedAnswer,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
    Unauthorized,
    UnknownSymbol,
    WatchlistError,
)
from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.providers import registry
from ema_assets.providers.ccxt import CcxtConfig
from ema_assets.providers.http.budget import HttpLimits
from ema_assets.providers.http.refusals import NotTheApi, TimedOut
from ema_assets.providers.http.source import HttpOptions
from ema_assets.providers.vendors import ccxt as vendors_ccxt
from ema_assets.providers.vendors.ccxt import CcxtClient, make_exchange
from ema_assets.refresh.clients import open_provider
from ema_assets.sandbox.dialects.coinbase import CANDLES_PATH
from ema_assets.sandbox.server import RunningSandbox
from ema_assets_tests.providers.conftest import (
    MIDDAY,
    PAIRS,
    QUICK,
    Fetched,
    NotedBudget,
    ask,
    assert_exact,
    collect,
    fetch,
)
from ema_assets_tests.timeframes import D1, M1, M5

BTC, ETH = Instrument("BTC-USDT", ALWAYS_OPEN), Instrument("ETH/USDT", ALWAYS_OPEN)
STEP = 300_000
ONE_BAR = MIDDAY - timedelta(minutes=13)


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000)


def candles(start: datetime, end: datetime, step: int = STEP) -> list[list[Any]]:
    return [[ts, 1.0, 3.0, 0.5, 2.0, 10.0] for ts in range(-(-ms(start) // step) * step, ms(end) + step, step)]


# --- a stand-in for ccxt ----------------------------------------------------------------------------------------------


class BaseError(Exception):
    pass


class ExchangeError(BaseError):
    pass


class OperationFailed(BaseError):
    pass


class AuthenticationError(ExchangeError):
    pass


class RestrictedLocation(ExchangeError):
    pass


class BadSymbol(ExchangeError):
    pass


class BadResponse(OperationFailed):
    pass


class NetworkError(OperationFailed):
    pass


class RateLimitExceeded(NetworkError):
    pass


class DDoSProtection(NetworkError):
    pass


class ExchangeNotAvailable(NetworkError):
    pass


class RequestTimeout(NetworkError):
    pass


class Exchange:
    """An exchange with its candles in memory. Every request goes through `fetch`, as in ccxt."""

    id = "toyex"
    has: dict[str, Any] = {"fetchOHLCV": True, "fetchCurrencies": True}
    timeframes: dict[str, str] | None = {"5m": "5", "1d": "D"}
    features: dict[str, Any] | None = {"spot": {"fetchOHLCV": {"limit": 200}}}
    rateLimit = 0.001
    made: list["Exchange"] = []

    def __init__(self, options: dict[str, Any]) -> None:
        self.options, self.has = options, dict(self.has)
        self.urls = {"api": {"public": "https://toyex.example"}}
        self.markets: dict[str, Any] | None = None
        self.rows = candles(MIDDAY - timedelta(days=5), MIDDAY)
        self.answer: Callable[[list[Any]], Any] = lambda rows: rows
        self.error: BaseError | None = None
        self.asked: list[tuple[Any, ...]] = []
        self.requests: list[str] = []
        self.is_closed = False
        self.made.append(self)

    async def fetch(self, url: str) -> str:
        self.requests.append(url)
        return "{}"

    async def load_markets(self) -> dict[str, Any]:
        await self.fetch("markets")
        if self.has["fetchCurrencies"]:
            await self.fetch("currencies")
        self.markets = {"BTC/USDT": {}, "ETH/USDT": {}}
        return self.markets

    def set_markets(self, markets: dict[str, Any]) -> None:
        self.markets = markets

    async def fetch_ohlcv(self, symbol: str, timeframe: str, since: int, limit: int) -> Any:
        self.asked.append((symbol, timeframe, since, limit))
        assert self.markets is not None
        if symbol not in self.markets:
            raise BadSymbol(f"toyex does not have market symbol {symbol}")
        await self.fetch("candles")
        if self.error is not None:
            raise self.error
        return self.answer([row for row in self.rows if row[0] >= since][: min(limit, 200)])

    async def close(self) -> None:
        self.is_closed = True


class Silent(Exchange):
    id = "silent"
    has = {"fetchOHLCV": "emulated"}


class Hourly(Exchange):
    id = "hourly"
    timeframes = {"1h": "60", "1d": "D"}


class Bare(Exchange):
    id = "bare"
    timeframes = None


class Kraken(Exchange):
    id = "kraken"


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Exchange]]:
    """Replace ccxt by the stand-in, and forget all loaded markets."""
    package, module = ModuleType("ccxt"), ModuleType("ccxt.async_support")
    package.__spec__, module.__spec__ = ModuleSpec("ccxt", None), ModuleSpec("ccxt.async_support", None)
    kinds = (Exchange, Silent, Hourly, Bare, Kraken)
    errors = [each for each in globals().values() if isinstance(each, type) and issubclass(each, BaseError)]
    vars(module).update({kind.id: kind for kind in kinds} | {error.__name__: error for error in errors})
    module.exchanges = [kind.id for kind in kinds]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ccxt", package)
    monkeypatch.setitem(sys.modules, "ccxt.async_support", module)
    monkeypatch.setattr(vendors_ccxt, "_markets", {})
    Exchange.made.clear()
    yield Exchange
    assert all(each.is_closed for each in Exchange.made), "an exchange that is not closed keeps its connections"


def toyex(
    _base_url: str,
    *,
    prepare: Callable[[Any], None] = lambda _: None,
    clock: Callable[[], datetime] = lambda: MIDDAY,
    **options: Any,
) -> CcxtClient:
    provider = registry.by_name("ccxt:toyex")
    exchange = make_exchange(provider.name, "toyex")
    prepare(exchange)
    return CcxtClient(provider, exchange, CcxtConfig(), HttpOptions(**{"limits": QUICK, **options}), clock)


def fetched(requests: list[Any], prepare: Callable[[Any], None] = lambda _: None, **options: Any) -> Fetched:
    return fetch("", requests, toyex, prepare=prepare, **options)


def hours(got: Fetched) -> list[str]:
    return [f"{ts:%H:%M}" for ts in got.bars["ts"]]


# --- names ------------------------------------------------------------------------------------------------------------


def test_each_exchange_is_a_separate_provider_with_a_shared_configuration() -> None:
    provider = registry.by_name("ccxt:bitstamp")
    assert (provider.name, list(provider.asset_classes)) == ("ccxt:bitstamp", ["crypto"])
    assert provider.publication_delay == timedelta(seconds=3)
    settings = Settings.from_env({"EMA_PROVIDER": "ccxt:bitstamp", "EMA_CCXT_REQUESTS_PER_MINUTE": "7"})
    assert (settings.provider, settings.is_synthetic, is_synthetic("ccxt:okx")) == ("ccxt:bitstamp", False, False)
    assert settings.config_of(provider).requests_per_minute == 7
    assert settings.config_of(registry.by_name("ccxt:okx")) is settings.config_of(provider)
    assert settings.unserved(["ccxt:bitstamp"]) == []


def test_the_publication_delay_of_an_exchange_is_known_although_it_is_not_listed() -> None:
    settings = Settings.from_env({})
    assert settings.publications["ccxt:okx"].delay == timedelta(seconds=3)
    assert "ccxt:okx" not in list(settings.publications)
    assert settings.publications.get("google") is None


@pytest.mark.parametrize("name", ["ccxt", "ccxt:", "ccxt:Bit Stamp", "ccxt:a:b", "yahoo:x", "binance:", ":okx"])
def test_an_invalid_provider_name_is_refused_with_the_valid_names(name: str) -> None:
    with pytest.raises(ConfigurationError, match="one of sandbox, .*, coinbase, ccxt:<exchange>, received"):
        registry.by_name(name)
    with pytest.raises(ConfigurationError, match="`EMA_PROVIDER` must be one of .*, ccxt:<exchange>, file, received"):
        Settings.from_env({"EMA_PROVIDER": name})
    with pytest.raises(WatchlistError, match="`provider` must be one of .*, ccxt:<exchange>, or 'file'"):
        watchlist.parse(f"[[group]]\nprovider = '{name}'\nsymbols = ['A']")


def test_a_group_of_the_watchlist_may_name_an_exchange() -> None:
    found = watchlist.parse("[[group]]\ncalendar = '24/7'\nprovider = 'ccxt:okx'\nsymbols = ['BTC-USDT']")
    assert found.by_provider("sandbox") == {"ccxt:okx": ("BTC-USDT",)}
    assert found.synthetic_symbols("sandbox") == frozenset()


# --- refused exchanges ------------------------------------------------------------------------------------------------


def test_a_missing_ccxt_is_an_error_that_shows_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ccxt", "ccxt.async_support"):
        monkeypatch.setitem(sys.modules, module, None)
    said = "the provider ccxt:okx needs the package ccxt: pip install 'ema-assets[ccxt]'"
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({}).check_provider("ccxt:okx")
    assert str(caught.value) == said
    with pytest.raises(ConfigurationError) as caught:
        open_provider(Settings.from_env({}), "ccxt:okx")
    assert str(caught.value) == said


def test_a_ccxt_that_lacks_a_dependency_is_an_error_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ccxt").mkdir()
    (tmp_path / "ccxt" / "__init__.py").write_text("")
    (tmp_path / "ccxt" / "async_support.py").write_text("import a_missing_dependency\n")
    for module in ("ccxt", "ccxt.async_support"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(ConfigurationError) as caught:
            make_exchange("ccxt:okx", "okx")
    finally:
        sys.modules.pop("ccxt", None)
    assert str(caught.value) == (
        "the provider ccxt:okx needs the package ccxt (No module named 'a_missing_dependency'): "
        "pip install 'ema-assets[ccxt]'"
    )


@pytest.mark.parametrize(
    ("exchange", "why"),
    [
        ("toyexx", "ccxt has no exchange 'toyexx'; did you mean `toyex`?"),
        ("errors", "ccxt has no exchange 'errors'"),
        ("silent", "ccxt cannot read candles of this exchange"),
        ("hourly", "this exchange has no candles of 5m"),
        ("bare", "this exchange has no candles of 5m and 1d"),
        ("kraken", "it has only its newest 720 candles, 60 hours of 5m"),
    ],
)
@pytest.mark.usefixtures("library")
def test_an_exchange_without_usable_bars_is_refused_with_the_reason(exchange: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_provider(Settings.from_env({}), f"ccxt:{exchange}")
    assert str(caught.value) == f"the provider ccxt:{exchange} cannot be used: {why}"
    Exchange.made.clear()


# --- bars -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("library")
def test_the_limiter_of_ccxt_is_off_and_the_client_has_a_repr() -> None:
    async def run() -> tuple[str, dict[str, Any]]:
        client = open_provider(Settings.from_env({}), "ccxt:toyex")
        await client.aclose()
        return repr(client), Exchange.made[0].options

    shown, options = asyncio.run(run())
    assert shown == "CcxtClient(name='ccxt:toyex', host='toyex')"
    assert options["enableRateLimit"] is False


def test_a_tick_takes_one_call_per_symbol_and_leaves_out_the_forming_candle(library: type[Exchange]) -> None:
    requests = ask([BTC, ETH], ONE_BAR)
    got = fetched(requests)
    assert hours(got) == ["17:50", "17:55"] * 2
    assert got.bars.drop("ts").row(0) == ("BTC-USDT", "5m", 1.0, 3.0, 0.5, 2.0, 10.0)
    assert library.made[0].asked == [
        (symbol, "5m", ms(datetime(2026, 7, 15, 17, 50, tzinfo=UTC)), 4) for symbol in ("BTC/USDT", "ETH/USDT")
    ]
    assert (got.completed, library.made[0].requests) == (requests, ["markets", "candles", "candles"])
    assert got.calls == 3, "each request counts, that for the markets as well"


@pytest.mark.usefixtures("library")
def test_a_candle_is_left_out_until_it_has_closed() -> None:
    newest = datetime(2026, 7, 15, 17, 55, tzinfo=UTC)
    for late, bars in ((timedelta(minutes=4, seconds=59), 0), (timedelta(minutes=5), 1)):
        got = fetched(ask([BTC], newest), clock=lambda late=late: newest + late)
        assert (got.bars.height, len(got.completed)) == (bars, 1)


def test_a_long_range_is_fetched_in_pages_without_duplicate_bars(library: type[Exchange]) -> None:
    got = fetched(ask([BTC], MIDDAY - timedelta(days=3)))
    assert (got.bars.height, got.bars["ts"].n_unique()) == (863, 863)
    # The last of the 864 candles is still forming.
    assert [limit for *_, limit in library.made[0].asked] == [200, 200, 200, 200, 65]


def test_short_pages_are_requested_if_ccxt_does_not_state_the_page_length(
    library: type[Exchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "features", None)
    got = fetched(ask([BTC], MIDDAY - timedelta(days=1)))
    assert got.bars.height == 287
    assert [limit for *_, limit in library.made[0].asked] == [100, 100, 89]


@pytest.mark.usefixtures("library")
def test_a_candle_off_the_grid_at_the_end_of_a_page_does_not_hide_the_next_one() -> None:
    last = ms(MIDDAY) // STEP * STEP - 100 * STEP

    def halted(exchange: Any) -> None:
        exchange.rows = [[ts + 14_789 * (ts == last), *values] for ts, *values in exchange.rows]

    begin = MIDDAY - (300 * timedelta(minutes=5))
    got = fetched(ask([BTC], begin), halted)
    assert got.bars["ts"].dt.epoch("ms").to_list()[198:201] == [last - STEP, last + 14_789, last + STEP]


def hole(exchange: Any) -> None:
    exchange.rows = [row for row in exchange.rows if not ms(MIDDAY) - 40 * STEP < row[0] < ms(MIDDAY) - 5 * STEP]


def window(exchange: Any) -> None:
    """Answer with the candles of the requested window only. In a hole longer than the window there are none."""
    hole(exchange)

    async def fetch_ohlcv(symbol: str, timeframe: str, since: int, limit: int) -> Any:
        exchange.asked.append((symbol, timeframe, since, limit))
        await exchange.fetch("candles")
        return [row for row in exchange.rows if since <= row[0] < since + min(limit, 10) * STEP]

    exchange.features, exchange.fetch_ohlcv = {"spot": {"fetchOHLCV": {"limit": 10}}}, fetch_ohlcv


@pytest.mark.parametrize("kind", [hole, window])
@pytest.mark.usefixtures("library")
def test_a_hole_does_not_end_a_range_with_either_kind_of_answer(kind: Callable[[Any], None]) -> None:
    got = fetched(ask([BTC], MIDDAY - 60 * timedelta(minutes=5)), kind)
    assert got.bars.height == 20 + 4
    assert hours(got)[:1] + hours(got)[-5:] == ["13:05", "14:40", "17:40", "17:45", "17:50", "17:55"]
    assert len(got.completed) == 1


@pytest.mark.usefixtures("library")
def test_a_range_that_the_exchange_ignores_is_completed_without_bars_in_few_calls() -> None:
    def ignore(exchange: Any) -> None:
        exchange.answer = lambda _rows: candles(MIDDAY - timedelta(days=30), MIDDAY - timedelta(days=29))

    got = fetched(ask([BTC], MIDDAY - timedelta(days=3)), ignore)
    assert (got.bars.height, len(got.completed)) == (0, 1)
    assert got.calls < 10


@pytest.mark.usefixtures("library")
def test_pages_of_a_single_candle_end_in_a_malformed_answer() -> None:
    def single(exchange: Any) -> None:
        exchange.answer = lambda rows: rows[:1]

    got = fetched(ask([BTC], MIDDAY - timedelta(days=3)), single)
    assert isinstance(got.only_error(), MalformedAnswer)
    assert got.calls < 25


@pytest.mark.usefixtures("library")
def test_a_missing_value_becomes_null_in_its_bar() -> None:
    def lacking(exchange: Any) -> None:
        exchange.answer = lambda rows: [[*row[:4], None, None] for row in rows[:1]]

    got = fetched(ask([BTC], ONE_BAR, MIDDAY - timedelta(minutes=8)), lacking)
    assert got.bars.select("open", "high", "low", "close", "volume").rows() == [(1.0, 3.0, 0.5, None, None)]


@pytest.mark.usefixtures("library")
def test_daily_candles_begin_at_midnight_utc_or_are_refused() -> None:
    day = 86_400_000

    def days(shift: int) -> Callable[[Any], None]:
        def prepare(exchange: Any) -> None:
            rows = candles(datetime(2026, 7, 1, tzinfo=UTC), MIDDAY, day)
            exchange.rows = [[row[0] + shift, *row[1:]] for row in rows]

        return prepare

    requests = ask([BTC], datetime(2026, 7, 10, tzinfo=UTC), MIDDAY, D1)
    got = fetched(requests, days(0))
    assert [ts.day for ts in got.bars["ts"]] == [10, 11, 12, 13, 14]
    shifted = fetched(requests, days(16 * 3_600_000)).only_error()
    assert isinstance(shifted, MalformedAnswer)
    assert "days that do not begin at midnight UTC" in str(shifted)


# --- markets ----------------------------------------------------------------------------------------------------------


def test_markets_are_loaded_once_per_day_for_all_clients_of_a_process(library: type[Exchange]) -> None:
    for hours_later, requests in ((0, ["markets", "candles"]), (23, ["candles"]), (24, ["markets", "candles"])):
        library.made.clear()
        fetched(ask([BTC], ONE_BAR), clock=lambda later=hours_later: MIDDAY + timedelta(hours=later))
        assert library.made[0].requests == requests
        library.made[0].is_closed = True


def test_markets_are_loaded_separately_for_each_address(library: type[Exchange]) -> None:
    def moved(exchange: Any) -> None:
        exchange.urls["api"] = {"public": "http://127.0.0.1:1"}

    fetched(ask([BTC], ONE_BAR))
    fetched(ask([BTC], ONE_BAR), moved)
    assert library.made[1].requests == ["markets", "candles"]


def test_an_unknown_symbol_fails_alone_and_without_a_request(library: type[Exchange]) -> None:
    got = fetched(ask([BTC, Instrument("NO-SUCH", ALWAYS_OPEN), ETH], ONE_BAR))
    error = got.only_error()
    assert isinstance(error, UnknownSymbol)
    assert (error.provider, error.symbol) == ("ccxt:toyex", "NO/SUCH")
    assert str(error) == "ccxt:toyex has no symbol 'NO/SUCH': toyex does not have market symbol NO/SUCH"
    assert (len(got.completed), got.calls) == (2, 3)


# --- errors and the budget --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "kind", "calls"),
    [
        (RateLimitExceeded, RateLimited, QUICK.attempts),
        (DDoSProtection, RateLimited, QUICK.attempts),
        (AuthenticationError, Unauthorized, 1),
        (RestrictedLocation, Unauthorized, 1),
        (BadResponse, MalformedAnswer, 1),
        (ExchangeNotAvailable, ProviderUnavailable, QUICK.attempts),
        (NetworkError, ProviderUnavailable, QUICK.attempts),
        (RequestTimeout, TimedOut, 1),
        (ExchangeError, RequestRefused, 1),
        (BaseError, RequestRefused, 1),
    ],
)
@pytest.mark.usefixtures("library")
def test_an_error_of_ccxt_is_converted_to_a_provider_error(
    raised: type[BaseError], kind: type[ProviderError], calls: int
) -> None:
    def failing(exchange: Any) -> None:
        exchange.error = raised("toyex GET https://toyex.example " + "x" * 500)

    got = fetched(ask([BTC], ONE_BAR), failing)
    error = got.only_error()
    assert type(error) is kind
    assert str(error).startswith("ccxt:toyex ")
    assert "toyex GET https://toyex.example" in str(error)
    assert len(str(error)) < 400
    assert got.calls == 1 + calls


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: 1 / 0,
        lambda rows: dict(rows[:0])["result"],
        lambda rows: rows.candles,
        lambda rows: rows[len(rows)],
        lambda _: "candles",
        lambda _: [[None, 1, 2, 3, 4, 5]],
        lambda _: [["now", 1, 2, 3, 4, 5]],
        lambda _: [[ms(MIDDAY), "1", 2, 3, 4, 5]],
        lambda _: [[-1, 1, 2, 3, 4, 5]],
        lambda _: [[ms(MIDDAY), 1, 2]],
        lambda _: None,
    ],
)
@pytest.mark.usefixtures("library")
def test_an_answer_that_ccxt_or_the_client_cannot_read_is_malformed(answer: Callable[[Any], Any]) -> None:
    def wrong(exchange: Any) -> None:
        exchange.answer = answer

    error = fetched(ask([BTC], ONE_BAR), wrong).only_error()
    assert isinstance(error, MalformedAnswer)
    assert (error.provider, error.symbol) == ("ccxt:toyex", "BTC/USDT")


@pytest.mark.usefixtures("library")
def test_web_pages_from_both_ends_of_the_list_fail_all_symbols() -> None:
    def page(exchange: Any) -> None:
        inner = exchange.fetch

        async def carry(url: str) -> str:
            await inner(url)
            return "<html>consent</html>" if url == "candles" else "{}"

        exchange.fetch = carry

    limits = HttpLimits(max_concurrency=1, requests_per_minute=1_000)
    requests = [request for each in (M1, M5) for request in ask([BTC, ETH], ONE_BAR, timeframe=each)]
    got = fetched(requests, page, limits=limits)
    assert [type(error) for error in got.errors.values()] == [NotTheApi] * 4
    assert got.calls == 5, "one for the markets"


@pytest.mark.usefixtures("library")
def test_every_request_takes_a_call_of_the_shared_budget_and_the_pace_of_the_exchange_is_set() -> None:
    budget = NotedBudget()

    async def run() -> None:
        client = toyex("", budget=budget, prepare=lambda exchange: setattr(exchange, "rateLimit", 20))
        pace = client._http._pace
        assert (pace._requests, pace._window_seconds) == (1, 0.02)
        await collect(client, ask([BTC, ETH], ONE_BAR))
        await client.aclose()

    asyncio.run(run())
    assert budget.taken == 3


# --- the real library -------------------------------------------------------------------------------------------------


def test_the_real_ccxt_reads_an_exchange_of_the_sandbox(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ccxt.async_support", reason="ccxt is an extra")
    monkeypatch.setattr(vendors_ccxt, "_markets", {})

    def opened(base_url: str) -> CcxtClient:
        provider = registry.by_name("ccxt:coinbaseexchange")
        exchange = make_exchange(provider.name, "coinbaseexchange")
        exchange.urls["api"] = {"public": base_url, "private": base_url}
        exchange.rateLimit = 1
        return CcxtClient(provider, exchange, CcxtConfig(), HttpOptions(limits=QUICK), lambda: MIDDAY)

    requests = [
        *ask(PAIRS[:2], MIDDAY - timedelta(days=2)),
        *ask(PAIRS[:2], datetime(2026, 7, 1, tzinfo=UTC), MIDDAY, D1),
    ]
    got = fetch(sandbox.base_url, [*requests, *ask([Instrument("NO-SUCH", ALWAYS_OPEN)], ONE_BAR)], opened)
    assert_exact(sandbox, requests, got.bars)
    assert list(got.errors) == ["NO-SUCH|5m"]
    assert isinstance(got.only_error(), UnknownSymbol)
    # Four calls for 5m, two for days, and one for the list of products, which `by_path` does not count.
    assert (sandbox.handle.stats.by_path, got.calls) == ({CANDLES_PATH: 6}, 7)
