"""Tests of the Coinbase client, with the sandbox and with invalid answers."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ema_assets.config.settings import Settings
from ema_assets.model.errors import (
    Banned,
    MalformedAnswer,
    RateLimited,
    RequestRefused,
    UnknownSymbol,
)
from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers.fetching.base import BarRequest, ProviderClient
from ema_assets.providers.http.budget import HttpLimits, RequestBudget
from ema_assets.providers.http.source import HttpOptions
from ema_assets.providers.registry import PROVIDERS
from ema_assets.providers.vendors import coinbase as vendors_coinbase
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
    coinbase,
    collect,
    fetch,
    vendor,
)
from ema_assets_tests.timeframes import FETCHED, M5
from ema_assets_tests.waiting import run_virtually

ONE_BAR = MIDDAY - timedelta(minutes=13)
BTC = Instrument("BTC-USD", ALWAYS_OPEN)


def at(hour: int, minute: int) -> int:
    return int(datetime(2026, 7, 15, hour, minute, tzinfo=UTC).timestamp())


def candle(opened: int, **more: Any) -> list[Any]:
    return [opened, *{"low": 0.5, "high": 2.0, "open": 1.0, "close": 1.5, "volume": 10.0, **more}.values()]


def test_a_new_client_has_a_name_and_a_repr_and_has_made_no_calls() -> None:
    provider: ProviderClient = open_provider(Settings.from_env({}), "coinbase")
    assert (provider.name, PROVIDERS[provider.name].is_synthetic, provider.calls) == ("coinbase", False, 0)
    assert repr(provider) == "CoinbaseClient(name='coinbase', host='api.exchange.coinbase.com')"
    asyncio.run(provider.aclose())


def test_a_long_range_is_fetched_in_pages_of_three_hundred_without_duplicate_bars(sandbox: RunningSandbox) -> None:
    requests = ask(PAIRS[:3], MIDDAY - timedelta(days=9))
    got = fetch(sandbox.base_url, requests, coinbase)
    assert_exact(sandbox, requests, got.bars)
    # 9 days are 2,592 bars: 8 pages of 300 and one of 192, of which the last candle is still forming.
    assert [batch.bars.height for batch in got.batches].count(300) == 3 * 8
    assert got.calls == 3 * 9
    # Only the last page of a series completes it.
    assert [len(batch.completed) for batch in got.batches].count(1) == 3


@pytest.fixture(scope="session")
def market(_served: RunningSandbox) -> RunningSandbox:
    """The sandbox as a fixture of the whole session, because all examples of a test share it."""
    return _served


@pytest.mark.broad
@settings(max_examples=25, deadline=None)
@given(
    start=st.timedeltas(timedelta(0), timedelta(days=8)),
    length=st.timedeltas(timedelta(0), timedelta(days=5)),
    timeframe=st.sampled_from(FETCHED),
)
def test_any_range_gives_exactly_the_bars_of_the_market(
    market: RunningSandbox, start: timedelta, length: timedelta, timeframe: Timeframe
) -> None:
    begins = MIDDAY - start
    got = fetch(market.base_url, [BarRequest(PAIRS[0], timeframe, begins, begins + length)], coinbase)
    # Bars open at whole seconds, so a fraction of a second at either end counts as the next second.
    whole = [BarRequest(PAIRS[0], timeframe, _next_second(begins), _next_second(begins + length))]
    assert_exact(market, whole, got.bars)


def _next_second(moment: datetime) -> datetime:
    return moment if moment.microsecond == 0 else moment.replace(microsecond=0) + timedelta(seconds=1)


def test_a_range_in_which_no_candle_opens_makes_no_call(sandbox: RunningSandbox) -> None:
    got = fetch(sandbox.base_url, ask(PAIRS[:1], MIDDAY - timedelta(minutes=2), MIDDAY), coinbase)
    assert (len(got.completed), got.calls, got.bars.height) == (1, 0, 0)


@pytest.mark.parametrize(
    ("symbol", "path"),
    [
        ("BTC-USD", "/products/BTC-USD/candles"),
        ("BTC/USD", "/products/BTC-USD/candles"),
        ("btc-usd", "/products/BTC-USD/candles"),
        ("ETH-BTC", "/products/ETH-BTC/candles"),
        ("A:B", "/products/A%3AB/candles"),
    ],
)
def test_a_symbol_is_sent_in_the_vendors_spelling(symbol: str, path: str) -> None:
    with vendor(lambda _: JSONResponse([])) as (base_url, seen):
        fetch(base_url, ask([Instrument(symbol, ALWAYS_OPEN)], ONE_BAR), coinbase)
    assert seen[0].scope["raw_path"] == path.encode()
    assert dict(seen[0].query_params) == {
        "granularity": "300", "start": "2026-07-15T17:50:00Z", "end": "2026-07-15T18:00:00Z"
    }  # fmt: skip
    assert seen[0].headers["user-agent"] == "ema-assets"


def test_an_unknown_symbol_fails_alone(sandbox: RunningSandbox) -> None:
    unknown = [Instrument("NO-SUCH", ALWAYS_OPEN), Instrument("A:B", ALWAYS_OPEN), STOCKS[0]]
    got = fetch(sandbox.base_url, ask([*unknown, *PAIRS], ONE_BAR), coinbase)
    assert set(got.errors) == {f"{instrument.symbol}|5m" for instrument in unknown}
    assert all(isinstance(error, UnknownSymbol) for error in got.errors.values())
    error = got.errors["NO-SUCH|5m"]
    assert (error.provider, error.symbol) == ("coinbase", "NO-SUCH")
    assert str(error) == "coinbase has no symbol 'NO-SUCH': NotFound"
    assert (len(got.completed), got.calls) == (10, 13)


def test_a_missing_candle_is_left_out_and_a_symbol_without_candles_is_completed(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(MissingSymbol(symbols=["CA-USD"]))
    sandbox.handle.faults.add(LateBar(symbols=["CB-USD"], ts=datetime(2026, 7, 15, 17, 45, tzinfo=UTC)))
    got = fetch(sandbox.base_url, ask(PAIRS[:2], MIDDAY - timedelta(minutes=23)), coinbase)
    bars = [(symbol, f"{ts:%H:%M}") for symbol, ts in got.bars.select("symbol", "ts").rows()]
    assert bars == [("CB-USD", "17:40"), ("CB-USD", "17:50"), ("CB-USD", "17:55")]
    assert len(got.completed) == 2


def test_pages_after_an_empty_one_are_fetched(sandbox: RunningSandbox) -> None:
    """A product may be halted for longer than a page, or be listed after the range begins."""

    def answer(request: Request) -> Response:
        last = datetime.fromisoformat(request.query_params["end"])
        return JSONResponse([candle(int(last.timestamp()))] if last > MIDDAY - timedelta(days=1) else [])

    with vendor(answer) as (base_url, seen):
        got = fetch(base_url, ask([BTC], MIDDAY - timedelta(days=5), ONE_BAR), coinbase)
    spans = [
        datetime.fromisoformat(request.query_params["end"]) - datetime.fromisoformat(request.query_params["start"])
        for request in seen
    ]
    assert spans == [timedelta(minutes=5 * 299)] * 4 + [timedelta(minutes=5 * 236)]
    assert [f"{ts:%d %H:%M}" for ts in got.bars["ts"]] == ["14 22:00", "15 17:45"]


@pytest.mark.parametrize(("empty_answers", "calls", "missing"), [(1, 5 + 1, 0), (2, 5 + 2, 0), (9, 5 + 2, 300)])
def test_an_empty_page_after_candles_is_requested_again_at_most_twice(
    empty_answers: int, calls: int, missing: int
) -> None:
    begin = MIDDAY.replace(hour=0, minute=0) - timedelta(days=5)
    asked: list[str] = []

    def answer(request: Request) -> Response:
        start, end = (int(datetime.fromisoformat(request.query_params[key]).timestamp()) for key in ("start", "end"))
        asked.append(request.query_params["start"])
        is_empty = start == int(begin.timestamp()) + 2 * 300 * 300 and asked.count(asked[-1]) <= empty_answers
        return JSONResponse([] if is_empty else [candle(opened) for opened in range(end, start - 1, -300)])

    with vendor(answer) as (base_url, seen):
        got = fetch(base_url, ask([BTC], begin, begin + timedelta(days=5)), coinbase)
    assert (len(seen), got.bars.height) == (calls, 5 * 288 - missing)


def test_candles_in_any_order_are_sorted_and_returned_once() -> None:
    rows = [candle(at(17, 50), close=1.1), candle(at(17, 45)), candle(at(17, 50), close=1.9), candle(at(17, 30))]
    with vendor(lambda _: JSONResponse(rows)) as (base_url, _):
        got = fetch(base_url, ask([BTC], MIDDAY - timedelta(minutes=23)), coinbase)
    # The newest comes first, so of two with the same time the first one counts. 17:30 was not requested.
    assert [(f"{ts:%H:%M}", close) for ts, close in got.bars.select("ts", "close").rows()] == [
        ("17:45", 1.5),
        ("17:50", 1.1),
    ]


def test_a_ban_ends_the_fetch_after_one_call_and_the_next_fetch_makes_none(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(Refuse(status=418, retry_after_seconds=120))

    async def run() -> None:
        provider = coinbase(sandbox.base_url, limits=HttpLimits(max_concurrency=1))
        got = await collect(provider, ask(PAIRS, ONE_BAR))
        assert isinstance(got.only_error(), Banned)
        assert (len(got.errors), got.calls) == (10, 1)
        again = await collect(provider, ask(PAIRS, ONE_BAR))
        assert (len(again.errors), again.calls) == (10, 0)
        await provider.aclose()

    asyncio.run(run())


def test_calls_wait_for_the_end_of_a_short_rate_limit_and_a_long_one_ends_the_fetch(sandbox: RunningSandbox) -> None:
    number = sandbox.handle.faults.add(RateLimit(retry_after_seconds=0.05, times=1))
    assert fetch(sandbox.base_url, ask(PAIRS, ONE_BAR), coinbase).calls == 11
    sandbox.handle.faults.clear(number)
    sandbox.handle.faults.add(RateLimit(retry_after_seconds=3_600))
    got = fetch(sandbox.base_url, ask(PAIRS, ONE_BAR), coinbase)
    assert all(isinstance(error, RateLimited) for error in got.errors.values())
    assert (len(got.errors), got.calls) == (10, min(10, QUICK.max_concurrency))


def test_a_rate_limit_without_a_stated_pause_is_reported_in_the_vendors_words(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(RateLimit(headers=False))
    got = fetch(sandbox.base_url, ask(PAIRS[:1], ONE_BAR), coinbase)
    assert str(got.only_error()) == "coinbase is rate limiting us (429): Public rate limit exceeded"
    assert got.calls == QUICK.attempts


def test_every_call_is_taken_from_the_shared_budget(sandbox: RunningSandbox) -> None:
    class Counted(NotedBudget):
        taken = 0

        async def take(self) -> None:
            self.taken += 1

    budget = Counted()
    fetch(sandbox.base_url, ask(PAIRS, ONE_BAR), coinbase, budget=budget)
    assert budget.taken == 10


def test_a_process_sends_at_most_half_of_the_calls_per_second_of_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes may share an address. The limit per minute alone would allow all calls at once."""
    client = vendors_coinbase.CoinbaseClient(PROVIDERS["coinbase"], PROVIDERS["coinbase"].config(), HttpOptions())
    assert client._http.limits.requests_per_second == 5

    async def run(clock: Callable[[], float]) -> list[float]:
        client._http._pace = RequestBudget(client._http.limits.requests_per_second, 1.0, clock)
        left: list[float] = []

        async def receive(_call: object) -> tuple[int, dict[str, str], bytes]:
            left.append(clock())
            return 200, {}, b"[]"

        monkeypatch.setattr(client._http, "_receive", receive)
        requests = [
            BarRequest(pair, M5, ONE_BAR, MIDDAY)
            for pair in (*PAIRS, *(Instrument(f"D{n}-USD", ALWAYS_OPEN) for n in range(10)))
        ]
        got = await collect(client, requests)
        assert len(got.completed) == 20
        return left

    left = run_virtually(run)
    assert len(left) == 20
    assert max(sum(begins <= moment < begins + 1 for moment in left) for begins in left) == 5


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{}", "array"),
        ('{"message": "odd"}', "array"),
        ('[{"time": 1}]', "array"),
        ("[[1]]", "length"),
        (json.dumps([candle(at(17, 50), close="1.5")]), "float"),
        (json.dumps([candle(at(17, 50), close=None)]), "float"),
        (json.dumps([candle(at(17, 50))]).replace("1.5", "NaN"), ""),
        (json.dumps([candle(at(17, 50))]).replace("1.5", "1e999"), ""),
        (json.dumps([candle(10**15)]), "int"),
        (json.dumps([candle(-1)]), "int"),
        (json.dumps([["2026-07-15", 1, 2, 1, 2, 3]]), "int"),
        ("[" * 200_000, ""),
    ],
)
def test_a_200_that_is_not_candles_is_malformed_and_the_error_names_provider_and_symbol(body: str, words: str) -> None:
    with vendor(lambda _: Response(body)) as (base_url, seen):
        got = fetch(base_url, ask([BTC], ONE_BAR), coinbase)
    error = got.only_error()
    assert isinstance(error, MalformedAnswer)
    assert (error.provider, error.symbol) == ("coinbase", "BTC-USD")
    assert "coinbase sent an answer for BTC-USD that is not bars" in str(error)
    assert words in str(error)
    assert (len(str(error)) < 400, len(seen), got.bars.height) == (True, 1, 0)


def test_a_refusal_that_is_not_about_the_symbol_is_reported_in_the_vendors_words() -> None:
    with vendor(lambda _: JSONResponse({"message": "Unsupported granularity"}, 400)) as (base_url, _):
        got = fetch(base_url, ask([BTC], ONE_BAR), coinbase)
    assert isinstance(got.only_error(), RequestRefused)
    assert str(got.only_error()) == "coinbase refused the request (400): Unsupported granularity"


def test_an_abandoned_fetch_leaves_no_task_running(sandbox: RunningSandbox) -> None:
    async def run() -> None:
        provider = coinbase(sandbox.base_url)
        parts = provider.fetch(ask(PAIRS, MIDDAY - timedelta(days=9)))
        async for _ in parts:
            break
        await parts.aclose()  # type: ignore[attr-defined]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await provider.aclose()

    asyncio.run(run())


def test_bars_have_the_vendors_values_in_our_columns() -> None:
    rows = [candle(at(17, 50), close=0.00000012, volume=0)]
    with vendor(lambda _: JSONResponse(rows)) as (base_url, _):
        got = fetch(base_url, ask([BTC], ONE_BAR, MIDDAY - timedelta(minutes=8)), coinbase)
    assert got.bars.drop("ts").rows() == [("BTC-USD", "5m", 1.0, 2.0, 0.5, 1.2e-7, 0.0)]
    assert got.bars["ts"].dtype == pl.Datetime("us", "UTC")
