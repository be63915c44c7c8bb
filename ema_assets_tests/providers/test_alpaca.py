"""Tests of the Alpaca client with the sandbox: every bar in few calls, and a typed outcome of each fault."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta, timezone

import pytest

from ema_assets.config.settings import Settings
from ema_assets.model.errors import (
    MalformedAnswer,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
    Unauthorized,
    UnknownSymbol,
)
from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers.fetching.base import BarRequest, ProviderClient
from ema_assets.providers.http.budget import HttpLimits
from ema_assets.providers.registry import PROVIDERS
from ema_assets.refresh.clients import open_provider
from ema_assets.sandbox.dialects.alpaca import CRYPTO_BARS_PATH, STOCK_BARS_PATH
from ema_assets.sandbox.faults import CutBody, Delay, LateBar, MissingSymbol, RateLimit, Refuse, ServerError
from ema_assets.sandbox.server import RunningSandbox, running_sandbox
from ema_assets_tests.providers.conftest import (
    MIDDAY,
    PAIRS,
    QUICK,
    STOCKS,
    NotedBudget,
    alpaca,
    ask,
    assert_exact,
    collect,
    fetch,
)
from ema_assets_tests.timeframes import D1, M5, M30, ORDER

ONE_BAR = MIDDAY - timedelta(minutes=13)
ONE_DAY = MIDDAY - timedelta(days=1)


def test_the_default_client_is_the_sandbox_and_has_made_no_calls(sandbox: RunningSandbox) -> None:
    provider: ProviderClient = open_provider(Settings.from_env({"EMA_SANDBOX_URL": sandbox.base_url}))
    assert (provider.name, PROVIDERS[provider.name].is_synthetic, provider.calls) == ("sandbox", True, 0)
    asyncio.run(provider.aclose())


def test_a_tick_of_a_hundred_symbols_takes_two_calls(sandbox: RunningSandbox) -> None:
    requests = ask([*STOCKS, *PAIRS], ONE_BAR)
    got = fetch(sandbox.base_url, requests)
    assert got.calls == 2
    assert sandbox.handle.stats.by_path == {STOCK_BARS_PATH: 1, CRYPTO_BARS_PATH: 1}
    assert got.bars.height == 200
    assert_exact(sandbox, requests, got.bars)


@pytest.mark.broad
@pytest.mark.parametrize("page_limit", [7, 100, 10_000])
def test_pages_of_any_size_give_every_bar_once(sandbox: RunningSandbox, page_limit: int) -> None:
    requests = ask([*STOCKS[:5], *PAIRS[:2]], ONE_DAY)
    got = fetch(sandbox.base_url, requests, page_limit=page_limit)
    assert_exact(sandbox, requests, got.bars)
    assert all(batch.bars.height <= page_limit for batch in got.batches)
    # 5 stocks with 79 bars and 2 pairs with 288: not more calls than full pages, plus one last page per call.
    calls = {7: 150, 100: 14, 10_000: 2}[page_limit]
    assert got.calls <= calls


def test_a_symbol_is_completed_when_a_later_one_appears_and_not_before(sandbox: RunningSandbox) -> None:
    """A completed request may be stored as complete, so its last bar must have been returned before."""
    requests = ask(STOCKS[:4], ONE_DAY)
    whole = fetch(sandbox.base_url, requests).bars.group_by("symbol").len()
    got = fetch(sandbox.base_url, requests, page_limit=50)
    heights: dict[str, int] = {}
    for batch in got.batches:
        for symbol, height in batch.bars.group_by("symbol").len().iter_rows():
            heights[symbol] = heights.get(symbol, 0) + height
        for request in batch.completed:
            assert heights[request.instrument.symbol] == whole.filter(symbol=request.instrument.symbol)["len"].item()
    assert len({id(batch) for batch in got.batches if batch.completed}) > 1, "completion is not left to the end"


def test_daily_bars_keep_the_midnight_of_the_vendor_as_time(sandbox: RunningSandbox) -> None:
    start, end = datetime(2026, 3, 5, tzinfo=UTC), datetime(2026, 3, 11, tzinfo=UTC)
    requests = ask([STOCKS[0], PAIRS[0]], start, end, D1)
    got = fetch(sandbox.base_url, requests)
    by_symbol = {symbol[0]: [f"{ts:%d %H}" for ts in frame["ts"]] for symbol, frame in got.bars.group_by(["symbol"])}
    assert by_symbol == {
        STOCKS[0].symbol: ["05 05", "06 05", "09 04", "10 04"],
        PAIRS[0].symbol: ["05 00", "06 00", "07 00", "08 00", "09 00", "10 00"],
    }


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-4))])
def test_a_range_is_half_open_and_may_be_in_any_zone(sandbox: RunningSandbox, zone: timezone) -> None:
    start = datetime(2026, 7, 15, 14, 0, tzinfo=UTC).astimezone(zone)
    got = fetch(sandbox.base_url, ask(STOCKS[:1], start, start + timedelta(minutes=15)))
    assert [f"{ts:%H:%M}" for ts in got.bars["ts"]] == ["14:00", "14:05", "14:10"]


def test_each_request_gets_its_own_range_although_calls_are_shared(sandbox: RunningSandbox) -> None:
    requests = [
        BarRequest(instrument, M5, MIDDAY - timedelta(minutes=20 + 10 * i), MIDDAY - timedelta(minutes=i))
        for i, instrument in enumerate(STOCKS[:20])
    ]
    got = fetch(sandbox.base_url, requests)
    assert got.calls == 1
    assert_exact(sandbox, requests, got.bars)


def test_one_long_backfill_gets_a_separate_call(sandbox: RunningSandbox) -> None:
    requests = ask(STOCKS[1:], ONE_BAR) + ask(STOCKS[:1], MIDDAY - timedelta(days=60))
    got = fetch(sandbox.base_url, requests)
    assert got.calls == 2
    assert_exact(sandbox, requests, got.bars)


def test_two_ranges_of_one_symbol_and_a_repeated_request_are_all_completed(sandbox: RunningSandbox) -> None:
    early = BarRequest(STOCKS[0], M5, ONE_DAY, ONE_DAY + timedelta(minutes=15))
    late = BarRequest(STOCKS[0], M5, ONE_BAR, MIDDAY)
    got = fetch(sandbox.base_url, [early, late, late])
    assert len(got.completed) == 3
    assert got.bars.height == 5


def test_empty_fetches_and_empty_ranges_make_no_call(sandbox: RunningSandbox) -> None:
    assert fetch(sandbox.base_url, []).batches == []
    got = fetch(sandbox.base_url, ask(STOCKS[:2], MIDDAY, MIDDAY))
    assert (len(got.completed), got.calls) == (2, 0)


def test_a_symbol_that_did_not_trade_is_completed_without_bars(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(MissingSymbol(symbols=[STOCKS[1].symbol]))
    got = fetch(sandbox.base_url, ask([*STOCKS[:3], Instrument("NOSUCH")], ONE_BAR))
    assert len(got.completed) == 4
    assert set(got.bars["symbol"]) == {STOCKS[0].symbol, STOCKS[2].symbol}


def test_a_late_bar_is_not_returned_yet(sandbox: RunningSandbox) -> None:
    newest = datetime(2026, 7, 15, 17, 55, tzinfo=UTC)
    sandbox.handle.faults.add(LateBar(symbols=[STOCKS[0].symbol], ts=newest))
    got = fetch(sandbox.base_url, ask(STOCKS[:2], newest))
    assert got.bars["symbol"].to_list() == [STOCKS[1].symbol]


def test_a_malformed_symbol_fails_alone_and_the_others_are_requested_again(sandbox: RunningSandbox) -> None:
    wrong = [Instrument("BRK-B"), Instrument("a.b"), Instrument("^GSPC")]
    got = fetch(sandbox.base_url, ask([*STOCKS, *wrong], ONE_BAR))
    assert set(got.errors) == {f"{instrument.symbol}|5m" for instrument in wrong}
    error = got.errors["BRK-B|5m"]
    assert isinstance(error, UnknownSymbol)
    assert (error.symbol, error.provider) == ("BRK-B", "alpaca")
    assert "BRK.B" in str(error)
    assert got.bars["symbol"].n_unique() == 90
    assert got.calls == 4


def test_a_symbol_that_the_refusal_of_a_call_does_not_name_fails_alone(sandbox: RunningSandbox) -> None:
    poison = {STOCKS[17].symbol, STOCKS[71].symbol}
    for symbol in poison:
        sandbox.handle.faults.add(Refuse(status=422, symbols=[symbol]))
    got = fetch(sandbox.base_url, ask([*STOCKS, *PAIRS], ONE_BAR))
    assert set(got.errors) == {f"{symbol}|5m" for symbol in poison}
    assert all(isinstance(error, RequestRefused) for error in got.errors.values())
    assert len(got.completed) == 98
    assert got.calls <= 2 + 2 * 14


def test_a_vendor_that_refuses_every_call_is_not_called_for_each_symbol(
    sandbox: RunningSandbox,
) -> None:
    sandbox.handle.faults.add(Refuse(status=422))
    got = fetch(sandbox.base_url, ask(STOCKS, ONE_BAR))
    assert len(got.errors) == len(STOCKS) == 90
    assert got.calls == 1 + 2 * 16


def test_a_pair_without_a_slash_fails_alone(sandbox: RunningSandbox) -> None:
    got = fetch(sandbox.base_url, ask([*PAIRS, Instrument("BTCUSD", ALWAYS_OPEN)], ONE_BAR))
    assert isinstance(got.errors["BTCUSD|5m"], UnknownSymbol)
    assert len(got.completed) == 10


@pytest.mark.parametrize("keys", [(None, None), ("id", "wrong")])
def test_a_refused_key_takes_one_call_per_endpoint_and_is_not_retried(keys: tuple[str | None, str | None]) -> None:
    with running_sandbox([*STOCKS, *PAIRS], clock=lambda: MIDDAY, required_keys=("id", "right")) as locked:

        async def run() -> None:
            provider = alpaca(locked.base_url, *keys, limits=HttpLimits(max_concurrency=1))
            got = await collect(provider, ask([*STOCKS, *PAIRS], ONE_DAY) + ask(STOCKS, ONE_DAY, timeframe=D1))
            assert len(got.errors) == 190
            assert all(isinstance(error, Unauthorized) for error in got.errors.values())
            assert got.calls == 2
            await provider.aclose()

        asyncio.run(run())


def test_a_call_waits_for_the_end_of_a_short_rate_limit(
    sandbox: RunningSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """The call itself waits, and the budget makes all other calls wait."""
    sandbox.handle.faults.add(RateLimit(retry_after_seconds=0.3, times=1))
    budget = NotedBudget()
    got = fetch(sandbox.base_url, ask(STOCKS, ONE_BAR), budget=budget)
    assert (len(got.completed), got.calls) == (90, 2)
    assert budget.pauses == [0.3]
    assert "trying again in 0.3 seconds" in caplog.text


def test_a_long_rate_limit_ends_the_fetch_and_the_error_has_its_length(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(RateLimit(retry_after_seconds=3_600))
    got = fetch(sandbox.base_url, ask([*STOCKS, *PAIRS], ONE_BAR))
    for error in got.errors.values():
        assert isinstance(error, RateLimited)
        assert error.retry_after_seconds == 3_600
    assert (len(got.errors), got.calls) == (100, 2)


def test_a_rate_limit_without_a_stated_pause_is_retried_a_few_times(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(RateLimit(headers=False))
    got = fetch(sandbox.base_url, ask(STOCKS, ONE_BAR))
    error = got.only_error()
    assert isinstance(error, RateLimited)
    assert error.retry_after_seconds is None
    assert got.calls == QUICK.attempts


def test_temporary_server_errors_are_retried(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(ServerError(times=2))
    got = fetch(sandbox.base_url, ask(STOCKS, ONE_BAR))
    assert (len(got.completed), got.calls) == (90, 3)


def test_lasting_server_errors_of_one_endpoint_do_not_affect_the_other(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(ServerError(status=502, symbols=[pair.symbol.replace("-", "/") for pair in PAIRS]))
    got = fetch(sandbox.base_url, ask([*STOCKS, *PAIRS], ONE_BAR))
    assert {str(request.series) for request in got.completed} == {f"{i.symbol}|5m" for i in STOCKS}
    assert set(got.errors) == {f"{i.symbol}|5m" for i in PAIRS}
    assert all(isinstance(error, ProviderUnavailable) and "502" in str(error) for error in got.errors.values())
    # All pairs together, and two of them alone, twice each.
    assert got.calls == 1 + QUICK.attempts + 2 * 2


def test_a_server_error_about_one_symbol_does_not_affect_the_others_of_its_call(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(ServerError(symbols=["CA/USD"]))
    got = fetch(sandbox.base_url, ask([*STOCKS, *PAIRS], ONE_BAR))
    assert list(got.errors) == ["CA-USD|5m"]
    assert len(got.completed) == len(STOCKS) + len(PAIRS) - 1


def test_a_request_with_a_cut_answer_is_retried(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(CutBody(times=1))
    got = fetch(sandbox.base_url, ask(STOCKS, ONE_BAR))
    assert (len(got.completed), got.calls) == (90, 2)


def test_answers_that_are_always_cut_end_in_a_malformed_answer(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(CutBody())
    got = fetch(sandbox.base_url, ask(STOCKS, ONE_BAR))
    assert isinstance(got.only_error(), MalformedAnswer)
    assert "cut its answer off" in str(got.only_error())
    assert got.calls == QUICK.attempts


def test_a_missing_answer_is_a_timeout(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(Delay(seconds=1.5, times=2))
    hasty = HttpLimits(answer_timeout_seconds=0.2, attempts=2, backoff_seconds=0.01)
    got = fetch(sandbox.base_url, ask(STOCKS, ONE_BAR), limits=hasty)
    assert isinstance(got.only_error(), ProviderUnavailable)
    assert "0.2 seconds" in str(got.only_error())
    assert got.calls == 2


def test_an_unreachable_vendor_ends_the_fetch_after_few_tries() -> None:
    """At most eight connections try four times each, although sixty calls would be needed."""
    with running_sandbox([]) as gone:
        base_url = gone.base_url
    requests = ask([Instrument(f"X{i}") for i in range(600)], MIDDAY - timedelta(days=60))
    got = fetch(base_url, requests, symbols_per_call=10)
    assert len(got.errors) == 600
    for error in got.errors.values():
        assert isinstance(error, ProviderUnavailable)
        assert "cannot be reached at 127.0.0.1" in str(error)
    assert got.calls <= QUICK.max_concurrency * QUICK.attempts


def test_the_budget_delays_calls_over_the_limit(sandbox: RunningSandbox) -> None:
    async def run() -> None:
        provider = alpaca(sandbox.base_url, limits=HttpLimits(requests_per_minute=3))
        for _ in range(3):
            await collect(provider, ask(STOCKS, ONE_BAR))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(collect(provider, ask(STOCKS, ONE_BAR)), 0.3)
        assert provider.calls == 3
        await provider.aclose()

    asyncio.run(run())


def test_an_abandoned_fetch_leaves_no_task_running(sandbox: RunningSandbox) -> None:
    async def run() -> None:
        provider = alpaca(sandbox.base_url, limits=QUICK, page_limit=10)
        parts = provider.fetch(ask(STOCKS[:20], ONE_DAY))
        async for _ in parts:
            break
        await parts.aclose()  # type: ignore[attr-defined]
        # No task is left that could make another call.
        assert asyncio.all_tasks() == {asyncio.current_task()}
        # Each of the calls that are under way gets the eight pages of its first symbol; all would be 160.
        assert provider.calls < 80, "a reader that stops holds the calls back"
        await provider.aclose()

    asyncio.run(run())


@pytest.mark.parametrize("timeframe", [t for t in ORDER if not t.is_fetched and t is not M30])
def test_a_request_for_a_rolled_up_timeframe_raises_a_value_error(
    sandbox: RunningSandbox, timeframe: Timeframe
) -> None:
    with pytest.raises(ValueError, match=timeframe.key):
        fetch(sandbox.base_url, ask(STOCKS[:1], ONE_BAR, timeframe=timeframe))


def test_a_request_with_naive_times_raises_a_value_error(sandbox: RunningSandbox) -> None:
    with pytest.raises(ValueError, match="time zone"):
        fetch(sandbox.base_url, ask(STOCKS[:1], ONE_BAR.replace(tzinfo=None)))


def test_keys_are_in_no_repr_and_no_log(sandbox: RunningSandbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sandbox.handle.faults.add(ServerError(times=1))
    got = fetch(sandbox.base_url, ask([*STOCKS[:1], Instrument("B-D")], ONE_BAR))
    provider = alpaca(sandbox.base_url, "the-key-id", "the-secret")
    seen = caplog.text + repr(provider) + str(vars(provider)) + "".join(map(repr, got.errors.values()))
    assert "the-key-id" not in seen
    assert "the-secret" not in seen
    asyncio.run(provider.aclose())
