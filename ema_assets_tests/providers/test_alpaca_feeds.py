"""Tests of Alpaca's free plan: SIP for bars older than 16 minutes, IEX for the others, and one answer per request."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ema_assets.model.errors import ProviderUnavailable, Unauthorized
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers.alpaca import PROVIDER
from ema_assets.providers.fetching.base import NO_BARS, BarRequest, FetchBatch, SeriesFailure
from ema_assets.providers.http.budget import HttpLimits
from ema_assets.providers.vendors.alpaca_feeds import DELAY, Parts, begin_of_recent
from ema_assets.sandbox.dialects.alpaca import CRYPTO_BARS_PATH, STOCK_BARS_PATH
from ema_assets.sandbox.server import RunningSandbox
from ema_assets_tests.providers.conftest import MIDDAY, PAIRS, STOCKS, Fetched, ask, assert_exact, fetch, vendor
from ema_assets_tests.timeframes import D1, FETCHED, M5

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
REFUSED = "subscription does not permit querying recent SIP data"


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-07-{text}").replace(tzinfo=UTC)


@pytest.fixture
def free(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> RunningSandbox:
    """The sandbox with the free plan: IEX has a fiftieth of the volume, and SIP lacks the last 15 minutes."""
    monkeypatch.setattr(sandbox.handle, "is_free_plan", True)
    return sandbox


def standing_at(moment: datetime) -> Callable[[], datetime]:
    return lambda: moment


def volumes(got: Fetched, symbol: str) -> dict[str, float]:
    rows = got.bars.filter(symbol=symbol).select("ts", "volume").rows()
    return {f"{ts:%d %H:%M}": volume for ts, volume in rows}


def true_volume(sandbox: RunningSandbox, ts: str, timeframe: Timeframe = M5) -> float:
    opened = int(at(ts).timestamp())
    bars = sandbox.handle.market.bars(STOCKS[0], timeframe.minutes, opened, opened, int(MIDDAY.timestamp()) + 86_400, 1)
    return float(bars.volume[0])


# --- where recent bars begin ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeframe", "now", "end", "recent"),
    [
        # 16 minutes ago it was 17:47: the bar of 17:40 had closed, that of 17:45 had not.
        (M5, "15 18:03", "15 18:00", "15 17:45"),
        (M5, "15 18:06", "15 18:05", "15 17:50"),
        (M5, "15 18:05:59", "15 18:05", "15 17:45"),
        (M5, "15 18:03", "15 17:45", "15 17:45"),
        (M5, "15 18:03", "15 17:40", "15 17:40"),
        (M5, "15 18:03", "15 17:47", "15 17:45"),
        # A session that closed 16 minutes ago is completely in SIP, although its day is not over.
        (D1, "15 20:16", "15 20:00", "15 20:00"),
        # One second earlier its bar, whose time is midnight, is still too recent.
        (D1, "15 20:15:59", "15 20:00", "14 19:59:59"),
    ],
)
def test_recent_bars_begin_with_the_first_that_had_not_closed_16_minutes_ago(
    timeframe: Timeframe, now: str, end: str, recent: str
) -> None:
    request = BarRequest(STOCKS[0], timeframe, at("01 00:00"), at(end))
    assert begin_of_recent(request, at(now)) == at(recent)


@given(
    begins=st.timedeltas(timedelta(0), timedelta(days=3)),
    length=st.timedeltas(timedelta(seconds=1), timedelta(days=3)),
    timeframe=st.sampled_from(FETCHED),
)
def test_parts_cover_the_request_without_gap_or_overlap_and_sip_ends_before_the_delay(
    begins: timedelta, length: timedelta, timeframe: Timeframe
) -> None:
    start = MIDDAY - begins
    request = BarRequest(STOCKS[0], timeframe, start, min(start + length, MIDDAY))
    parts = Parts([request], "iex", MIDDAY)
    old, recent = parts.by_feed["sip"], parts.by_feed["iex"]
    assert min(each.start for each in old + recent) == request.start
    assert max(each.end for each in old + recent) == request.end
    if old and recent:
        assert old[0].end == recent[0].start
        assert request.start < old[0].end < request.end
    assert all(each.end <= MIDDAY - DELAY for each in old)


# --- parts of requests ------------------------------------------------------------------------------------------------

ERROR, OTHER = ProviderUnavailable("down", provider="alpaca"), ProviderUnavailable("out", provider="alpaca")


def both(requests: list[BarRequest]) -> tuple[Parts, list[BarRequest], list[BarRequest]]:
    parts = Parts(requests, "iex", MIDDAY)
    return parts, parts.by_feed["sip"], parts.by_feed["iex"]


def test_a_request_is_completed_with_its_last_part_in_either_order() -> None:
    request = BarRequest(STOCKS[0], M5, MIDDAY - HOUR, MIDDAY)
    for first in (0, 1):
        parts, *asked = both([request])
        assert parts.joined(FetchBatch(NO_BARS, tuple(asked[first]), ())).completed == ()
        assert parts.joined(FetchBatch(NO_BARS, tuple(asked[1 - first]), ())).completed == (request,)


def test_equal_requests_are_answered_once_each() -> None:
    request = BarRequest(STOCKS[0], M5, MIDDAY - HOUR, MIDDAY)
    parts, old, recent = both([request, request])
    assert parts.joined(FetchBatch(NO_BARS, (*old, *recent), ())).completed == (request, request)


def test_a_request_fails_once_with_its_first_failure() -> None:
    request = BarRequest(STOCKS[0], M5, MIDDAY - HOUR, MIDDAY)
    parts, (old,), (recent,) = both([request])
    assert parts.joined(FetchBatch(NO_BARS, (old,), ())).completed == ()
    failed = parts.joined(FetchBatch(NO_BARS, (), (SeriesFailure(recent, ERROR),)))
    assert failed.failures == (SeriesFailure(request, ERROR),)
    parts, (old,), (recent,) = both([request])
    first = parts.joined(FetchBatch(NO_BARS, (), (SeriesFailure(old, ERROR), SeriesFailure(recent, OTHER))))
    assert first.failures == (SeriesFailure(request, ERROR),)
    parts, (old,), (recent,) = both([request])
    parts.joined(FetchBatch(NO_BARS, (), (SeriesFailure(old, ERROR),)))
    second = parts.joined(FetchBatch(NO_BARS, (recent,), ()))
    assert (second.completed, second.failures, second.bars.height) == ((), (), 0)


def test_requests_are_not_divided_if_one_feed_has_all_bars() -> None:
    request = BarRequest(STOCKS[0], M5, MIDDAY - HOUR, MIDDAY)
    parts = Parts([request], "iex", None)
    assert parts.by_feed == {"sip": [], "iex": [request]}
    assert parts.by_feed["iex"][0] is request


# --- with the free plan -----------------------------------------------------------------------------------------------


def test_history_has_the_volume_of_all_exchanges_and_recent_bars_that_of_one(free: RunningSandbox) -> None:
    got = fetch(free.base_url, ask(STOCKS[:1], MIDDAY - timedelta(minutes=33)), history_feed="sip")
    assert volumes(got, STOCKS[0].symbol) == {
        "15 17:30": true_volume(free, "15 17:30"),
        "15 17:35": true_volume(free, "15 17:35"),
        "15 17:40": true_volume(free, "15 17:40"),
        "15 17:45": true_volume(free, "15 17:45") // 50,
        "15 17:50": true_volume(free, "15 17:50") // 50,
        "15 17:55": true_volume(free, "15 17:55") // 50,
    }
    assert (got.calls, len(got.completed), free.handle.stats.by_status) == (2, 1, {"200": 2})


def test_a_tick_of_a_hundred_symbols_takes_three_calls(free: RunningSandbox) -> None:
    requests = ask([*STOCKS, *PAIRS], MIDDAY - timedelta(minutes=28))
    got = fetch(free.base_url, requests, history_feed="sip")
    assert free.handle.stats.by_path == {STOCK_BARS_PATH: 2, CRYPTO_BARS_PATH: 1}
    assert (got.bars.height, len(got.completed)) == (500, 100)
    assert_exact(free, requests[90:], got.bars)


def test_a_range_without_recent_bars_is_one_call_to_sip(free: RunningSandbox) -> None:
    requests = ask(STOCKS[:3], MIDDAY - DAY, MIDDAY - HOUR)
    got = fetch(free.base_url, requests, history_feed="sip")
    assert_exact(free, requests, got.bars)
    assert got.calls == 1


def test_the_newest_day_comes_from_iex_until_16_minutes_after_its_session(free: RunningSandbox) -> None:
    closed, days = at("15 20:00"), {}
    for minutes in (0, 16):
        free.handle.clock = standing_at(closed + minutes * MINUTE)
        requests = ask(STOCKS[:1], at("13 00:00"), closed, D1)
        got = fetch(free.base_url, requests, history_feed="sip", clock=free.handle.clock)
        days[minutes] = volumes(got, STOCKS[0].symbol)
    free.handle.clock = standing_at(MIDDAY)
    whole = {label: true_volume(free, label, D1) for label in ("13 04:00", "14 04:00", "15 04:00")}
    assert days == {0: {**whole, "15 04:00": whole["15 04:00"] // 50}, 16: whole}


@pytest.mark.broad
@pytest.mark.parametrize("every_minutes", [5, 7, 35])
def test_every_bar_from_iex_is_requested_again_from_sip(free: RunningSandbox, every_minutes: int) -> None:
    """This holds for any time between requests: each begins one settling time before the end of the last one."""
    stored: dict[str, float] = {}
    now, asked_through = at("15 15:00:03"), at("15 13:30")
    while now < at("15 18:00"):
        free.handle.clock = standing_at(now)
        end = now.replace(second=0) - timedelta(minutes=now.minute % 5)
        start = max(asked_through - PROVIDER.settling_time, at("15 13:30"))
        got = fetch(free.base_url, ask(STOCKS[:1], start, end), history_feed="sip", clock=free.handle.clock)
        stored |= volumes(got, STOCKS[0].symbol)
        now, asked_through = now + every_minutes * MINUTE, end
    free.handle.clock = standing_at(MIDDAY)
    settled = {label: volume for label, volume in stored.items() if at(label) + 5 * MINUTE + DELAY < asked_through}
    assert len(settled) >= 40
    assert settled == {label: true_volume(free, label) for label in settled}


def test_a_configured_sip_feed_is_used_for_all_bars_and_its_refusal_is_an_error(free: RunningSandbox) -> None:
    got = fetch(free.base_url, ask(STOCKS[:2], MIDDAY - HOUR), feed="sip", history_feed="sip")
    assert isinstance(got.only_error(), Unauthorized)
    assert f"does not include recent bars of the 'sip' feed ({REFUSED})" in str(got.only_error())
    assert (len(got.errors), got.calls) == (2, 1)


def test_a_delayed_feed_reports_up_to_when_it_is_complete(free: RunningSandbox) -> None:
    stocks, pairs = ask(STOCKS[:2], MIDDAY - HOUR), ask(PAIRS[:1], MIDDAY - HOUR)
    got = fetch(free.base_url, [*stocks, *pairs], feed="delayed_sip", history_feed="sip")
    assert got.complete_through == dict.fromkeys(stocks, MIDDAY - 15 * MINUTE)
    assert len(got.completed) == 3
    for feed in ("iex", "sip"):
        assert fetch(free.base_url, pairs, feed=feed, history_feed="sip").complete_through == {}


# --- a plan without SIP -----------------------------------------------------------------------------------------------


def iex_only(request: Request) -> Response:
    if request.query_params["feed"] == "sip":
        return JSONResponse({"message": REFUSED}, 403)
    bars = {
        symbol: [{"t": request.query_params["start"], "o": 1, "h": 2, "l": 1, "c": 2, "v": 3}]
        for symbol in request.query_params["symbols"].split(",")
    }
    return JSONResponse({"bars": bars, "next_page_token": None})


GIVEN_UP = (
    f"alpaca: the plan of this key does not include what was requested from SIP ({REFUSED}); all bars come from the feed iex "
    "now"
)
MAY_BE_AHEAD = (
    f"alpaca: the plan of this key does not include what was requested from SIP ({REFUSED}), though it is older than 16 "
    "minutes by this machine's clock: if that is not ahead, the plan has no SIP at all; bars of the last day come from "
    "the feed iex now"
)


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("back", [HOUR, 3 * DAY])
def test_a_plan_that_refuses_sip_gets_all_bars_from_iex_and_each_warning_once(
    concurrency: int, back: timedelta, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    limits = HttpLimits(max_concurrency=concurrency, requests_per_minute=1_000)
    with vendor(iex_only) as (base_url, seen):
        got = fetch(base_url, ask(STOCKS[:20], MIDDAY - back), limits=limits, history_feed="sip", symbols_per_call=5)
    assert (len(got.completed), got.errors) == (20, {})
    is_long = back > DAY
    assert set(got.bars["ts"].to_list()) == {MIDDAY - back, at("15 17:45")} | ({at("14 18:00")} if is_long else set())
    feeds = [request.query_params["feed"] for request in seen]
    if concurrency == 1:
        assert (feeds.count("iex"), feeds.count("sip")) == ((9, 2) if is_long else (8, 1))
    assert len(feeds) <= 20
    assert [record.getMessage() for record in caplog.records] == [MAY_BE_AHEAD, GIVEN_UP][: 1 + is_long]


def test_with_a_clock_that_is_ahead_only_the_last_day_comes_from_iex(
    free: RunningSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    ahead = MIDDAY + 10 * MINUTE
    requests = [*ask(STOCKS[:1], MIDDAY - 3 * DAY, ahead), *ask(STOCKS[:1], at("08 04:00"), at("15 04:00"), D1)]
    got = fetch(free.base_url, requests, history_feed="sip", clock=lambda: ahead)
    assert (len(got.completed), got.errors) == (2, {})
    assert [record.getMessage() for record in caplog.records] == [MAY_BE_AHEAD]
    stored = volumes(Fetched(**{**vars(got), "bars": got.bars.filter(timeframe="5m")}), STOCKS[0].symbol)
    assert all(stored[label] == true_volume(free, label) for label in ("13 13:30", "14 18:05"))
    assert all(stored[label] == true_volume(free, label) // 50 for label in ("14 18:10", "15 17:30", "15 17:55"))
    days = got.bars.filter(timeframe="1d")
    assert days.height == 5


def test_a_wrong_key_is_not_mistaken_for_a_plan_without_sip_and_takes_one_call() -> None:
    limits = HttpLimits(max_concurrency=1)
    with vendor(lambda _: JSONResponse({"message": "forbidden."}, 403)) as (base_url, seen):
        got = fetch(base_url, ask(STOCKS[:2], MIDDAY - HOUR), limits=limits, history_feed="sip")
    assert isinstance(got.only_error(), Unauthorized)
    assert (len(got.errors), len(seen)) == (2, 1)


def test_a_failed_part_fails_its_request_and_no_other(free: RunningSandbox) -> None:
    def answer(request: Request) -> Response:
        return JSONResponse({}, 500) if request.query_params["feed"] == "sip" else iex_only(request)

    with vendor(answer) as (base_url, _):
        requests = [*ask(STOCKS[:1], MIDDAY - HOUR), *ask(STOCKS[1:2], MIDDAY - timedelta(minutes=13))]
        got = fetch(base_url, requests, history_feed="sip")
    assert isinstance(got.only_error(), ProviderUnavailable)
    assert list(got.errors) == [f"{STOCKS[0].symbol}|5m"]
    assert got.completed == requests[1:]


# --- the sandbox's free plan ------------------------------------------------------------------------------------------


def test_the_sandbox_serves_the_best_feed_of_the_plan_if_none_is_requested(free: RunningSandbox) -> None:
    def volume(end: str, **feed: str) -> float:
        params = {"symbols": STOCKS[0].symbol, "timeframe": "5Min", "start": "2026-07-15T17:30:00Z", "end": end, **feed}
        return float(
            httpx.get(f"{free.base_url}{STOCK_BARS_PATH}", params=params, trust_env=False).json()["bars"][
                STOCKS[0].symbol
            ][0]["v"]
        )

    whole = true_volume(free, "15 17:30")
    assert volume("2026-07-15T17:48:00Z") == whole
    assert volume("2026-07-15T17:48:01Z") == whole // 50
    assert volume("2026-07-15T17:48:00Z", feed="iex") == whole // 50
    assert volume("2026-07-15T17:48:00Z", feed="sip") == whole
    # Without an end, SIP ends where the plan allows it.
    assert volume("", feed="sip") == whole


def test_bars_of_both_feeds_are_joined_without_duplicates(free: RunningSandbox) -> None:
    got = fetch(free.base_url, ask(STOCKS[:3], MIDDAY - DAY), history_feed="sip")
    keys = got.bars.select("symbol", "ts")
    assert keys.is_unique().all()
    assert set(got.bars["symbol"]) == {each.symbol for each in STOCKS[:3]}
    assert got.bars.filter(pl.col("ts") >= at("15 17:45")).height == 9
