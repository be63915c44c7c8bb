"""Tests of the sandbox with symbols other than US stocks: other exchanges, futures, foreign exchange and pairs."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from ema_assets.config.watchlist_edits import instrument_of
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.market.validation import validate
from ema_assets.sandbox.server import running_sandbox
from ema_assets_tests.providers.conftest import MIDDAY, ask, assert_exact, fetch
from ema_assets_tests.timeframes import D1

SYMBOLS = (
    "EURUSD=X",
    "EUR_USD",
    "EUR/USD",
    "ES=F",
    "^N225",
    "600519.SS",
    "VOLV-B.ST",
    "BTC/USD",
    "OPUSDT",
    "ETH_USDT",
    "M&M.NS",
)
# Midnight UTC on a Tuesday: Tokyo and Shanghai have not opened, Stockholm has closed.
ENDED = datetime(2026, 7, 14, tzinfo=UTC)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_the_sandbox_has_bars_of_every_kind_of_symbol_on_its_own_calendar(symbol: str) -> None:
    instrument = instrument_of(symbol)
    with running_sandbox([instrument], 7, clock=lambda: MIDDAY) as sandbox:
        for requests in (
            ask([instrument], ENDED - timedelta(days=7), ENDED),
            ask([instrument], ENDED - timedelta(days=30), ENDED, D1),
        ):
            got = fetch(sandbox.base_url, requests)
            assert not got.errors
            assert got.bars.height >= 20
            assert_exact(sandbox, requests, got.bars)


@pytest.mark.broad
@pytest.mark.parametrize(
    ("symbol", "day"),
    [
        ("0700.HK", date(2025, 12, 24)),  # a half-day, which closes at 12:00
        ("BHP.AX", date(2026, 1, 15)),
        ("FPH.NZ", date(2026, 1, 15)),
    ],
)
def test_a_daily_bar_of_the_sandbox_belongs_to_the_session_of_its_day(symbol: str, day: date) -> None:
    """At New York's midnight, 05:00 UTC, these sessions have closed: the bar would be that of the next day."""
    instrument = instrument_of(symbol)
    sessions = exchange_sessions(instrument.calendar, day - timedelta(days=3), day + timedelta(days=7))
    start, end = (datetime(each.year, each.month, each.day, tzinfo=UTC) for each in (day, day + timedelta(days=1)))
    with running_sandbox([instrument], 7, clock=lambda: MIDDAY) as sandbox:
        bars = fetch(sandbox.base_url, ask([instrument], start - timedelta(days=1), end, D1)).bars
    found = validate(
        bars,
        D1,
        pl.DataFrame([(symbol, instrument.calendar, False)], ["symbol", "calendar", "allow_negative"], orient="row"),
        sessions,
        MIDDAY,
    )
    opens = sessions.filter(pl.col("session") == day)["open"].to_list()
    assert opens[0] in found.accepted["ts"].to_list()
    assert found.flags.is_empty()
