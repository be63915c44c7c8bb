"""Tests of Yahoo's format and its special answers over a real socket, with plain HTTP."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from ema_assets.model.symbols import Instrument
from ema_assets.sandbox.faults import CorporateAction, Delayed, Repriced, Split
from ema_assets.sandbox.server import RunningSandbox, running_sandbox
from ema_assets_tests.sandbox.conftest import MIDDAY, VirtualClock

NOW = int(MIDDAY.timestamp())
OPEN, CLOSE = (int(MIDDAY.replace(hour=h, minute=m).timestamp()) for h, m in ((13, 30), (20, 0)))


@pytest.fixture
def browser(sandbox: RunningSandbox) -> Iterator[httpx.Client]:
    headers = {"User-Agent": "Mozilla/5.0"}
    with httpx.Client(base_url=sandbox.base_url, trust_env=False, headers=headers, timeout=60) as client:
        yield client


def get(client: httpx.Client, symbol: str = "AAPL", status: int = 200, **params: Any) -> Any:
    span: dict[str, Any] = {"period1": NOW - 20 * 60, "period2": NOW + 3_600, "interval": "5m"}
    answer = client.get(f"/v8/finance/chart/{symbol}", params={**span, **params})
    assert answer.status_code == status, answer.text
    assert answer.headers["X-Sandbox"] == "synthetic"
    chart = answer.json()["chart"]
    assert chart["error" if status < 400 else "result"] is None
    return chart["error"] if status >= 400 else chart["result"][0]


def column(result: Any, name: str = "close") -> list[Any]:
    values: list[Any] = result["indicators"]["quote"][0][name]
    assert len(values) == len(result["timestamp"])
    return values


def test_the_forming_bar_and_the_live_tick_follow_the_closed_bars(browser: httpx.Client) -> None:
    result = get(browser)
    assert [ts - NOW for ts in result["timestamp"]] == [-18 * 60, -13 * 60, -8 * 60, -3 * 60, 0]
    assert column(result)[-1] == column(result)[-2]
    assert column(result, "volume")[-1] == 0
    assert (result["meta"]["symbol"], result["meta"]["dataGranularity"]) == ("AAPL", "5m")
    assert result["meta"]["regularMarketTime"] == NOW
    period = result["meta"]["currentTradingPeriod"]["regular"]
    assert (period["start"], period["end"]) == (OPEN, CLOSE)


def test_the_forming_bar_changes_until_it_has_closed(browser: httpx.Client, clock: VirtualClock) -> None:
    closes = []
    for minute in (1, 3, 5):
        clock.now = MIDDAY.replace(minute=minute)
        result = get(browser)
        closes.append(column(result)[result["timestamp"].index(NOW - 180)])
    assert len(set(closes)) == 3


def test_after_the_close_the_live_tick_follows_the_last_bar(browser: httpx.Client, clock: VirtualClock) -> None:
    clock.now = MIDDAY.replace(hour=23)
    result = get(browser, period1=CLOSE - 600, period2=CLOSE + 600)
    assert result["timestamp"] == [CLOSE - 600, CLOSE - 300, CLOSE]
    assert get(browser, period1=CLOSE - 600, period2=CLOSE)["timestamp"] == [CLOSE - 600, CLOSE - 300]


def test_days_have_the_time_of_their_open_and_the_newest_for_some_hours_that_of_its_last_trade(
    browser: httpx.Client, clock: VirtualClock
) -> None:
    span: dict[str, Any] = {"interval": "1d", "period1": OPEN - 86_400, "period2": NOW + 86_400}
    assert get(browser, **span)["timestamp"] == [OPEN - 86_400, OPEN, NOW]
    clock.now = MIDDAY.replace(hour=22)
    assert get(browser, **span)["timestamp"] == [OPEN - 86_400, CLOSE]
    clock.now = MIDDAY + timedelta(hours=16)
    result = get(browser, **span)
    assert result["timestamp"] == [OPEN - 86_400, OPEN]
    assert result["indicators"]["adjclose"][0]["adjclose"] == column(result)


def test_a_missing_bar_is_a_row_of_nulls(browser: httpx.Client) -> None:
    ts = datetime.fromtimestamp(NOW - 13 * 60, UTC).isoformat()
    browser.post("/sandbox/faults", json={"kind": "late_bar", "symbols": ["AAPL"], "ts": ts})
    result = get(browser)
    for name in ("open", "high", "low", "close", "volume"):
        assert [value is None for value in column(result, name)] == [False, True, False, False, False]


def test_an_empty_range_has_no_timestamp(browser: httpx.Client) -> None:
    sunday = int(datetime(2026, 7, 12, tzinfo=UTC).timestamp())
    result = get(browser, period1=sunday, period2=sunday + 3_600)
    assert "timestamp" not in result
    assert result["indicators"]["quote"] == [{}]


@pytest.mark.parametrize(("interval", "days"), [("5m", 60), ("15m", 60), ("1h", 730)])
def test_a_range_that_begins_at_the_limit_of_days_is_refused_and_a_second_later_is_not(
    browser: httpx.Client, interval: str, days: int
) -> None:
    start = NOW - days * 86_400
    assert get(browser, interval=interval, period1=start + 1)["timestamp"]
    error = get(browser, status=422, interval=interval, period1=start)
    assert error["code"] == "Unprocessable Entity"
    assert f"must be within the last {days} days" in error["description"]
    assert get(browser, interval="1d", period1=start)["timestamp"]


@pytest.mark.parametrize(
    ("symbol", "params", "status", "code"),
    [
        ("NOSUCH", {}, 404, "Not Found"),
        ("BRK.B", {}, 404, "Not Found"),
        ("AAPL", {"interval": "7m"}, 422, "Unprocessable Entity"),
        ("AAPL", {"period1": "yesterday"}, 400, "Bad Request"),
        ("AAPL", {"period1": NOW, "period2": NOW}, 400, "Bad Request"),
        ("AAPL", {"interval": "1d", "period1": 0, "period2": 86_400}, 400, "Bad Request"),
    ],
)
def test_a_refusal_has_the_status_and_the_code_of_the_vendor(
    browser: httpx.Client, symbol: str, params: dict[str, Any], status: int, code: str
) -> None:
    assert get(browser, symbol, status, **params)["code"] == code


def test_symbols_have_the_spelling_of_the_vendor(browser: httpx.Client) -> None:
    for symbol in ("AAPL", "BRK-B", "BTC-USD"):
        assert get(browser, symbol)["meta"]["symbol"] == symbol


@pytest.mark.parametrize("range_", ["1d", "5d", "max", None])
def test_a_range_may_be_given_by_name(browser: httpx.Client, range_: str | None) -> None:
    params = {"interval": "1d", **({"range": range_} if range_ else {})}
    stamps = browser.get("/v8/finance/chart/BTC-USD", params=params).json()["chart"]["result"][0]["timestamp"]
    assert len(stamps) >= {"5d": 6, "max": 5_000}.get(range_ or "", 2) - 1


def test_a_client_that_is_no_browser_or_is_blocked_gets_plain_text(browser: httpx.Client, client: httpx.Client) -> None:
    plain = client.get("/v8/finance/chart/AAPL")
    browser.post("/sandbox/faults", json={"kind": "rate_limit", "headers": False})
    blocked = browser.get("/v8/finance/chart/AAPL")
    for answer in (plain, blocked):
        assert (answer.status_code, answer.text) == (429, "Too Many Requests\r\n")
        assert answer.headers["content-type"].startswith("text/plain")
        assert "retry-after" not in answer.headers


def test_charts_of_all_symbols_are_counted_together(browser: httpx.Client) -> None:
    get(browser)
    get(browser, "BTC-USD")
    assert browser.get("/sandbox/stats").json()["by_path"] == {"/v8/finance/chart/{symbol}": 2}


def test_splits_and_dividends_come_as_events_with_the_bars_of_their_day(
    browser: httpx.Client, sandbox: RunningSandbox
) -> None:
    split_at, ahead = MIDDAY.replace(hour=13, minute=30), MIDDAY.replace(day=16, hour=13, minute=30)
    sandbox.handle.faults.add(Split(symbols=["AAPL"], at=split_at, ratio=1.253))
    sandbox.handle.faults.add(Split(symbols=["AAPL"], at=ahead, ratio=2))
    dividend = {"symbol": "AAPL", "rate": 0.26, "ex_date": "2026-07-14", "process_date": "2026-07-30"}
    sandbox.handle.faults.add(CorporateAction(symbols=["AAPL"], type="cash_dividends", fields=dividend))
    span: dict[str, Any] = {"period1": OPEN - 2 * 86_400, "interval": "1d"}
    found = get(browser, events="div,splits", **span)["events"]
    split, paid = str(int(split_at.timestamp())), str(int(split_at.replace(day=14, hour=14).timestamp()))
    assert found == {
        "splits": {
            split: {"date": int(split), "numerator": 1253, "denominator": 1000, "splitRatio": "1253:1000"},
        },
        "dividends": {paid: {"date": int(paid), "amount": 0.26}},
    }
    assert get(browser, events="split", **span).get("events") is None
    assert "splits" not in get(browser, events="div", **span)["events"]
    assert get(browser, "MSFT", events="div,splits", **span).get("events") is None
    # This range does not include their days.
    assert get(browser, events="div,splits").get("events") is None


def test_london_trades_in_pence_until_it_is_repriced() -> None:
    at = MIDDAY.replace(hour=13)
    with (
        running_sandbox([Instrument("AZN.L", "XLON")], 7, clock=lambda: MIDDAY) as london,
        httpx.Client(base_url=london.base_url, trust_env=False, headers={"User-Agent": "Mozilla/5.0"}) as browser,
    ):
        span = {"period1": int(at.timestamp()) - 600, "period2": int(at.timestamp()) + 600}
        pence = get(browser, "AZN.L", **span)
        london.handle.faults.add(Repriced(symbols=["AZN.L"], at=at, ratio=100))
        pounds = get(browser, "AZN.L", **span)
        # The exchange is 15 minutes behind, so it does not have the new currency yet.
        london.handle.clock = lambda: at + timedelta(minutes=10)
        london.handle.faults.add(Delayed(symbols=["AZN.L"], seconds=900))
        delayed = get(browser, "AZN.L", **span)
    assert [each["meta"]["currency"] for each in (pence, pounds, delayed)] == ["GBp", "GBP", "GBp"]
    before, after = column(pence), column(pounds)
    assert after == [*before[:2], *(round(price / 100, 4) for price in before[2:])]
    assert column(pounds, "volume") == column(pence, "volume")
    assert delayed["meta"]["regularMarketTime"] == int(at.timestamp()) - 300
