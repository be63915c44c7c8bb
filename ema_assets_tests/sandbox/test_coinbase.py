"""Tests of Coinbase's format over a real socket, with plain HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from ema_assets.sandbox.faults import RateLimit
from ema_assets.sandbox.server import RunningSandbox
from ema_assets_tests.sandbox.conftest import MIDDAY, VirtualClock

PATH = "/products/BTC-USD/candles"
NOW = int(MIDDAY.timestamp())
MINUTE = 60


def get(client: httpx.Client, status: int = 200, path: str = PATH, **params: Any) -> Any:
    wanted = {"granularity": 300, **params}
    answer = client.get(path, params={name: value for name, value in wanted.items() if value is not None})
    assert answer.status_code == status, answer.text
    assert answer.headers["X-Sandbox"] == "synthetic"
    return answer.json()


def test_candles_are_rows_of_numbers_newest_first_and_include_the_forming_one(
    client: httpx.Client, sandbox: RunningSandbox
) -> None:
    rows = get(client, start=NOW - 13 * MINUTE, end=NOW)
    # The last one lies before the range, as the vendor's documentation allows.
    assert [row[0] - NOW for row in rows] == [-3 * MINUTE, -8 * MINUTE, -13 * MINUTE, -18 * MINUTE]
    assert all([type(value) for value in row] == [int, float, float, float, float, float] for row in rows)
    instrument = sandbox.handle.market.universe[3]
    bar = sandbox.handle.market.bars(instrument, 5, rows[1][0], rows[1][0], NOW, 1)
    assert rows[1][1:5] == [bar.low[0], bar.high[0], bar.open[0], bar.close[0]]


def test_the_forming_candle_changes_until_it_has_closed(client: httpx.Client, clock: VirtualClock) -> None:
    seen = []
    for minute in (1, 3, 5):
        clock.now = MIDDAY.replace(minute=minute)
        row = get(client, start=NOW - 3 * MINUTE, end=NOW - 3 * MINUTE)[0]
        assert row[0] == NOW - 3 * MINUTE
        seen.append((row[4], row[5]))
    assert len({close for close, _ in seen}) == 3
    assert seen[0][1] < seen[1][1] < seen[2][1]


def test_times_are_seconds_or_iso_and_without_both_the_newest_three_hundred_are_sent(client: httpx.Client) -> None:
    start, end = MIDDAY - timedelta(minutes=13), MIDDAY
    by_seconds = get(client, start=int(start.timestamp()), end=int(end.timestamp()))
    assert get(client, start="2026-07-15T17:50:00Z", end="2026-07-15T18:03:00.000Z") == by_seconds
    assert get(client, start="2026-07-15T17:50:00", end="2026-07-15T18:03:00+00:00") == by_seconds
    lacking: tuple[dict[str, Any], ...] = ({}, {"start": int(start.timestamp())})
    for params in lacking:
        newest = get(client, **params)
        assert (len(newest), newest[0]) == (300, by_seconds[0])


def test_a_range_of_three_hundred_candles_is_served_and_one_more_is_refused(client: httpx.Client) -> None:
    start = int(datetime(2026, 7, 1, tzinfo=UTC).timestamp())
    assert len(get(client, start=start, end=start + 299 * 300)) == 300
    said = get(client, 400, start=start, end=start + 300 * 300)["message"]
    assert said == ("granularity too small for the requested time range. Count of aggregations requested exceeds 300")


@pytest.mark.parametrize(
    ("status", "params", "said"),
    [
        (404, {"path": "/products/NO-SUCH/candles"}, "NotFound"),
        (404, {"path": "/products/AAPL/candles"}, "NotFound"),
        (400, {"granularity": 7}, "Unsupported granularity"),
        (400, {"granularity": "five"}, "Unsupported granularity"),
        (400, {"start": "yesterday", "end": "today"}, "invalid time: yesterday"),
        (400, {"start": NOW, "end": NOW - 300}, "start must be before end"),
    ],
)
def test_a_wrong_request_is_refused_with_a_message(
    client: httpx.Client, status: int, params: dict[str, Any], said: str
) -> None:
    assert get(client, status, **params) == {"message": said}


def test_a_request_without_a_user_agent_is_refused(sandbox: RunningSandbox) -> None:
    answer = httpx.get(f"{sandbox.base_url}{PATH}", headers={"User-Agent": ""}, trust_env=False)
    assert (answer.status_code, answer.json()) == (400, {"message": "User-Agent header is required."})


def test_a_rate_limit_has_the_message_of_the_vendor(client: httpx.Client, sandbox: RunningSandbox) -> None:
    sandbox.handle.faults.add(RateLimit(headers=False, times=1))
    assert get(client, 429) == {"message": "Public rate limit exceeded"}


def test_the_list_of_products_has_the_pairs_and_no_stocks(client: httpx.Client) -> None:
    rows = client.get("/products").json()
    assert [(row["id"], row["base_currency"], row["quote_currency"], row["status"]) for row in rows] == [
        ("BTC-USD", "BTC", "USD", "online"),
        ("DOGE-USD", "DOGE", "USD", "online"),
    ]


def test_the_time_is_served(client: httpx.Client) -> None:
    assert client.get("/time").json() == {"iso": "2026-07-15T18:03:00.000Z", "epoch": float(NOW)}
