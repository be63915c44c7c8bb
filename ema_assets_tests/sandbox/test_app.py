"""Tests of Alpaca's format over a real socket, with the vendor's own SDK and with plain HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from alpaca.common.exceptions import APIError
from alpaca.data.historical import CryptoHistoricalDataClient, StockHistoricalDataClient
from alpaca.data.models import BarSet
from alpaca.data.requests import CryptoBarsRequest, StockBarsRequest
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

from ema_assets.model.symbols import Instrument
from ema_assets.sandbox.dialects.alpaca import CRYPTO_BARS_PATH, STOCK_BARS_PATH
from ema_assets.sandbox.server import RunningSandbox, running_sandbox
from ema_assets_tests.sandbox.conftest import MIDDAY, VirtualClock

FIVE_MINUTES = TimeFrame(5, TimeFrameUnit.Minute)
ONE_DAY = TimeFrame(1, TimeFrameUnit.Day)
AN_HOUR = {"start": "2026-07-14T14:00:00Z", "end": "2026-07-14T14:59:59Z"}


def get(client: httpx.Client, path: str = STOCK_BARS_PATH, status: int = 200, **params: Any) -> Any:
    answer = client.get(path, params={"symbols": "AAPL", "timeframe": "5Min", **AN_HOUR, **params})
    assert answer.status_code == status, answer.text
    assert answer.headers["X-Sandbox"] == "synthetic"
    return answer.json()


def all_pages(client: httpx.Client, path: str = STOCK_BARS_PATH, **params: Any) -> tuple[list[tuple[str, str]], int]:
    """Return every (symbol, t) in the order of the pages, and the number of pages."""
    rows: list[tuple[str, str]] = []
    pages, token = 0, None
    while True:
        page = get(client, path, **params, **({"page_token": token} if token else {}))
        pages += 1
        rows.extend((symbol, bar["t"]) for symbol, bars in page["bars"].items() for bar in bars)
        token = page["next_page_token"]
        if token is None:
            return rows, pages


@pytest.mark.broad
def test_the_vendors_sdk_reads_stocks_of_several_pages(sandbox: RunningSandbox) -> None:
    sdk = StockHistoricalDataClient("key", "secret", url_override=sandbox.base_url)
    bars = sdk.get_stock_bars(
        StockBarsRequest(
            symbol_or_symbols=["MSFT", "AAPL", "ZZZZ"],
            timeframe=FIVE_MINUTES,
            start=MIDDAY - timedelta(days=180),
            end=MIDDAY,
        )
    )
    assert isinstance(bars, BarSet)
    assert set(bars.data) == {"AAPL", "MSFT"}
    assert len(bars.data["AAPL"]) == len(bars.data["MSFT"]) > 9_000
    assert sandbox.handle.stats.total == 2
    bar = bars.data["AAPL"][-1]
    assert bar.timestamp == datetime(2026, 7, 15, 17, 55, tzinfo=UTC)
    assert bar.vwap is not None
    assert bar.low <= bar.vwap <= bar.high
    assert bar.volume == int(bar.volume)


def test_the_vendors_sdk_reads_crypto_days(sandbox: RunningSandbox) -> None:
    sdk = CryptoHistoricalDataClient(url_override=sandbox.base_url)
    bars = sdk.get_crypto_bars(
        CryptoBarsRequest(
            symbol_or_symbols=["BTC/USD", "DOGE/USD"],
            timeframe=ONE_DAY,
            start=datetime(2026, 7, 1, tzinfo=UTC),
            end=MIDDAY,
        )
    )
    assert isinstance(bars, BarSet)
    assert [bar.timestamp.day for bar in bars.data["BTC/USD"]] == list(range(1, 15))
    assert len(bars.data["DOGE/USD"]) == 14


def test_the_vendors_sdk_raises_the_vendors_error(sandbox: RunningSandbox) -> None:
    sdk = StockHistoricalDataClient("key", "secret", url_override=sandbox.base_url)
    with pytest.raises(APIError, match="invalid symbol: BRK-B"):
        sdk.get_stock_bars(StockBarsRequest(symbol_or_symbols=["AAPL", "BRK-B"], timeframe=ONE_DAY, start=MIDDAY))


def test_a_bar_has_the_vendors_fields(client: httpx.Client) -> None:
    page = get(client)
    assert list(page) == ["bars", "next_page_token"]
    assert set(page["bars"]["AAPL"][0]) == {"t", "o", "h", "l", "c", "v", "n", "vw"}
    assert page["bars"]["AAPL"][0]["t"] == "2026-07-14T14:00:00Z"
    assert len(page["bars"]["AAPL"]) == 12


def test_a_range_includes_its_end(client: httpx.Client) -> None:
    page = get(client, end="2026-07-14T14:10:00Z")
    assert [bar["t"][11:16] for bar in page["bars"]["AAPL"]] == ["14:00", "14:05", "14:10"]


def test_times_may_have_an_offset_or_be_plain_dates(client: httpx.Client) -> None:
    assert get(client, start="2026-07-14T10:00:00-04:00") == get(client)
    day = get(client, start="2026-07-14", end="2026-07-14")["bars"]["AAPL"]
    assert (day[0]["t"], day[-1]["t"]) == ("2026-07-14T13:30:00Z", "2026-07-14T19:55:00Z")


@pytest.mark.parametrize("limit", [1, 5, 12, 13, 24, 36])
def test_the_limit_of_a_page_counts_all_symbols_and_rows_are_ordered_by_symbol_then_time(
    client: httpx.Client, limit: int
) -> None:
    symbols = "MSFT,AAPL,BRK.B"
    whole, pages = all_pages(client, symbols=symbols)
    assert pages == 1
    assert whole == sorted(whole)
    assert len(whole) == 36
    in_pages, pages = all_pages(client, symbols=symbols, limit=limit)
    assert in_pages == whole
    assert pages == -(-36 // limit), "the last page says that it is the last"


def test_descending_pages_join_to_the_complete_answer(client: httpx.Client) -> None:
    whole, _ = all_pages(client, symbols="AAPL,MSFT", sort="desc")
    assert whole == sorted(sorted(whole, key=lambda row: row[1], reverse=True), key=lambda row: row[0])
    assert all_pages(client, symbols="AAPL,MSFT", sort="desc", limit=7)[0] == whole


def test_an_unknown_symbol_is_left_out(client: httpx.Client) -> None:
    assert set(get(client, symbols="AAPL,NOSUCH")["bars"]) == {"AAPL"}
    assert get(client, symbols="NOSUCH") == {"bars": {}, "next_page_token": None}
    assert get(client, CRYPTO_BARS_PATH, symbols="AAA/USD")["bars"] == {}


def test_only_closed_bars_are_served_and_the_next_one_follows_at_its_close(
    client: httpx.Client, clock: VirtualClock
) -> None:
    params: dict[str, Any] = {"start": "2026-07-15T17:45:00Z", "end": "2026-07-16T00:00:00Z"}
    assert [b["t"][11:16] for b in get(client, **params)["bars"]["AAPL"]] == ["17:45", "17:50", "17:55"]
    clock.now = MIDDAY + timedelta(minutes=2)
    assert get(client, **params)["bars"]["AAPL"][-1]["t"][11:16] == "18:00"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"symbols": ""}, "symbols parameter is required"),
        ({"symbols": "AAPL,BRK-B"}, "invalid symbol: BRK-B"),
        ({"symbols": "aapl"}, "invalid symbol: aapl"),
        ({"timeframe": ""}, "timeframe parameter is required"),
        ({"timeframe": "7Min"}, "invalid timeframe: 7Min"),
        ({"timeframe": "forever"}, "invalid timeframe: forever"),
        ({"start": "yesterday"}, "invalid start: yesterday"),
        ({"end": "2026-07-14T14:00:00"}, "invalid end"),
        ({"start": "2026-07-15", "end": "2026-07-13"}, "end should not be before start"),
        ({"limit": 10_001}, "invalid limit"),
        ({"limit": 0}, "invalid limit"),
        ({"limit": "many"}, "invalid limit"),
        ({"sort": "sideways"}, "invalid sort: sideways"),
        ({"feed": "gossip"}, "invalid feed: gossip"),
        ({"adjustment": "wishful"}, "invalid adjustment: wishful"),
        ({"page_token": "bm9uc2Vuc2U="}, "invalid page_token"),
        ({"page_token": "\x00"}, "invalid page_token"),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_name(client: httpx.Client, params: dict[str, Any], message: str) -> None:
    assert get(client, status=400, **params)["message"].startswith(message)


@pytest.mark.parametrize("symbol", ["BTC-USD", "BTCUSD", "btc/usd"])
def test_a_crypto_pair_needs_its_slash(client: httpx.Client, symbol: str) -> None:
    assert get(client, CRYPTO_BARS_PATH, 400, symbols=symbol)["message"] == f"invalid symbol: {symbol}"


def test_an_unknown_path_is_a_404_in_the_vendors_words(client: httpx.Client) -> None:
    assert get(client, "/v2/stocks/trades", 404) == {"message": "endpoint not found"}


def test_the_info_page_states_that_all_data_is_synthetic(client: httpx.Client) -> None:
    about = client.get("/sandbox").json()
    assert about["synthetic"] is True
    assert "synthetic" in about["message"]
    assert (about["seed"], about["symbols"], about["stocks"], about["crypto_pairs"]) == (7, 5, 3, 2)


def test_answers_count_down_the_budget_and_a_429_follows() -> None:
    with (
        running_sandbox([Instrument("AAPL")], requests_per_minute=2) as limited,
        httpx.Client(base_url=limited.base_url, trust_env=False, timeout=60) as client,
    ):
        params = {"symbols": "AAPL", "timeframe": "1Day"}
        first, second, third = (client.get(STOCK_BARS_PATH, params=params) for _ in range(3))
    assert [a.status_code for a in (first, second, third)] == [200, 200, 429]
    assert [a.headers["X-RateLimit-Remaining"] for a in (first, second, third)] == ["1", "0", "0"]
    assert third.headers["X-RateLimit-Limit"] == "2"
    assert third.json() == {"message": "too many requests."}


def test_required_keys_are_checked() -> None:
    with (
        running_sandbox([Instrument("AAPL")], required_keys=("id", "secret")) as locked,
        httpx.Client(base_url=locked.base_url, trust_env=False, timeout=60) as client,
    ):

        def status(**keys: str) -> int:
            headers = {f"APCA-API-{name.replace('_', '-')}": value for name, value in keys.items()}
            params = {"symbols": "AAPL", "timeframe": "1Day"}
            return client.get(STOCK_BARS_PATH, params=params, headers=headers).status_code

        assert status() == 401
        assert status(KEY_ID="id") == 401
        assert status(KEY_ID="id", SECRET_KEY="wrong") == 403
        assert status(KEY_ID="id", SECRET_KEY="secret") == 200


def test_the_counters_count_only_requests_for_bars_and_can_be_reset(client: httpx.Client) -> None:
    get(client)
    get(client, status=400, symbols="?")
    get(client, CRYPTO_BARS_PATH, symbols="BTC/USD")
    client.get("/sandbox")
    assert client.get("/sandbox/stats").json() == {
        "total": 3,
        "by_path": {STOCK_BARS_PATH: 2, CRYPTO_BARS_PATH: 1},
        "by_status": {"200": 2, "400": 1},
    }
    assert client.delete("/sandbox/stats").json()["total"] == 0
