"""Tests of the Yahoo client, with the sandbox, which imitates Yahoo's special answers, and with invalid answers."""

import asyncio
import copy
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import polars as pl
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ema_assets.config.settings import Settings
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.model.errors import Banned, MalformedAnswer, RequestRefused, UnknownSymbol
from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers.fetching.base import ProviderClient
from ema_assets.providers.http.budget import HttpLimits
from ema_assets.providers.http.refusals import AccessRefused
from ema_assets.providers.http.source import HttpOptions
from ema_assets.providers.registry import PROVIDERS
from ema_assets.providers.vendors.yahoo import YahooClient
from ema_assets.providers.yahoo import YahooConfig
from ema_assets.refresh.clients import open_provider
from ema_assets.sandbox.dialects.yahoo import CHART_PATH
from ema_assets.sandbox.faults import (
    CorporateAction,
    CorrectedBar,
    CutBody,
    LateBar,
    MissingSymbol,
    RateLimit,
    Refuse,
    ServerError,
    Split,
)
from ema_assets.sandbox.server import RunningSandbox, running_sandbox
from ema_assets_tests.providers.conftest import (
    MIDDAY,
    PAIRS,
    QUICK,
    STOCKS,
    Fetched,
    ask,
    assert_exact,
    collect,
    fetch,
    vendor,
    yahoo,
)
from ema_assets_tests.timeframes import D1, M5

ONE_BAR = MIDDAY - timedelta(minutes=13)
ONE_DAY = MIDDAY - timedelta(days=1)
AAPL = Instrument("AAPL")
AFTER_CLOSE = datetime(2026, 7, 15, 20, 0, 3, tzinfo=UTC)


def at(hour: int, minute: int, second: int = 0, day: int = 15) -> int:
    return int(datetime(2026, 7, day, hour, minute, second, tzinfo=UTC).timestamp())


def chart(stamps: list[int], closes: list[float | None] | None = None, **meta: Any) -> dict[str, Any]:
    """Return an answer for AAPL. Open, high and low are derived from the close."""
    closes = [float(n) for n in range(1, len(stamps) + 1)] if closes is None else closes
    values = [(c, c + 1, c - 0.5, c, 10) if c is not None else (None,) * 5 for c in closes]
    names = ("open", "high", "low", "close", "volume")
    return {
        "chart": {
            "result": [
                {
                    "meta": {"symbol": "AAPL", "currency": "USD", **meta},
                    "timestamp": stamps,
                    "indicators": {"quote": [dict(zip(names, map(list, zip(*values, strict=True)), strict=True))]},
                }
            ],
            "error": None,
        }
    }


def answered(
    body: Any,
    start: datetime = ONE_BAR,
    end: datetime = MIDDAY,
    timeframe: Timeframe = M5,
    now: datetime = MIDDAY,
    calendar: str = "XNYS",
) -> Fetched:
    """Fetch AAPL, as if it traded on `calendar`, from a vendor that answers every request with `body`."""
    with vendor(lambda _: JSONResponse(body)) as (base_url, seen):
        asked = ask([Instrument("AAPL", calendar)], start, end, timeframe)
        got = fetch(base_url, asked, yahoo, clock=lambda: now)
        assert len(seen) <= 1
    return got


def clocks(bars: pl.DataFrame) -> list[str]:
    return [f"{ts:%H:%M}" for ts in bars["ts"]]


# --- the sandbox ------------------------------------------------------------------------------------------------------


def test_a_new_client_has_a_name_and_a_repr_and_has_made_no_calls() -> None:
    provider: ProviderClient = open_provider(Settings.from_env({}), "yahoo")
    assert (provider.name, PROVIDERS[provider.name].is_synthetic, provider.calls) == ("yahoo", False, 0)
    assert repr(provider) == "YahooClient(name='yahoo', host='query1.finance.yahoo.com')"
    asyncio.run(provider.aclose())


def test_a_tick_takes_one_call_per_symbol_and_leaves_out_the_live_tick_and_the_forming_bar(
    sandbox: RunningSandbox,
) -> None:
    requests = ask([*STOCKS[:20], *PAIRS], ONE_BAR, MIDDAY + timedelta(hours=1))
    got = fetch(sandbox.base_url, requests, yahoo)
    assert sandbox.handle.stats.by_path == {CHART_PATH: 30}
    assert got.bars.height == 60
    # Yahoo's volumes are whole numbers.
    assert_exact(sandbox, requests, got.bars, tolerance=1)


def test_daily_bars_have_the_open_of_their_session_as_time_and_leave_out_today(sandbox: RunningSandbox) -> None:
    start = datetime(2026, 3, 3, tzinfo=UTC)
    got = fetch(sandbox.base_url, ask([STOCKS[0], PAIRS[0]], start, timeframe=D1), yahoo)
    stock = got.bars.filter(symbol=STOCKS[0].symbol)
    sessions = exchange_sessions("XNYS", date(2026, 3, 3), date(2026, 7, 14))
    assert stock["ts"].to_list() == sessions["open"].to_list()
    pair = got.bars.filter(symbol=PAIRS[0].symbol)["ts"]
    assert (pair.len(), pair[0], pair[-1]) == (134, start, datetime(2026, 7, 14, tzinfo=UTC))


@pytest.mark.parametrize("minutes", [0, 1, 60, 11 * 60, 14 * 60, 19 * 60])
def test_a_closed_day_is_included_at_once_with_either_label(minutes: int) -> None:
    """For some hours after the close the vendor labels the day with its last trade, later with its open."""
    now = AFTER_CLOSE + timedelta(minutes=minutes)
    with running_sandbox(STOCKS[:1], clock=lambda: now) as closed:
        start, end = MIDDAY - timedelta(days=5), MIDDAY.replace(hour=20, minute=0)
        got = fetch(closed.base_url, ask(STOCKS[:1], start, end, D1), yahoo, clock=lambda: now)
    assert [f"{ts:%d %H:%M}" for ts in got.bars["ts"]] == ["13 13:30", "14 13:30", "15 13:30"]


def test_intraday_bars_reach_back_as_far_as_the_vendor_has_them(sandbox: RunningSandbox) -> None:
    start = (MIDDAY - timedelta(days=90)).replace(hour=0, minute=0)
    got = fetch(sandbox.base_url, ask(STOCKS[:1], start), yahoo)
    assert (len(got.completed), got.calls) == (1, 1)
    assert got.bars["ts"][0] == datetime(2026, 5, 18, 13, 30, tzinfo=UTC)
    assert_exact(
        sandbox,
        ask(STOCKS[:1], MIDDAY - timedelta(days=59)),
        got.bars.filter(pl.col("ts") > MIDDAY - timedelta(days=59)),
    )


def test_a_range_before_the_reach_of_the_vendor_is_completed_without_a_call(sandbox: RunningSandbox) -> None:
    got = fetch(sandbox.base_url, ask(STOCKS[:1], MIDDAY - timedelta(days=90), MIDDAY - timedelta(days=61)), yahoo)
    assert (len(got.completed), got.calls, got.bars.height) == (1, 0, 0)


def test_a_missing_bar_that_the_vendor_sends_as_nulls_is_left_out(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(LateBar(symbols=[STOCKS[0].symbol], ts=datetime(2026, 7, 15, 17, 50, tzinfo=UTC)))
    got = fetch(sandbox.base_url, ask(STOCKS[:1], ONE_BAR), yahoo)
    assert clocks(got.bars) == ["17:55"]
    assert len(got.completed) == 1


def test_a_range_before_history_is_completed_without_bars(sandbox: RunningSandbox) -> None:
    for year in (1960, 1970):
        start = datetime(year, 1, 1, tzinfo=UTC)
        got = fetch(sandbox.base_url, ask(STOCKS[:1], start, start + timedelta(days=9), D1), yahoo)
        assert (len(got.completed), got.bars.height) == (1, 0)


def test_a_range_without_trading_is_completed_without_bars(sandbox: RunningSandbox) -> None:
    sunday = datetime(2026, 7, 12, tzinfo=UTC)
    for timeframe in (M5, D1):
        got = fetch(sandbox.base_url, ask(STOCKS[:1], sunday, sunday + timedelta(hours=20), timeframe), yahoo)
        assert (len(got.completed), got.bars.height) == (1, 0)


def test_an_unknown_symbol_fails_alone(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(MissingSymbol(symbols=[STOCKS[0].symbol]))
    unknown = [Instrument("NOSUCH"), Instrument("^GSPC"), Instrument("X/../Y"), STOCKS[0]]
    got = fetch(sandbox.base_url, ask([*unknown, *STOCKS[1:10]], ONE_BAR), yahoo)
    assert set(got.errors) == {f"{instrument.symbol}|5m" for instrument in unknown}
    error = got.errors["NOSUCH|5m"]
    assert isinstance(error, UnknownSymbol)
    assert (error.provider, error.symbol) == ("yahoo", "NOSUCH")
    assert str(error) == "yahoo has no symbol 'NOSUCH': Not Found: No data found, symbol may be delisted"
    assert len(got.completed) == 9


def test_a_block_ends_the_fetch_after_one_call_and_the_next_fetch_makes_none(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(RateLimit(headers=False))

    async def run() -> None:
        provider = yahoo(sandbox.base_url, limits=HttpLimits(max_concurrency=1))
        got = await collect(provider, ask([*STOCKS, *PAIRS], ONE_BAR))
        error = got.only_error()
        assert isinstance(error, Banned)
        assert str(error) == "yahoo has shut us out (429): Too Many Requests"
        assert (len(got.errors), got.calls) == (100, 1)
        again = await collect(provider, ask(STOCKS, ONE_BAR))
        assert (len(again.errors), again.calls) == (90, 0)
        await provider.aclose()

    asyncio.run(run())


def test_requests_have_the_user_agent_of_a_browser() -> None:
    with vendor(lambda _: JSONResponse(chart([]))) as (base_url, seen):
        fetch(base_url, ask([AAPL], ONE_BAR), yahoo)
    assert seen[0].headers["user-agent"].startswith("Mozilla/5.0 ")


def test_a_symbol_that_always_fails_does_not_affect_the_others(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(ServerError(symbols=[STOCKS[3].symbol], status=502, html=True))
    got = fetch(sandbox.base_url, ask(STOCKS[:10], ONE_BAR), yahoo)
    assert (list(got.errors), len(got.completed)) == ([f"{STOCKS[3].symbol}|5m"], 9)
    assert got.calls == 9 + QUICK.attempts


def test_a_request_with_a_cut_answer_is_retried(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(CutBody(times=1))
    got = fetch(sandbox.base_url, ask(STOCKS[:1], ONE_BAR), yahoo)
    assert (len(got.completed), got.calls) == (1, 2)


def test_a_refusal_is_reported_in_the_vendors_words(sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(Refuse(status=422))
    got = fetch(sandbox.base_url, ask(STOCKS[:1], ONE_BAR), yahoo)
    assert isinstance(got.only_error(), RequestRefused)
    assert str(got.only_error()) == "yahoo refused the request (422): Unprocessable Entity: the request was refused"


@pytest.mark.parametrize(
    ("status", "code", "description", "kind", "said"),
    [
        (
            401,
            "Unauthorized",
            "Invalid Crumb",
            AccessRefused,
            "yahoo refused access (401): Unauthorized: Invalid Crumb",
        ),
        (404, "Not Found", "delisted", UnknownSymbol, "yahoo has no symbol 'AAPL': Not Found: delisted"),
    ],
)
def test_a_refusal_by_the_check_of_callers_is_reported_in_the_vendors_words(
    status: int, code: str, description: str, kind: type[Exception], said: str
) -> None:
    """The server that checks the callers answers with `finance` instead of `chart`."""
    body = {"finance": {"result": None, "error": {"code": code, "description": description}}}
    with vendor(lambda _: JSONResponse(body, status)) as (base_url, _):
        error = fetch(base_url, ask([AAPL], ONE_BAR), yahoo).only_error()
    assert (type(error), str(error)) == (kind, said)


def test_a_status_of_999_is_a_block() -> None:
    """The transport is a fake, because no server here can send this status."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(999, html="<html>Sorry, Unable to process request at this time -- error 999.</html>")

    async def run() -> Fetched:
        options = HttpOptions(limits=HttpLimits(max_concurrency=1), transport=httpx.MockTransport(answer))
        client = YahooClient(PROVIDERS["yahoo"], YahooConfig(), options, lambda: MIDDAY)
        got = await collect(client, ask(STOCKS[:20], ONE_BAR))
        await client.aclose()
        return got

    got = asyncio.run(run())
    assert isinstance(got.only_error(), Banned)
    assert (len(got.errors), len(seen)) == (20, 1)


def test_a_corrected_bar_is_fetched_with_its_new_values(sandbox: RunningSandbox) -> None:
    ts = datetime(2026, 7, 15, 17, 55, tzinfo=UTC)
    sandbox.handle.faults.add(CorrectedBar(symbols=[STOCKS[0].symbol], ts=ts, high=99_999.5))
    got = fetch(sandbox.base_url, ask(STOCKS[:1], ONE_BAR), yahoo)
    assert got.bars["high"].to_list()[-1] == 99_999.5


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instrument", "spelt"),
    [
        (Instrument("AAPL"), "AAPL"),
        (Instrument("BRK.B"), "BRK-B"),
        (Instrument("BRK-B"), "BRK-B"),
        (Instrument("BRK.B", "XNAS"), "BRK-B"),
        (Instrument("EURUSD=X", "24/5"), "EURUSD%3DX"),
        (Instrument("EUR_USD", "24/5"), "EURUSD%3DX"),
        (Instrument("XAU/USD", "24/5"), "XAUUSD%3DX"),
        (Instrument("ES=F", "CMES"), "ES%3DF"),
        (Instrument("AZN.L", "XLON"), "AZN.L"),
        (Instrument("7203.T", "XTKS"), "7203.T"),
        (Instrument("BTC-USD", ALWAYS_OPEN), "BTC-USD"),
        (Instrument("BTC/USD", ALWAYS_OPEN), "BTC-USD"),
        (Instrument("^GSPC"), "%5EGSPC"),
        (Instrument("EURUSD=X", ALWAYS_OPEN), "EURUSD%3DX"),
        (Instrument("A/../B"), "A%2F..%2FB"),
    ],
)
def test_a_symbol_is_sent_in_the_vendors_spelling_as_one_part_of_the_path(instrument: Instrument, spelt: str) -> None:
    with vendor(lambda _: JSONResponse({"message": "no"}, 400)) as (base_url, seen):
        fetch(base_url, ask([instrument], ONE_BAR), yahoo)
    assert seen[0].scope["raw_path"].decode().split("?")[0] == f"/v8/finance/chart/{spelt}"
    assert dict(seen[0].query_params) == {
        "period1": str(at(17, 50)), "period2": str(at(18, 3)), "interval": "5m", "includePrePost": "false",
        "events": "div,splits",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("calendar", "timeframe", "are_included"),
    [("XNYS extended", M5, "true"), ("XNYS extended", D1, "false"), ("XNYS", M5, "false")],
)
def test_bars_before_and_after_hours_are_requested_where_they_belong_to_the_series(
    calendar: str, timeframe: Timeframe, are_included: str
) -> None:
    with vendor(lambda _: JSONResponse(chart([]))) as (base_url, seen):
        fetch(base_url, ask([Instrument("BRK.B", calendar)], ONE_DAY, timeframe=timeframe), yahoo)
    assert seen[0].url.path.endswith("/BRK-B")
    assert seen[0].query_params["includePrePost"] == are_included


def test_after_hours_the_last_trade_of_the_session_is_not_a_delay() -> None:
    now = AFTER_CLOSE + timedelta(minutes=20)
    body = chart([at(20, 10), at(20, 15)], regularMarketTime=at(20, 0))
    got = answered(body, ONE_BAR, now, now=now, calendar="XNYS extended")
    assert clocks(got.bars) == ["20:10", "20:15"]
    assert list(got.complete_through.values()) == [now]


# --- unusual rows -----------------------------------------------------------------------------------------------------


def test_a_live_tick_on_the_grid_is_recognised_by_the_bar_with_the_same_time() -> None:
    now = MIDDAY.replace(hour=20, minute=30)
    stamps, last_trade = [at(17, 50), at(17, 55), at(17, 55)], at(17, 55)
    got = answered(chart(stamps, [1.0, 2.0, 9.0], regularMarketTime=last_trade), now=now)
    assert got.bars["close"].to_list() == [1.0, 2.0]


def test_a_live_tick_is_left_out_at_any_position() -> None:
    got = answered(chart([at(18, 2, 17), at(17, 55), at(17, 50)], [9.0, 2.0, 1.0], regularMarketTime=at(18, 2, 17)))
    assert got.bars["close"].to_list() == [1.0, 2.0]


def test_bars_are_sorted_and_of_two_with_the_same_time_the_later_one_counts() -> None:
    got = answered(chart([at(17, 55), at(17, 50), at(17, 50)], [3.0, 1.0, 2.0]))
    assert got.bars.select("ts", "close").rows() == [(ONE_BAR, 2.0), (ONE_BAR + timedelta(minutes=5), 3.0)]


@pytest.mark.parametrize(
    ("minutes_behind", "is_whole", "through"),
    [
        # Real time: a bar that has closed by the clock is complete, even if the last trade is some minutes old.
        (3.1, True, MIDDAY),
        (7.9, True, MIDDAY),
        # A delayed exchange: the bar of its last trade is still forming.
        (10.1, False, MIDDAY - timedelta(minutes=10.1)),
        (15.1, False, MIDDAY - timedelta(minutes=15.1)),
        (31.1, False, MIDDAY - timedelta(minutes=31.1)),
        # A last trade this old shows nothing: the market may have closed.
        (33.1, True, None),
    ],
)
def test_the_last_trade_shows_up_to_when_an_exchange_is_complete(
    minutes_behind: float, is_whole: bool, through: datetime | None
) -> None:
    last_trade = int((MIDDAY - timedelta(minutes=minutes_behind)).timestamp())
    bar = last_trade // 300 * 300
    body = chart([bar - 300, bar, last_trade], regularMarketTime=last_trade)
    got = answered(body, start=ONE_DAY, calendar="XLON")
    assert got.bars["ts"].dt.epoch("s").to_list() == [bar - 300, bar][: 1 + is_whole]
    assert list(got.complete_through.values()) == ([] if through is None else [through])


@pytest.mark.parametrize("calendar", ["XNYS", "24/7"])
def test_an_old_last_trade_is_not_a_delay_on_a_calendar_without_delayed_prices(calendar: str) -> None:
    last_trade = int((MIDDAY - timedelta(minutes=15)).timestamp())
    bar = last_trade // 300 * 300
    got = answered(chart([bar, last_trade], regularMarketTime=last_trade), start=ONE_DAY, calendar=calendar)
    assert got.bars["ts"].dt.epoch("s").to_list() == [bar]
    assert list(got.complete_through.values()) == [MIDDAY]


def test_rows_of_nulls_are_left_out_and_a_single_missing_value_stays_null() -> None:
    body = chart([at(17, 45), at(17, 50), at(17, 55)], [1.0, None, 3.0])
    body["chart"]["result"][0]["indicators"]["quote"][0]["volume"][0] = None
    body["chart"]["result"][0]["indicators"]["quote"][0]["high"][2] = None
    got = answered(body, start=ONE_BAR - timedelta(hours=1))
    assert got.bars.select("high", "close", "volume").rows() == [(2.0, 1.0, None), (None, 3.0, 10.0)]


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"currentTradingPeriod": None},
        {"currentTradingPeriod": {"regular": None}},
        {"currentTradingPeriod": {"regular": {"start": at(20, 0), "end": at(13, 30)}}},
        {"currentTradingPeriod": {"regular": {"start": at(13, 30), "end": at(20, 0, day=29)}}},
    ],
)
def test_a_day_without_a_trading_period_counts_as_closed_after_24_hours(meta: dict[str, Any]) -> None:
    stamps = [at(13, 30, day=13), at(13, 30, day=14), at(18, 2, 59)]
    got = answered(chart(stamps, **meta), MIDDAY - timedelta(days=9), MIDDAY + timedelta(1), D1)
    assert [ts.day for ts in got.bars["ts"]] == [13, 14]


def test_two_rows_of_one_day_become_one_bar_with_the_volume_of_the_later_row() -> None:
    period = {"regular": {"start": at(13, 30), "end": at(20, 0)}}
    body = chart(
        [at(13, 30, day=14), at(13, 30), at(20, 0, 1)], currentTradingPeriod=period, regularMarketTime=at(20, 0, 1)
    )
    body["chart"]["result"][0]["indicators"]["quote"][0]["volume"] = [1, 100, 105]
    start, end = MIDDAY - timedelta(days=5), MIDDAY + timedelta(hours=5)
    got = answered(body, start, end, D1, now=AFTER_CLOSE)
    assert got.bars.select(pl.col("ts").dt.day(), "volume").rows() == [(14, 1.0), (15, 105.0)]


def test_bars_outside_the_range_are_left_out() -> None:
    got = answered(chart([at(17, 45), at(17, 50), at(17, 55)]), end=ONE_BAR + timedelta(minutes=5))
    assert clocks(got.bars) == ["17:50"]


# --- answers that are not charts --------------------------------------------------------------------------------------


def _edit(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    body = copy.deepcopy(chart([at(17, 50), at(17, 55)]))
    change(body["chart"])
    return body


def _quote(part: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = part["result"][0]["indicators"]["quote"][0]
    return found


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "chart"),
        ({"chart": {"result": None, "error": None}}, "neither a result nor an error"),
        ({"chart": {"result": [], "error": None}}, "neither a result nor an error"),
        ({"chart": {"error": {"code": "Internal", "description": "lost"}, "result": None}}, "Internal: lost"),
        (_edit(lambda c: _quote(c).pop("high")), "no values of `high`"),
        (_edit(lambda c: _quote(c)["close"].pop()), "1 values of `close`"),
        (_edit(lambda c: _quote(c).update(close=["1", "2"])), "float"),
        (_edit(lambda c: _quote(c).update(close=7)), "array"),
        (_edit(lambda c: c["result"][0].update(timestamp=[1.5, 2])), "int"),
        (_edit(lambda c: c["result"][0].update(timestamp=[at(17, 50), 10**15])), "int"),
        (_edit(lambda c: c["result"][0].pop("meta")), "meta"),
        (_edit(lambda c: c["result"][0]["indicators"].update(quote=[])), "0 sets of prices"),
        (_edit(lambda c: c["result"][0]["meta"].update(symbol="EVIL")), "a chart of 'EVIL'"),
        (_edit(lambda c: c["result"][0]["meta"].update(dataGranularity="1d")), "bars of '1d' instead of '5m'"),
    ],
)
def test_a_200_that_is_not_a_chart_is_malformed_and_the_error_names_provider_and_symbol(body: Any, words: str) -> None:
    error = answered(body).only_error()
    assert isinstance(error, MalformedAnswer)
    assert (error.provider, error.symbol) == ("yahoo", "AAPL")
    assert str(error).startswith("yahoo sent an answer for AAPL that is not bars: ")
    assert words in str(error)


@pytest.mark.parametrize(
    ("code", "description", "kind"),
    [("Not Found", "No data found, symbol may be delisted", UnknownSymbol), ("Bad Request", "x", MalformedAnswer)],
)
def test_an_error_code_in_a_200_is_converted_to_a_provider_error(
    code: str, description: str, kind: type[Exception]
) -> None:
    error = answered({"chart": {"result": None, "error": {"code": code, "description": description}}}).only_error()
    assert isinstance(error, kind)


def test_a_range_without_data_is_completed_with_either_status() -> None:
    said = {"code": "Bad Request", "description": "Data doesn't exist for startDate = 1, endDate = 2"}
    for status in (200, 400):

        def answer(_: Request, status: int = status) -> Response:
            return JSONResponse({"chart": {"result": None, "error": said}}, status)

        with vendor(answer) as (base_url, _):
            got = fetch(base_url, ask([AAPL], ONE_BAR), yahoo)
        assert (len(got.completed), got.bars.height) == (1, 0)


def test_two_ranges_of_one_symbol_share_a_call(sandbox: RunningSandbox) -> None:
    requests = [*ask(STOCKS[:1], ONE_DAY, ONE_DAY + timedelta(minutes=20)), *ask(STOCKS[:1], ONE_BAR)]
    got = fetch(sandbox.base_url, requests, yahoo)
    assert (len(got.completed), got.calls, got.bars.height) == (2, 1, 6)


# --- corporate actions ------------------------------------------------------------------------------------------------

EX_DATE = at(13, 30)
SPLITS = {
    str(EX_DATE): {"date": EX_DATE, "numerator": 1253, "denominator": 1000, "splitRatio": "1253:1000"},
    "2": {"date": at(13, 30, day=10), "numerator": 4, "denominator": 1, "splitRatio": "4:1"},
    "3": {"date": at(13, 30, day=9), "numerator": 1, "denominator": 10, "splitRatio": "1:10"},
    "4": {"date": at(13, 30, day=7), "numerator": 60, "denominator": 1, "splitRatio": "60:1"},
}


def with_events(**events: Any) -> dict[str, Any]:
    body = chart([EX_DATE])
    body["chart"]["result"][0]["events"] = events
    return body


def actions_of(body: Any) -> list[tuple[Any, ...]]:
    got = answered(body, ONE_DAY)
    assert got.bars.height == 1
    return pl.concat([batch.actions for batch in got.batches]).rows()


def test_splits_spin_offs_and_dividends_come_with_the_bars() -> None:
    def day(number: int) -> datetime:
        return datetime(2026, 7, number, 13, 30, tzinfo=UTC)

    dividends = {"1": {"date": at(13, 30, day=8), "amount": 0.25}}
    assert actions_of(with_events(splits=SPLITS, dividends=dividends)) == [
        ("AAPL", "split", day(7), 60.0, None, None),
        ("AAPL", "dividend", day(8), None, 0.25, None),
        ("AAPL", "split", day(9), 0.1, None, None),
        ("AAPL", "split", day(10), 4.0, None, None),
        ("AAPL", "spin-off", day(15), 1.253, None, None),
    ]


@pytest.mark.parametrize(
    "events",
    [
        {},
        {"splits": {}},
        {"splits": []},
        {"splits": {"1": {"date": EX_DATE, "numerator": 0, "denominator": 1}}},
        {"splits": {"1": {"date": EX_DATE, "numerator": 2, "denominator": 2}}},
        {"splits": {"1": {"date": EX_DATE, "numerator": 5e-324, "denominator": 1}}},
        {"splits": {"1": {"date": EX_DATE, "numerator": 5e-324, "denominator": 1e308}}},
        {"splits": {"1": {"date": EX_DATE, "numerator": 1e308, "denominator": 1e-10}}},
        {"splits": {"1": {"date": EX_DATE, "numerator": 1e308, "denominator": 1}}},
        {"dividends": {"1": {"date": EX_DATE, "amount": 5e-324}}},
        {"splits": {"1": {"date": "yesterday", "numerator": 2, "denominator": 1}}},
        {"dividends": {"1": {"date": EX_DATE, "amount": -1}}},
        {"capitalGains": {"1": {"date": EX_DATE, "amount": 1}}},
    ],
)
def test_empty_and_invalid_events_are_ignored_and_the_bars_are_kept(events: Any) -> None:
    assert actions_of(with_events(**events)) == []


def test_events_of_the_sandbox_are_read_as_corporate_actions(sandbox: RunningSandbox) -> None:
    at = MIDDAY.replace(hour=13, minute=30)
    sandbox.handle.faults.add(Split(symbols=[STOCKS[0].symbol], at=at, ratio=1.253))
    paid = {"symbol": STOCKS[0].symbol, "rate": 0.26, "ex_date": "2026-07-14"}
    sandbox.handle.faults.add(CorporateAction(symbols=[STOCKS[0].symbol], type="cash_dividends", fields=paid))
    found = fetch(sandbox.base_url, ask(STOCKS[:2], MIDDAY - timedelta(days=5), timeframe=D1), yahoo)
    actions = pl.concat(batch.actions for batch in found.batches)
    assert actions.rows() == [
        (STOCKS[0].symbol, "dividend", at.replace(day=14, hour=14), None, 0.26, None),
        (STOCKS[0].symbol, "spin-off", at, 1.253, None, None),
    ]
