"""Tests of faults, requested at the sandbox's control endpoint as by a test or a user."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from ema_assets.sandbox.dialects.alpaca import CRYPTO_BARS_PATH
from ema_assets.sandbox.faults import KINDS
from ema_assets.sandbox.server import RunningSandbox
from ema_assets_tests.sandbox.conftest import MIDDAY, VirtualClock
from ema_assets_tests.sandbox.test_app import get
from ema_assets_tests.waiting import wait_until

AT = "2026-07-14T14:05:00Z"


def ask(client: httpx.Client, **fault: Any) -> int:
    answer = client.post("/sandbox/faults", json=fault)
    assert answer.status_code == 201, answer.text
    number: int = answer.json()["id"]
    return number


def times(page: Any, symbol: str = "AAPL") -> list[str]:
    return [bar["t"] for bar in page["bars"].get(symbol, [])]


def test_a_delay_holds_back_the_requested_number_of_answers(client: httpx.Client) -> None:
    """A client that waits for less gets no answer the first time, and one the second time."""
    ask(client, kind="delay", seconds=5, times=1)
    with pytest.raises(httpx.ReadTimeout):
        client.get("/v2/stocks/bars", params={"symbols": "AAPL", "timeframe": "5Min"}, timeout=0.2)
    get(client)
    (report,) = client.get("/sandbox/faults").json()["faults"]
    assert (report["times"], report["acted"]) == (1, 1)


@pytest.mark.broad
def test_an_answer_that_began_before_a_reset_of_the_counters_is_not_counted(client: httpx.Client) -> None:
    number = ask(client, kind="delay", seconds=0.5, times=1)

    def held_back() -> bool:
        faults = client.get("/sandbox/faults").json()["faults"]
        return next(fault["acted"] for fault in faults if fault["id"] == number) == 1

    with ThreadPoolExecutor(1) as other:
        under_way = other.submit(get, client)
        wait_until(held_back, "the delay holds an answer back")
        client.delete("/sandbox/stats")
        assert under_way.result()
    assert client.get("/sandbox/stats").json()["total"] == 0
    get(client)
    assert client.get("/sandbox/stats").json()["total"] == 1


def test_a_rate_limit_can_be_sent_with_and_without_headers(client: httpx.Client) -> None:
    ask(client, kind="rate_limit", retry_after_seconds=3, times=1)
    ask(client, kind="rate_limit", headers=False, times=1)
    params = {"symbols": "AAPL", "timeframe": "5Min"}
    told, untold = (client.get("/v2/stocks/bars", params=params) for _ in range(2))
    assert (told.status_code, untold.status_code) == (429, 429)
    assert told.headers["Retry-After"] == "3"
    assert told.headers["X-RateLimit-Remaining"] == "0"
    assert not {"retry-after", "x-ratelimit-remaining"} & set(untold.headers)
    get(client)


def test_a_fault_of_one_symbol_does_not_affect_answers_without_it(client: httpx.Client) -> None:
    number = ask(client, kind="server_error", status=503, symbols=["BTC/USD"])
    get(client)
    get(client, CRYPTO_BARS_PATH, 503, symbols="BTC/USD,DOGE/USD")
    get(client, CRYPTO_BARS_PATH, symbols="DOGE/USD")
    assert client.delete(f"/sandbox/faults/{number}").status_code == 200
    get(client, CRYPTO_BARS_PATH, symbols="BTC/USD")


@pytest.mark.parametrize("status", [401, 403, 404, 418, 422, 451])
def test_a_refusal_is_a_message_of_the_vendor_or_a_web_page_of_a_gateway(client: httpx.Client, status: int) -> None:
    ask(client, kind="refuse", status=status, times=1)
    ask(client, kind="refuse", status=status, html=True, retry_after_seconds=7, times=1)
    assert set(get(client, status=status)) == {"message"}
    page = client.get("/v2/stocks/bars", params={"symbols": "AAPL", "timeframe": "5Min"})
    assert (page.status_code, page.headers["Retry-After"]) == (status, "7")
    assert page.text.startswith("<html>")
    get(client)


def test_a_server_error_may_be_a_web_page_of_a_gateway(client: httpx.Client) -> None:
    ask(client, kind="server_error", status=502, html=True)
    page = client.get("/v2/stocks/bars", params={"symbols": "AAPL", "timeframe": "5Min"})
    assert (page.status_code, page.headers["content-type"]) == (502, "text/html; charset=utf-8")


def test_a_cut_body_ends_the_connection_in_its_middle(client: httpx.Client) -> None:
    ask(client, kind="cut_body", times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        get(client)
    assert client.get("/sandbox/stats").json()["by_status"] == {"cut": 1}
    get(client)


def test_a_missing_symbol_is_left_out(client: httpx.Client) -> None:
    ask(client, kind="missing_symbol", symbols=["AAPL"])
    assert set(get(client, symbols="AAPL,MSFT")["bars"]) == {"MSFT"}


def test_a_late_bar_appears_after_its_delay(client: httpx.Client, clock: VirtualClock) -> None:
    late = "2026-07-15T17:55:00Z"
    ask(client, kind="late_bar", symbols=["AAPL"], ts=late, seconds=400)
    params: dict[str, Any] = {"start": "2026-07-15T17:50:00Z", "end": "2026-07-15T17:59:00Z", "symbols": "AAPL,MSFT"}
    page = get(client, **params)
    assert late not in times(page)
    assert late in times(page, "MSFT")
    clock.now = MIDDAY + timedelta(minutes=4)  # 18:07, and the bar closed at 18:00
    assert late in times(get(client, **params))


def test_a_late_bar_without_seconds_is_missing_until_the_fault_is_cleared(
    client: httpx.Client, clock: VirtualClock
) -> None:
    ask(client, kind="late_bar", symbols=["AAPL"], ts=AT)
    clock.now = MIDDAY + timedelta(days=1)
    assert AT not in times(get(client))
    client.delete("/sandbox/faults")
    assert AT in times(get(client))


def test_a_corrected_bar_changes_its_values_and_the_day_that_holds_it(client: httpx.Client) -> None:
    before = get(client)["bars"]["AAPL"]
    ask(client, kind="corrected_bar", symbols=["AAPL"], ts=AT, high=99_999.5, volume=5)
    after = get(client)["bars"]["AAPL"]
    changed = [row for row, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert changed == [1]
    assert (after[1]["h"], after[1]["v"], after[1]["o"]) == (99_999.5, 5, before[1]["o"])
    day = get(client, timeframe="1Day", start="2026-07-14", end="2026-07-14")["bars"]["AAPL"][0]
    assert day["h"] == 99_999.5


def test_a_closing_auction_changes_the_day_some_time_after_the_close(client: httpx.Client, clock: VirtualClock) -> None:
    ask(client, kind="corrected_bar", symbols=["AAPL"], ts="2026-07-15T19:55:00Z", close=97.09, low=90.0, seconds=900)

    def close() -> float:
        day = get(client, timeframe="1Day", start="2026-07-15", end="2026-07-15")["bars"]["AAPL"][0]
        return float(day["c"])

    clock.now = datetime(2026, 7, 15, 20, 0, 5, tzinfo=UTC)
    preliminary = close()
    assert preliminary != 97.09
    clock.now = datetime(2026, 7, 15, 20, 15, tzinfo=UTC)
    assert close() == 97.09


def test_a_hole_affects_all_its_symbols_until_the_fault_is_cleared(client: httpx.Client) -> None:
    ask(client, kind="hole", symbols=["AAPL", "MSFT"], start=AT, end="2026-07-14T14:15:00Z")
    page = get(client, symbols="AAPL,MSFT")
    for symbol in ("AAPL", "MSFT"):
        assert {AT, "2026-07-14T14:10:00Z"}.isdisjoint(times(page, symbol))
        assert "2026-07-14T14:15:00Z" in times(page, symbol)
    client.delete("/sandbox/faults")
    assert AT in times(get(client))


def test_half_an_answer_is_well_formed_and_lacks_the_second_half(client: httpx.Client) -> None:
    whole = times(get(client))
    ask(client, kind="half_answer", symbols=["AAPL"], times=1)
    page = get(client)
    assert times(page) == whole[: len(whole) // 2]
    assert page["next_page_token"] is None
    assert times(get(client)) == whole


def test_a_symbol_that_has_ended_has_no_later_bars(client: httpx.Client) -> None:
    ask(client, kind="ended", symbols=["AAPL"], at=AT)
    page = get(client, symbols="AAPL,MSFT")
    assert max(times(page)) < AT
    assert max(times(page, "MSFT")) > AT


def test_a_delayed_exchange_answers_as_of_an_earlier_time(client: httpx.Client) -> None:
    params: dict[str, Any] = {"start": "2026-07-15T17:00:00Z", "end": "2026-07-15T18:03:00Z"}
    assert max(times(get(client, **params))) == "2026-07-15T17:55:00Z"
    ask(client, kind="delayed", symbols=["AAPL"], seconds=900)
    assert max(times(get(client, **params))) == "2026-07-15T17:40:00Z"


def test_a_split_changes_the_adjusted_history_and_not_the_raw_one(client: httpx.Client) -> None:
    before = get(client, adjustment="split")["bars"]["AAPL"]
    ask(client, kind="split", symbols=["AAPL"], at="2026-07-14T14:30:00Z", ratio=4)
    after = get(client, adjustment="split")["bars"]["AAPL"]
    for old, new in zip(before, after, strict=True):
        early = old["t"] < "2026-07-14T14:30:00Z"
        assert new["c"] == pytest.approx(old["c"] / (4 if early else 1), abs=1e-4)
        assert new["v"] == old["v"] * (4 if early else 1)
    assert get(client, adjustment="raw")["bars"]["AAPL"] == before


def test_the_list_shows_active_faults_and_how_often_they_acted(client: httpx.Client) -> None:
    number = ask(client, kind="corrected_bar", symbols=["AAPL"], ts=AT, close=1.0, times=3)
    get(client)
    get(client, start="2026-07-13", end="2026-07-13")  # this range does not include the bar
    (report,) = client.get("/sandbox/faults").json()["faults"]
    assert report == {
        "id": number, "kind": "corrected_bar", "symbols": ["AAPL"], "times": 3, "ts": AT, "close": 1.0, "acted": 1
    }  # fmt: skip
    assert client.delete("/sandbox/faults").json() == {"faults": []}
    assert client.delete("/sandbox/faults/999").status_code == 404


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"nonsense", ["JSON object"]),
        (b"[]", ["JSON object", *KINDS]),
        (b"{}", ["kind", *KINDS]),
        (b'{"kind": "earthquake"}', ["earthquake", *KINDS]),
        (b'{"kind": ["delay"]}', ["kind", *KINDS]),
        (b'{"kind": "delay", "minutes": 3}', ["minutes", "allowed", "seconds"]),
        (b'{"kind": "delay"}', ["seconds"]),
        (b'{"kind": "delay", "seconds": -1}', ["seconds"]),
        (b'{"kind": "delay", "seconds": 1, "times": 0}', ["times"]),
        (b'{"kind": "server_error", "status": 200}', ["status"]),
        (b'{"kind": "refuse"}', ["status"]),
        (b'{"kind": "refuse", "status": 500}', ["status"]),
        (b'{"kind": "missing_symbol"}', ["symbols"]),
        (b'{"kind": "missing_symbol", "symbols": []}', ["symbols"]),
        (b'{"kind": "late_bar", "symbols": ["AAPL"], "ts": "2026-07-14T14:05:00"}', ["ts", "timezone"]),
        (b'{"kind": "late_bar", "symbols": ["AAPL"], "ts": "2026-07-14T15:02:00Z"}', ["ts", "five-minute bar"]),
        (b'{"kind": "late_bar", "symbols": ["AAPL"], "ts": "2026-07-14T15:05:00.5Z"}', ["ts", "five-minute bar"]),
        (b'{"kind": "corrected_bar", "symbols": ["AAPL"], "ts": "2026-07-14T14:05:00Z"}', ["open", "close"]),
        (b'{"kind": "corrected_bar", "symbols": ["AAPL"], "ts": "2026-07-14T15:02:00Z", "close": 1}', ["five-minute"]),
        (
            b'{"kind": "hole", "symbols": ["AAPL"], "start": "2026-07-14T14:05:00Z", "end": "2026-07-14T14:05:00Z"}',
            ["end"],
        ),
        (b'{"kind": "ended", "symbols": ["AAPL"]}', ["at"]),
        (b'{"kind": "delayed", "symbols": ["AAPL"], "seconds": 7200}', ["seconds"]),
        (b'{"kind": "split", "symbols": ["AAPL"], "at": "2026-07-14T14:05:00Z", "ratio": 0}', ["ratio"]),
        (b'{"kind": "split", "symbols": ["AAPL"], "at": "2026-07-14T14:05:00Z", "ratio": 1e-320}', ["ratio", "0.0001"]),
        (b'{"kind": "repriced", "symbols": ["AAPL"], "at": "2026-07-14T14:05:00Z", "ratio": 1e308}', ["ratio"]),
        (b'{"kind": "rate_limit", "retry_after_seconds": 1e12}', ["retry_after_seconds", "259200"]),
        (b'{"kind": "refuse", "status": 418, "retry_after_seconds": 259201}', ["retry_after_seconds"]),
    ],
)
def test_an_invalid_fault_is_refused_with_the_allowed_values(
    client: httpx.Client, sandbox: RunningSandbox, body: bytes, words: list[str]
) -> None:
    answer = client.post("/sandbox/faults", content=body)
    assert answer.status_code == 400
    for word in words:
        assert word in answer.json()["message"]
    assert sandbox.handle.faults.report() == []


def test_a_fault_of_our_symbol_includes_other_spellings_and_an_unknown_symbol_is_refused(
    client: httpx.Client,
) -> None:
    """`BTC-USD` of a watchlist is BTC/USD at Alpaca and BTCUSDT at Binance."""
    refused = client.post("/sandbox/faults", json={"kind": "missing_symbol", "symbols": ["BTC-USDX"]})
    assert refused.status_code == 400
    assert "received 'BTC-USDX'" in refused.json()["message"]
    assert "did you mean" in refused.json()["message"]
    client.post("/sandbox/faults", json={"kind": "missing_symbol", "symbols": ["BTC-USD"]}).raise_for_status()
    (report,) = client.get("/sandbox/faults").json()["faults"]
    assert {"BTC-USD", "BTC/USD", "BTCUSDT"} <= set(report["symbols"])
