"""Tests of Binance's format over a real socket, with plain HTTP."""

from typing import Any

import httpx
import pytest

from ema_assets.model.symbols import ALWAYS_OPEN, Instrument
from ema_assets.sandbox.dialects.binance import KLINES_PATH
from ema_assets.sandbox.server import RunningSandbox, running_sandbox
from ema_assets_tests.sandbox.conftest import MIDDAY, VirtualClock

NOW = int(MIDDAY.timestamp() * 1_000)
MINUTE = 60_000


def get(client: httpx.Client, status: int = 200, **params: Any) -> Any:
    wanted = {"symbol": "BTCUSDT", "interval": "5m", **params}
    answer = client.get(KLINES_PATH, params={name: value for name, value in wanted.items() if value is not None})
    assert answer.status_code == status, answer.text
    assert answer.headers["X-Sandbox"] == "synthetic"
    return answer.json()


def test_a_kline_has_twelve_columns_with_prices_as_text(client: httpx.Client, sandbox: RunningSandbox) -> None:
    (row,) = get(client, startTime=NOW - 13 * MINUTE, limit=1)
    assert [type(value) for value in row] == [int, str, str, str, str, str, int, str, int, str, str, str]
    assert (row[0], row[6]) == (NOW - 13 * MINUTE, NOW - 8 * MINUTE - 1)
    instrument = sandbox.handle.market.universe[3]
    bar = sandbox.handle.market.bars(instrument, 5, row[0] // 1_000, row[0] // 1_000, NOW // 1_000, 1)
    assert [float(value) for value in row[1:5]] == [bar.open[0], bar.high[0], bar.low[0], bar.close[0]]


def test_the_last_kline_is_still_forming_and_changes_until_it_has_closed(
    client: httpx.Client, clock: VirtualClock
) -> None:
    seen = []
    for minute in (1, 3, 5):
        clock.now = MIDDAY.replace(minute=minute)
        (row,) = get(client, startTime=NOW - 3 * MINUTE, limit=1)
        assert row[0] == NOW - 3 * MINUTE
        seen.append((row[4], float(row[5])))
    assert len({close for close, _ in seen}) == 3
    assert seen[0][1] < seen[1][1] < seen[2][1]


def test_the_forming_kline_of_a_day_agrees_with_its_5m_klines(client: httpx.Client) -> None:
    midnight = int(MIDDAY.replace(hour=0, minute=0).timestamp() * 1_000)
    (day,) = get(client, interval="1d", startTime=midnight)
    fives = get(client, startTime=midnight)
    assert len(fives) == 18 * 12 + 1
    assert (day[1], day[4]) == (fives[0][1], fives[-1][4])
    assert float(day[2]) == max(float(row[2]) for row in fives)
    assert float(day[5]) == pytest.approx(sum(float(row[5]) for row in fives))


def test_without_a_start_the_newest_klines_are_sent_and_with_one_the_oldest(client: httpx.Client) -> None:
    assert [row[0] - NOW for row in get(client, limit=2)] == [-8 * MINUTE, -3 * MINUTE]
    assert [row[0] - NOW for row in get(client, limit=2, endTime=NOW - 13 * MINUTE)] == [-18 * MINUTE, -13 * MINUTE]
    oldest = get(client, startTime=NOW - 60 * MINUTE, limit=2)
    assert [row[0] - NOW for row in oldest] == [-58 * MINUTE, -53 * MINUTE]


@pytest.mark.parametrize(("limit", "rows"), [(None, 500), (1_000, 1_000), (1_500, 1_000)])
def test_a_page_has_five_hundred_klines_by_default_and_at_most_a_thousand(
    client: httpx.Client, limit: int | None, rows: int
) -> None:
    assert len(get(client, limit=limit, startTime=0)) == rows


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"symbol": None}, -1102),
        ({"symbol": "btcusdt"}, -1100),
        ({"symbol": "NOSUCH"}, -1121),
        ({"symbol": "AAPL"}, -1121),
        ({"interval": "7m"}, -1120),
        ({"interval": None}, -1120),
        ({"startTime": "yesterday"}, -1100),
        ({"limit": "-1"}, -1100),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_code(client: httpx.Client, params: dict[str, Any], code: int) -> None:
    body = get(client, 400, **params)
    assert (set(body), body["code"]) == ({"code", "msg"}, code)


def test_a_call_has_the_weight_two_and_the_headers_show_the_used_weight() -> None:
    with (
        running_sandbox([Instrument("BTC-USD", ALWAYS_OPEN)]) as fresh,
        httpx.Client(base_url=fresh.base_url, trust_env=False, timeout=60) as client,
    ):
        params: dict[str, Any] = {"symbol": "BTCUSDT", "interval": "5m", "limit": 1}
        used = [client.get(KLINES_PATH, params=params).headers["X-MBX-USED-WEIGHT-1M"] for _ in range(3)]
        assert used == ["2", "4", "6"]
        # This is the weight of 2,997 more calls in this minute.
        assert fresh.handle.budgets["binance"].spend(5_994)
        last = client.get(KLINES_PATH, params=params)
        assert (last.status_code, last.json()["code"]) == (429, -1003)
        assert 0 < int(last.headers["Retry-After"]) <= 60


def test_a_ban_a_blocked_region_and_a_gateway_are_answered_as_by_the_vendor(client: httpx.Client) -> None:
    for fault, code in (({"status": 418, "retry_after_seconds": 120}, -1003), ({"status": 451}, 0)):
        client.post("/sandbox/faults", json={"kind": "refuse", "times": 1, **fault})
        assert get(client, int(fault["status"]))["code"] == code
    client.post("/sandbox/faults", json={"kind": "refuse", "status": 403, "html": True, "times": 1})
    answer = client.get(KLINES_PATH, params={"symbol": "BTCUSDT", "interval": "5m"})
    assert (answer.status_code, answer.headers["content-type"]) == (403, "text/html; charset=utf-8")


def test_ping_and_time_answer(client: httpx.Client) -> None:
    assert client.get("/api/v3/ping").json() == {}
    assert client.get("/api/v3/time").json() == {"serverTime": NOW}
