"""Tests of the sandbox with symbols other than US stocks: other exchanges, futures, foreign exchange and pairs."""

from datetime import UTC, datetime, timedelta

import pytest

from ema_assets.config.watchlist_edits import instrument_of
from ema_assets.sandbox.server import running_sandbox
from ema_assets_tests.providers.conftest import MIDDAY, ask, assert_exact, fetch
from ema_assets_tests.timeframes import D1

SYMBOLS = ("EURUSD=X", "EUR_USD", "EUR/USD", "ES=F", "^N225", "600519.SS", "VOLV-B.ST", "BTC/USD", "OPUSDT", "ETH_USDT")
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
