"""Tests of what the clients of Binance and Coinbase have in common. The differences are in their own files."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from ema_assets.model.errors import Unauthorized
from ema_assets.model.timeframes import Timeframe
from ema_assets.providers.fetching.base import ProviderClient
from ema_assets.providers.http.budget import HttpLimits
from ema_assets.sandbox.dialects.binance import KLINES_PATH
from ema_assets.sandbox.dialects.coinbase import CANDLES_PATH
from ema_assets.sandbox.faults import Refuse, ServerError
from ema_assets.sandbox.server import RunningSandbox
from ema_assets_tests.providers.conftest import MIDDAY, PAIRS, QUICK, ask, assert_exact, binance, coinbase, fetch
from ema_assets_tests.timeframes import D1, H1, ORDER

ONE_BAR = MIDDAY - timedelta(minutes=13)


@dataclass(frozen=True)
class Vendor:
    """One vendor: the function that opens its client, its path for bars, and its spelling of CC-USD."""

    opened: Callable[..., ProviderClient]
    path: str
    spelt: str


@pytest.fixture(params=[Vendor(binance, KLINES_PATH, "CCUSDT"), Vendor(coinbase, CANDLES_PATH, "CC-USD")])
def vendor(request: pytest.FixtureRequest) -> Vendor:
    assert isinstance(request.param, Vendor)
    return request.param


def test_a_tick_takes_one_call_per_symbol_and_leaves_out_the_forming_candle(
    sandbox: RunningSandbox, vendor: Vendor
) -> None:
    requests = ask(PAIRS, ONE_BAR)
    got = fetch(sandbox.base_url, requests, vendor.opened)
    assert sandbox.handle.stats.by_path == {vendor.path: 10}
    assert (got.calls, got.bars.height, len(got.completed)) == (10, 20, 10)
    assert_exact(sandbox, requests, got.bars)


def test_daily_bars_open_at_utc_midnight_and_leave_out_today(sandbox: RunningSandbox, vendor: Vendor) -> None:
    requests = ask(PAIRS[:2], datetime(2026, 7, 1, tzinfo=UTC), MIDDAY + timedelta(days=1), D1)
    got = fetch(sandbox.base_url, requests, vendor.opened)
    assert [ts.day for ts in got.bars.filter(symbol=PAIRS[0].symbol)["ts"]] == list(range(1, 15))
    assert_exact(sandbox, requests, got.bars)


def test_a_candle_is_left_out_until_it_has_closed(sandbox: RunningSandbox, vendor: Vendor) -> None:
    newest = datetime(2026, 7, 15, 17, 55, tzinfo=UTC)
    for late, bars in ((timedelta(minutes=4, seconds=59), 0), (timedelta(minutes=5), 1)):
        got = fetch(sandbox.base_url, ask(PAIRS[:1], newest), vendor.opened, clock=lambda late=late: newest + late)
        assert (got.bars.height, len(got.completed)) == (bars, 1)


def test_ranges_are_half_open_and_each_request_gets_its_own(sandbox: RunningSandbox, vendor: Vendor) -> None:
    early = ask(PAIRS[:1], MIDDAY - timedelta(hours=3), MIDDAY - timedelta(hours=2))
    late = ask(PAIRS[:1], ONE_BAR)
    got = fetch(sandbox.base_url, [*early, *late, *late], vendor.opened)
    assert (len(got.completed), got.calls) == (3, 1)
    hours = [f"{ts:%H:%M}" for ts in got.bars["ts"]]
    assert hours == [*(f"15:{minute:02}" for minute in range(5, 60, 5)), "16:00", "17:50", "17:55"]


def test_empty_fetches_and_empty_ranges_make_no_call(sandbox: RunningSandbox, vendor: Vendor) -> None:
    assert fetch(sandbox.base_url, [], vendor.opened).batches == []
    got = fetch(sandbox.base_url, ask(PAIRS[:2], MIDDAY, MIDDAY), vendor.opened)
    assert (len(got.completed), got.calls) == (2, 0)


def test_a_region_that_is_not_served_ends_the_fetch_after_one_call(sandbox: RunningSandbox, vendor: Vendor) -> None:
    sandbox.handle.faults.add(Refuse(status=451))
    got = fetch(sandbox.base_url, ask(PAIRS, ONE_BAR), vendor.opened, limits=HttpLimits(max_concurrency=1))
    assert isinstance(got.only_error(), Unauthorized)
    assert "does not serve this region (451)" in str(got.only_error())
    assert got.calls == 1


def test_a_symbol_that_always_fails_does_not_affect_the_others(sandbox: RunningSandbox, vendor: Vendor) -> None:
    sandbox.handle.faults.add(ServerError(symbols=[vendor.spelt]))
    got = fetch(sandbox.base_url, ask(PAIRS, ONE_BAR), vendor.opened)
    assert (list(got.errors), len(got.completed)) == (["CC-USD|5m"], 9)
    assert got.calls == 9 + QUICK.attempts


@pytest.mark.parametrize("timeframe", [t for t in ORDER if not t.is_fetched and t is not H1])
def test_a_request_for_a_rolled_up_timeframe_raises_a_value_error(timeframe: Timeframe, vendor: Vendor) -> None:
    with pytest.raises(ValueError, match=timeframe.key):
        fetch("http://127.0.0.1:9", ask(PAIRS[:1], ONE_BAR, timeframe=timeframe), vendor.opened)
