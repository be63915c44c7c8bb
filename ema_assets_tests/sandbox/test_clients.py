"""Tests of the sandbox with the community's clients of Binance and Yahoo. Alpaca's SDK is tested in test_app.py."""

import asyncio
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ema_assets.sandbox.faults import RateLimit
from ema_assets.sandbox.server import RunningSandbox
from ema_assets_tests.sandbox.conftest import MIDDAY, VirtualClock

with warnings.catch_warnings():
    # Both import deprecated parts of other libraries.
    warnings.simplefilter("ignore")
    import yfinance
    from binance.client import Client
    from binance.exceptions import BinanceAPIException
    from yfinance.exceptions import YFRateLimitError

# --- python-binance ---------------------------------------------------------------------------------------------------


@pytest.fixture
def binance(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(Client, "API_URL", f"{sandbox.base_url}/api")
    # The client needs an event loop and never closes it.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    client = Client()  # it sends a ping
    client.session.trust_env = False
    yield client
    client.close_connection()
    asyncio.set_event_loop(None)
    loop.close()


def test_python_binance_reads_klines_of_several_pages_and_the_time(binance: Client, sandbox: RunningSandbox) -> None:
    assert binance.get_server_time() == {"serverTime": int(MIDDAY.timestamp() * 1_000)}
    start, end = MIDDAY - timedelta(days=9), MIDDAY
    rows = binance.get_historical_klines("BTCUSDT", "5m", int(start.timestamp() * 1_000), int(end.timestamp() * 1_000))
    opened = [row[0] for row in rows]
    first = int(datetime(2026, 7, 6, 18, 5, tzinfo=UTC).timestamp() * 1_000)
    assert opened == [first + n * 300_000 for n in range(9 * 288)]
    # The last one is still forming.
    assert opened[-1] == int(MIDDAY.replace(minute=0).timestamp() * 1_000)
    assert rows[-1][6] > int(MIDDAY.timestamp() * 1_000)
    assert all(float(row[3]) <= float(row[4]) <= float(row[2]) for row in rows)
    assert all(len(row) == 12 for row in rows)


def test_python_binance_reads_the_newest_klines_and_days(binance: Client) -> None:
    rows = binance.get_klines(symbol="DOGEUSDT", interval="1d", limit=3)
    assert [datetime.fromtimestamp(row[0] / 1_000, UTC).day for row in rows] == [13, 14, 15]


def test_python_binance_raises_the_vendors_errors(binance: Client, sandbox: RunningSandbox) -> None:
    with pytest.raises(BinanceAPIException) as caught:
        binance.get_klines(symbol="NOSUCH", interval="5m")
    assert (caught.value.status_code, caught.value.code, caught.value.message) == (400, -1121, "Invalid symbol.")
    sandbox.handle.faults.add(RateLimit())
    with pytest.raises(BinanceAPIException) as caught:
        binance.get_klines(symbol="BTCUSDT", interval="5m")
    assert (caught.value.status_code, caught.value.code) == (429, -1003)


# --- yfinance ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def yahoo(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("base", "scrapers.history"):
        monkeypatch.setattr(f"yfinance.{module}._BASE_URL_", sandbox.base_url)
    # Charts need neither cookie nor crumb, and requests for them would leave this machine.
    monkeypatch.setattr(yfinance.data.YfData, "_get_cookie_and_crumb", lambda *_args, **_options: (None, "basic"))
    get = yfinance.data.YfData.get

    def get_here(self: yfinance.data.YfData, url: str, *args: Any, **options: Any) -> Any:
        assert url.startswith(sandbox.base_url), url
        return get(self, url, *args, **options)

    monkeypatch.setattr(yfinance.data.YfData, "get", get_here)
    yfinance.set_tz_cache_location(str(tmp_path))


@pytest.mark.usefixtures("yahoo")
def test_yfinance_reads_five_minute_bars_and_merges_the_live_tick(sandbox: RunningSandbox) -> None:
    frame = yfinance.Ticker("AAPL").history(
        interval="5m", start=MIDDAY - timedelta(days=1), end=MIDDAY + timedelta(hours=1)
    )
    assert str(frame.index.tz) == "America/New_York"
    assert [f"{ts:%d %H:%M}" for ts in frame.index[-3:]] == ["15 13:50", "15 13:55", "15 14:00"]
    whole = sandbox.handle.market.bars(
        sandbox.handle.market.universe[0],
        5,
        int((MIDDAY - timedelta(minutes=13)).timestamp()),
        2**31,
        int(MIDDAY.timestamp()),
        9,
    )
    assert frame["Close"].tolist()[-3:-1] == pytest.approx(whole.close.tolist())
    assert frame["Volume"].tolist()[-3:-1] == whole.volume.tolist()


@pytest.mark.usefixtures("yahoo")
def test_yfinance_reads_days_of_class_shares_and_pairs() -> None:
    for symbol, days in (("BRK-B", [10, 13, 14, 15]), ("BTC-USD", [10, 11, 12, 13, 14, 15])):
        frame = yfinance.Ticker(symbol).history(interval="1d", start="2026-07-10", end="2026-07-16")
        assert [ts.day for ts in frame.index] == days


@pytest.mark.usefixtures("yahoo")
def test_yfinance_reads_days_after_the_close_when_their_time_is_the_last_trade(clock: VirtualClock) -> None:
    clock.now = MIDDAY.replace(hour=20, minute=30)
    frame = yfinance.Ticker("AAPL").history(interval="1d", start="2026-07-13", end="2026-07-16")
    assert [ts.day for ts in frame.index] == [13, 14, 15]


@pytest.mark.usefixtures("yahoo")
def test_yfinance_reports_the_vendors_errors(sandbox: RunningSandbox, caplog: pytest.LogCaptureFixture) -> None:
    assert yfinance.Ticker("MSFT").history(interval="5m", start="2026-05-01", end="2026-07-16").empty
    assert "The requested range must be within the last 60 days." in caplog.text
    sandbox.handle.faults.add(RateLimit())
    with pytest.raises(YFRateLimitError):
        yfinance.Ticker("AAPL").history(start="2026-07-10", end="2026-07-16")
