"""Tests of the Binance client, with the sandbox and with invalid answers."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ema_assets.config.settings import Settings
from ema_assets.model.errors import Banned, MalformedAnswer, RateLimited, RequestRefused, UnknownSymbol
from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.providers.fetching.base import ProviderClient
from ema_assets.providers.http.budget import HttpLimits
from ema_assets.providers.registry import PROVIDERS
from ema_assets.refresh.clients import open_provider
from ema_assets.sandbox.faults import LateBar, MissingSymbol, RateLimit, Refuse
from ema_assets.sandbox.server import RunningSandbox
from ema_assets_tests.providers.conftest import (
    MIDDAY,
    PAIRS,
    QUICK,
    STOCKS,
    NotedBudget,
    ask,
    assert_exact,
    binance,
    collect,
    fetch,
    vendor,
)

ONE_BAR = MIDDAY - timedelta(minutes=13)
SIXTY_DAYS = MIDDAY - timedelta(days=60)
BTC = Instrument("BTC-USD", ALWAYS_OPEN)
MINUTE_5 = 300_000


def at(hour: int, minute: int) -> int:
    return int(datetime(2026, 7, 15, hour, minute, tzinfo=UTC).timestamp()) * 1_000


def kline(opened: int, close: str = "1.5", **more: Any) -> list[Any]:
    row = {"open": "1.0", "high": "2.0", "low": "0.5", "close": close, "volume": "10", **more}
    return [opened, *row.values(), opened + MINUTE_5 - 1, "15.0", 7, "5.0", "7.5", "0"]


def test_a_new_client_has_a_name_and_a_repr_and_has_made_no_calls() -> None:
    provider: ProviderClient = open_provider(Settings.from_env({}), "binance")
    assert (provider.name, PROVIDERS[provider.name].is_synthetic, provider.calls) == ("binance", False, 0)
    assert repr(provider) == "BinanceClient(name='binance', host='data-api.binance.vision')"
    asyncio.run(provider.aclose())


@pytest.mark.broad
def test_a_long_range_is_fetched_in_pages_of_a_thousand_without_duplicate_bars(sandbox: RunningSandbox) -> None:
    requests = ask(PAIRS[:3], SIXTY_DAYS)
    got = fetch(sandbox.base_url, requests, binance)
    assert_exact(sandbox, requests, got.bars)
    assert max(batch.bars.height for batch in got.batches) == 1_000
    assert got.calls == 3 * 18
    # Only the last page of a series completes it.
    assert [len(batch.completed) for batch in got.batches].count(1) == 3


@pytest.mark.parametrize(
    ("symbol", "spelt"),
    [
        ("BTC-USD", "BTCUSDT"),
        ("BTC/USD", "BTCUSDT"),
        ("btc-usd", "BTCUSDT"),
        ("BTCUSDT", "BTCUSDT"),
        ("ETH-BTC", "ETHBTC"),
        ("BTC-EUR", "BTCEUR"),
        ("ETH-USDC", "ETHUSDC"),
    ],
)
def test_a_symbol_is_sent_in_the_vendors_spelling(symbol: str, spelt: str) -> None:
    with vendor(lambda _: JSONResponse([])) as (base_url, seen):
        fetch(base_url, ask([Instrument(symbol, ALWAYS_OPEN)], ONE_BAR), binance)
    assert seen[0].url.path == "/api/v3/klines"
    assert dict(seen[0].query_params) == {
        "symbol": spelt, "interval": "5m", "startTime": str(at(17, 50)), "endTime": str(at(18, 3) - 1), "limit": "1000"
    }  # fmt: skip


def test_an_unknown_symbol_fails_alone(sandbox: RunningSandbox) -> None:
    unknown = [Instrument("NO-SUCH", ALWAYS_OPEN), Instrument("A:B", ALWAYS_OPEN), STOCKS[0]]
    got = fetch(sandbox.base_url, ask([*unknown, *PAIRS], ONE_BAR), binance)
    assert set(got.errors) == {f"{instrument.symbol}|5m" for instrument in unknown}
    assert all(isinstance(error, UnknownSymbol) for error in got.errors.values())
    error = got.errors["NO-SUCH|5m"]
    assert (error.provider, error.symbol) == ("binance", "NOSUCH")
    assert str(error) == "binance has no symbol 'NOSUCH': -1121 Invalid symbol."
    assert (len(got.completed), got.calls) == (10, 13)


def test_a_symbol_without_klines_and_one_with_a_late_kline_are_completed(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(MissingSymbol(symbols=["CAUSDT"]))
    sandbox.handle.faults.add(LateBar(symbols=["CBUSDT"], ts=datetime(2026, 7, 15, 17, 55, tzinfo=UTC)))
    got = fetch(sandbox.base_url, ask(PAIRS[:2], ONE_BAR), binance)
    assert [(symbol, f"{ts:%H:%M}") for symbol, ts in got.bars.select("symbol", "ts").rows()] == [("CB-USD", "17:50")]
    assert len(got.completed) == 2


def test_no_bar_is_lost_with_a_mirror_that_sends_shorter_pages(sandbox: RunningSandbox) -> None:
    """A page may be shorter than requested without being the last one."""
    rows = [kline(at(0, 0) + n * MINUTE_5) for n in range(200)]

    def answer(request: Request) -> Response:
        start = int(request.query_params["startTime"])
        return JSONResponse([row for row in rows if row[0] >= start][:50])

    with vendor(answer) as (base_url, seen):
        got = fetch(base_url, ask([BTC], MIDDAY.replace(hour=0, minute=0), MIDDAY.replace(hour=16, minute=40)), binance)
    assert (got.bars.height, got.bars["ts"].n_unique(), len(seen)) == (200, 200, 4)


def test_a_kline_off_the_grid_at_the_end_of_a_page_does_not_hide_the_next_one() -> None:
    rows = [kline(at(0, 0) + n * MINUTE_5 + (14_789 if n % 100 == 99 else 0)) for n in range(200)]

    def answer(request: Request) -> Response:
        start = int(request.query_params["startTime"])
        return JSONResponse([row for row in rows if row[0] >= start][:100])

    with vendor(answer) as (base_url, _):
        got = fetch(base_url, ask([BTC], MIDDAY.replace(hour=0, minute=0), MIDDAY.replace(hour=16, minute=40)), binance)
    assert got.bars["ts"].dt.epoch("ms").to_list() == [row[0] for row in rows]


def test_pages_of_a_single_kline_end_in_a_malformed_answer() -> None:
    def answer(request: Request) -> Response:
        return JSONResponse([kline(int(request.query_params["startTime"]))])

    with vendor(answer) as (base_url, seen):
        got = fetch(base_url, ask([BTC], MIDDAY - timedelta(days=5)), binance)
    assert isinstance(got.only_error(), MalformedAnswer)
    assert len(seen) < 30


def test_a_ban_ends_the_fetch_after_one_call_and_the_next_fetch_makes_none(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(Refuse(status=418, retry_after_seconds=120))

    async def run() -> None:
        provider = binance(sandbox.base_url, limits=HttpLimits(max_concurrency=1))
        got = await collect(provider, ask(PAIRS, ONE_BAR))
        error = got.only_error()
        assert isinstance(error, Banned)
        assert error.retry_after_seconds == 120
        assert "shut us out for 120 seconds (418)" in str(error)
        assert (len(got.errors), got.calls) == (10, 1)
        again = await collect(provider, ask(PAIRS, ONE_BAR))
        assert (len(again.errors), again.calls) == (10, 0)
        await provider.aclose()

    asyncio.run(run())


def test_calls_wait_for_the_end_of_a_short_rate_limit_and_a_long_one_ends_the_fetch(sandbox: RunningSandbox) -> None:
    number = sandbox.handle.faults.add(RateLimit(retry_after_seconds=0.05, times=1))
    assert fetch(sandbox.base_url, ask(PAIRS, ONE_BAR), binance).calls == 11
    sandbox.handle.faults.clear(number)
    sandbox.handle.faults.add(RateLimit(retry_after_seconds=3_600))
    got = fetch(sandbox.base_url, ask(PAIRS, ONE_BAR), binance)
    assert all(isinstance(error, RateLimited) and not isinstance(error, Banned) for error in got.errors.values())
    assert (len(got.errors), got.calls) == (10, min(10, QUICK.max_concurrency))


def test_a_refusal_without_a_key_does_not_mention_a_key(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(Refuse(status=403, html=True))
    got = fetch(sandbox.base_url, ask(PAIRS[:1], ONE_BAR), binance)
    assert str(got.only_error()) == "binance refused access (403): an HTML page instead of a message"


def test_calls_wait_for_the_next_minute_when_the_weight_is_nearly_used_up() -> None:
    def answer(_: Request) -> Response:
        return JSONResponse([], headers={"X-MBX-USED-WEIGHT-1M": "5400"})

    late_in_the_minute = MIDDAY.replace(second=59, microsecond=750_000)
    budget = NotedBudget()
    with vendor(answer) as (base_url, seen):
        fetch(base_url, ask(PAIRS[:2], ONE_BAR), binance, clock=lambda: late_in_the_minute, budget=budget)
    assert len(seen) == 2
    assert budget.pauses == [0.25, 0.25]


@pytest.mark.parametrize("used", ["5399", "", "-1", "many", "²"])
def test_a_low_or_invalid_weight_causes_no_pause(used: str) -> None:
    headers = {"x-mbx-used-weight-1m": used.encode().decode("latin-1")}
    budget = NotedBudget()
    with vendor(lambda _: Response(b"[]", headers=headers)) as (base_url, _):
        got = fetch(base_url, ask(PAIRS[:3], ONE_BAR), binance, budget=budget)
    assert len(got.completed) == 3
    assert budget.pauses == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{}", "array"),
        ('[{"open": 1}]', "array"),
        ("[[1]]", "length"),
        (json.dumps([kline(at(17, 50), close=1.5)]), "str"),  # type: ignore[arg-type]
        (json.dumps([kline(at(17, 50), close="")]), "not a number"),
        (json.dumps([kline(at(17, 50), close="1,5")]), "not a number"),
        (json.dumps([kline(at(17, 50), close="NaN")]), "not finite"),
        (json.dumps([kline(at(17, 50), close="inf")]), "not finite"),
        (json.dumps([kline(at(17, 50), close="1e999")]), "not finite"),
        (json.dumps([kline(10**18)]), "int"),
        (json.dumps([kline(-1)]), "int"),
        (json.dumps([kline(at(17, 45))]), "brings nothing new"),
        ("[" * 200_000, ""),
    ],
)
def test_a_200_that_is_not_klines_is_malformed_and_the_error_names_provider_and_symbol(body: str, words: str) -> None:
    with vendor(lambda _: Response(body)) as (base_url, seen):
        got = fetch(base_url, ask([BTC], ONE_BAR), binance)
    error = got.only_error()
    assert isinstance(error, MalformedAnswer)
    assert (error.provider, error.symbol) == ("binance", "BTCUSDT")
    assert "binance" in str(error)
    assert "BTCUSDT" in str(error)
    assert words in str(error)
    assert (len(str(error)) < 400, len(seen), got.bars.height) == (True, 1, 0)


def test_a_400_that_is_not_about_the_symbol_is_reported_in_the_vendors_words() -> None:
    with vendor(lambda _: JSONResponse({"code": -1120, "msg": "Invalid interval."}, 400)) as (base_url, _):
        got = fetch(base_url, ask([BTC], ONE_BAR), binance)
    assert isinstance(got.only_error(), RequestRefused)
    assert str(got.only_error()) == "binance refused the request (400): -1120 Invalid interval."


def test_an_abandoned_fetch_leaves_no_task_running(sandbox: RunningSandbox) -> None:
    async def run() -> None:
        provider = binance(sandbox.base_url)
        parts = provider.fetch(ask(PAIRS, SIXTY_DAYS))
        async for _ in parts:
            break
        await parts.aclose()  # type: ignore[attr-defined]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await provider.aclose()

    asyncio.run(run())


def test_bars_have_the_vendors_values_as_numbers() -> None:
    with vendor(lambda _: JSONResponse([kline(at(17, 50), close="0.00000012")])) as (base_url, _):
        got = fetch(base_url, ask([BTC], ONE_BAR, MIDDAY - timedelta(minutes=8)), binance)
    assert got.bars.drop("ts").rows() == [("BTC-USD", "5m", 1.0, 2.0, 0.5, 1.2e-7, 10.0)]
    assert got.bars["ts"].dtype == pl.Datetime("us", "UTC")
