"""Providers publish their bars with different delays: requests, runs and reports follow the delay of each."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from polars import selectors as cs

from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.operations.sync_watchlist import sync
from ema_assets.providers.declaration import Publication
from ema_assets.providers.fetching.base import ProviderClient
from ema_assets.refresh import plan, waiting
from ema_assets.refresh.fetch import refresh_fetched
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.reports import health, status
from ema_assets.store.database import Database
from ema_assets_tests.conftest import mostly_broad
from ema_assets_tests.core import CORE
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, state_of, utc
from ema_assets_tests.timeframes import FETCHED

M5, M15, D1, MO1 = by_key("5m"), by_key("15m"), by_key("1d"), by_key("1M")
WEEK = (date(2026, 11, 23), date(2026, 11, 27))
NOW = utc("2026-11-25 16:00")
DAYS = dict(zip(FETCHED, (4, 60), strict=True))
# Two providers on one calendar.
WATCHED = Watchlist((Instrument("AAPL", "XNYS"), Instrument("MSFT", "XNYS", "slow")), DAYS, **CORE)
SYMBOLS = list(WATCHED.symbols)
SECOND = timedelta(seconds=1)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


class Market:
    """A provider that publishes at once, and a provider that publishes after `delay`."""

    def __init__(self, database: Database, delay: timedelta) -> None:
        self.database = database
        bars = [
            bars_on("XNYS", symbol, timeframe, *WEEK, seed)
            for seed, symbol in enumerate(SYMBOLS)
            for timeframe in FETCHED
        ]
        self.quick, self.slow = MemoryExchange(*bars), MemoryExchange(*bars)
        self.rules = FetchRules(DAYS, {None: Publication(), "slow": Publication(delay)})
        sync(database, WATCHED, NOW)
        self.fetch(NOW)

    @property
    def publications(self) -> plan.Publications:
        return self.rules.publications

    def __call__(self, name: str | None) -> ProviderClient:
        return {None: self.quick, "slow": self.slow}[name](name)

    def fetch(self, now: datetime) -> None:
        self.quick.asked, self.slow.asked = [], []
        for timeframe in FETCHED:
            assert not refresh_fetched(self.database, self, timeframe, SYMBOLS, self.rules, now).errors

    def asked(self, timeframe: Timeframe = M5) -> dict[str, datetime]:
        """For each symbol, the time up to which the last fetch requested bars."""
        requests = [*self.quick.asked, *self.slow.asked]
        return {each.instrument.symbol: each.end for each in requests if each.timeframe is timeframe}

    def swept(self, now: datetime) -> list[str]:
        """The symbols for which the sweep would launch a run of fetched bars."""
        with self.database.transaction() as transaction:
            stale = plan.stale_for_sweep(transaction, now, plan.SCHEDULE_REACH, self.publications)
        return self._fetched(stale)

    def on_close(self, now: datetime, timeframe: Timeframe = M5) -> list[str]:
        """The symbols for which the schedule of `timeframe` would launch a run."""
        with self.database.transaction() as transaction:
            return self._fetched(plan.stale_on_close(transaction, timeframe, now, self.publications))

    @staticmethod
    def _fetched(stale: pl.DataFrame) -> list[str]:
        return stale.filter(pl.col("reason") == "bar closed")["symbol"].sort().to_list()


@pytest.fixture
def market(database: Database) -> Callable[..., Market]:
    return lambda **delay: Market(database, timedelta(**delay))


@pytest.mark.broad
def test_one_refresh_requests_from_each_provider_what_it_has_published(market: Callable[..., Market]) -> None:
    both = market(minutes=22)
    assert both.asked() == {"AAPL": NOW, "MSFT": NOW - minutes(25)}
    both.fetch(NOW + minutes(5))
    assert both.asked() == {"AAPL": NOW + minutes(5), "MSFT": NOW - minutes(20)}
    assert state_of(both.database, "MSFT", M5)["checked_through"] == NOW - minutes(20)
    assert state_of(both.database, "MSFT", M5)["last_ts"] == NOW - minutes(25)


@pytest.mark.broad
def test_the_daily_bar_of_a_slow_provider_is_requested_after_its_delay(market: Callable[..., Market]) -> None:
    both = market(minutes=50)
    evening = utc("2026-11-25 21:00")
    both.fetch(evening + minutes(49))
    assert both.asked(D1) == {"AAPL": evening}
    both.fetch(evening + minutes(50))
    assert both.asked(D1) == {"MSFT": evening}


@pytest.mark.broad
def test_no_run_is_launched_for_bars_that_are_not_published_yet(market: Callable[..., Market]) -> None:
    both = market(minutes=22)
    # The bar that closed at 15:40 is published at 16:02. Before that, no tick and no sweep launches a run for it.
    assert both.on_close(NOW + SECOND) == both.swept(NOW + SECOND) == []
    assert both.swept(NOW + minutes(2) - SECOND) == []
    assert both.swept(NOW + minutes(2)) == ["MSFT"]
    both.fetch(NOW + minutes(2))
    assert both.asked() == {"MSFT": NOW - minutes(20)}
    assert both.swept(NOW + minutes(5) - SECOND) == []
    assert both.on_close(NOW + minutes(5)) == ["AAPL"]


@pytest.mark.broad
def test_a_bar_published_seconds_after_its_close_belongs_to_the_tick_of_that_close(
    market: Callable[..., Market],
) -> None:
    both = market(seconds=20)
    both.fetch(NOW + 20 * SECOND)
    close = NOW + minutes(5)
    assert both.on_close(close) == ["AAPL", "MSFT"]
    assert both.swept(close + 29 * SECOND) == []
    # If the tick had launched no run, the sweep would launch one for both.
    assert both.swept(close + 30 * SECOND) == ["AAPL", "MSFT"]


@pytest.mark.broad
def test_a_bar_published_too_late_for_its_schedule_is_left_to_the_sweep(market: Callable[..., Market]) -> None:
    """The delay is one second longer than the reach of a schedule. The sweep takes the bar from its publication on."""
    both = market(seconds=31)
    both.fetch(NOW + 31 * SECOND)
    close = NOW + minutes(5)
    assert both.on_close(close) == ["AAPL"]
    assert both.swept(close + 30 * SECOND) == ["AAPL"]
    assert both.swept(close + 31 * SECOND) == ["AAPL", "MSFT"]


@pytest.mark.broad
def test_rolled_up_bars_are_due_when_their_5m_bars_can_be_requested(market: Callable[..., Market]) -> None:
    both = market(minutes=22)
    both.fetch(utc("2026-11-25 16:14"))
    assert both.on_close(utc("2026-11-25 16:15"), M15) == ["AAPL"]
    # The bar that closed at 16:00 is published at 16:22.
    assert both.on_close(utc("2026-11-25 16:30"), M15) == ["AAPL", "MSFT"]


class Sleeper:
    """A clock that moves only when `sleep` is called."""

    def __init__(self, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = now
        self.slept: list[float] = []
        monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=self.sleep, monotonic=time.monotonic))

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)


@pytest.mark.broad
def test_a_run_waits_for_the_rest_of_the_delay_and_then_requests_bars(
    market: Callable[..., Market], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = market(seconds=20)
    both.fetch(NOW + 20 * SECOND)
    clock = Sleeper(NOW + minutes(5) + 2.5 * SECOND, monkeypatch)
    waiting.wait_for_publication(both.database, M5, SYMBOLS, clock, both.publications)
    assert clock.slept == [17.5]
    both.fetch(clock())
    assert both.asked() == dict.fromkeys(SYMBOLS, NOW + minutes(5))
    waiting.wait_for_publication(both.database, M5, SYMBOLS, clock, both.publications)
    assert clock.slept == [17.5]


@pytest.mark.parametrize(
    ("symbols", "delay", "later"),
    mostly_broad(
        [
            pytest.param(["AAPL"], 20, 2, id="its own provider publishes at once"),
            pytest.param(SYMBOLS, 20, 20, id="the delay is over"),
            pytest.param(SYMBOLS, 300, 2, id="the delay is longer than a schedule reaches"),
            pytest.param([], 20, 2, id="there is no series"),
        ],
        2,
    ),
)
def test_a_run_that_can_request_bars_at_once_does_not_wait(
    market: Callable[..., Market], monkeypatch: pytest.MonkeyPatch, symbols: list[str], delay: int, later: int
) -> None:
    both = market(seconds=delay)
    both.fetch(NOW + delay * SECOND)
    clock = Sleeper(NOW + minutes(5) + later * SECOND, monkeypatch)
    waiting.wait_for_publication(both.database, M5, symbols, clock, both.publications)
    assert clock.slept == []


@pytest.mark.parametrize(
    ("set_back", "expected"),
    [
        pytest.param([0, 0, 0], [20.0, 10.0], id="the clock stands still"),
        pytest.param([0, 0, 60], [20.0, 10.0], id="the clock is set back during the wait", marks=pytest.mark.broad),
        pytest.param([0, 60, 60], [30.0], id="the clock is set back before the wait"),
    ],
)
def test_a_wait_ends_by_monotonic_time_even_if_the_clock_does_not_advance(
    market: Callable[..., Market], monkeypatch: pytest.MonkeyPatch, set_back: list[int], expected: list[float]
) -> None:
    both = market(seconds=20)
    slept: list[float] = []
    monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=slept.append, monotonic=lambda: sum(slept)))
    read = iter([*set_back, set_back[-1]])
    waiting.wait_for_publication(both.database, M5, SYMBOLS, lambda: NOW + minutes(5 - next(read)), both.publications)
    assert slept == expected


@pytest.mark.broad
def test_rolled_up_bars_wait_for_5m_bars_according_to_the_delay_of_each_provider(
    market: Callable[..., Market], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = market(minutes=22)
    both.fetch(NOW + minutes(7))
    monkeypatch.setattr(waiting, "LONGEST_WAIT_SECONDS", 0.0)
    later = NOW + minutes(15)

    def behind(delays: plan.Publications) -> int:
        return waiting.wait_for_base(both.database, M15, SYMBOLS, lambda: later, delays)

    assert behind(both.publications) == 1
    assert behind({}) == 2
    both.fetch(later)
    assert behind(both.publications) == 0


@pytest.mark.broad
def test_a_series_of_a_slow_provider_is_neither_late_nor_stale_before_its_bars_are_published(
    market: Callable[..., Market],
) -> None:
    both = market(minutes=22)

    def judged(now: datetime) -> tuple[list[tuple[str, str]], int]:
        with both.database.transaction() as transaction:
            closed = plan.closed_bars(transaction, now, both.publications)
            late = health.late_series(transaction, closed).select("symbol", "timeframe").rows()
            found = {
                (each.asset, each.timeframe): each for each in status.by_asset(transaction, now, both.publications)
            }
        return late, found["ohlc", "5m"].stale

    assert judged(NOW + minutes(1)) == ([], 0)
    assert judged(NOW + minutes(2)) == ([], 1)
    # Late means more than two bars behind. MSFT was requested up to 15:35, and its bar of 15:50 is published at 16:12.
    assert judged(NOW + minutes(12) - SECOND) == ([], 2)
    assert judged(NOW + minutes(12)) == ([("MSFT", "5m")], 2)
    assert judged(NOW + minutes(15)) == ([("AAPL", "5m"), ("MSFT", "5m")], 2)


@pytest.mark.broad
def test_requests_overlap_by_the_time_in_which_a_provider_still_changes_its_bars(
    market: Callable[..., Market],
) -> None:
    both = market(seconds=0)
    both.rules = replace(
        both.rules, publications={None: Publication(overlap=minutes(40)), "slow": Publication(overlap=minutes(1))}
    )
    both.fetch(NOW + minutes(5))
    starts = {each.instrument.symbol: each.start for each in [*both.quick.asked, *both.slow.asked]}
    assert starts == {"AAPL": NOW - minutes(40), "MSFT": NOW - M5.fetched.overlap}


def test_the_last_bars_that_can_be_requested_are_derived_per_market(database: Database) -> None:
    """Each provider has its delay, and each market the longer one that its provider has reported."""
    instruments = (Instrument("AAPL", "XNYS"), Instrument("MSFT", "XNYS", "slow"), Instrument("BTC-USD", "24/7"))
    watched = Watchlist(tuple(replace(each, timeframes=(M5, D1, MO1)) for each in instruments), DAYS, **CORE)
    sync(database, watched, NOW)
    settling = {"5m": (minutes(20), minutes(120))}
    published = {None: Publication(settling=settling, reread_after=minutes(180)), "slow": Publication(minutes(22))}
    names = ("calendar", "provider", "timeframe", "ts", "ts_end", "published_at")
    again = ("calendar", "timeframe", "recheck_at", "reread_at", "reread_from")

    def closed(now: datetime, columns: Sequence[str], **more: Any) -> set[str]:
        with database.transaction() as transaction:
            found = plan.closed_bars(transaction, now, published, **more).select(columns)
        rows = found.with_columns(cs.temporal().dt.strftime("%m-%d %H:%M")).rows()
        return {" ".join(map(str, row)) for row in rows}

    with database.transaction() as transaction:
        transaction.execute("UPDATE market.instrument SET delay_seconds = 840 WHERE symbol <> 'AAPL'")
    assert closed(NOW + minutes(1), names) == {
        "24/7 None 5m 11-25 15:40 11-25 15:45 11-25 15:59",
        "24/7 None 1d 11-24 00:00 11-25 00:00 11-25 00:14",
        "24/7 None 1M 10-01 00:00 11-01 00:00 11-01 00:14",
        "XNYS slow 5m 11-25 15:30 11-25 15:35 11-25 15:57",
        "XNYS slow 1d 11-24 14:30 11-24 21:00 11-24 21:22",
        "XNYS slow 1M 10-01 13:30 10-30 20:00 10-30 20:22",
        "XNYS None 5m 11-25 15:55 11-25 16:00 11-25 16:00",
        "XNYS None 1d 11-24 14:30 11-24 21:00 11-24 21:00",
        "XNYS None 1M 10-01 13:30 10-30 20:00 10-30 20:00",
    }
    # A month in progress has not closed because its last session before a weekend has.
    assert "XNYS None 1M 10-01 13:30 10-30 20:00 10-30 20:00" in closed(utc("2026-11-20 22:00"), names)
    # A schedule also takes bars that are published within some seconds, but none that closes in this time.
    soon = closed(NOW + minutes(1.9), names, ahead=plan.SCHEDULE_REACH, timeframes=[M5])
    assert "XNYS slow 5m 11-25 15:35 11-25 15:40 11-25 16:02" in soon
    soon = closed(NOW + minutes(4.9), names, ahead=plan.SCHEDULE_REACH, timeframes=[M5])
    assert "XNYS None 5m 11-25 15:55 11-25 16:00 11-25 16:00" in soon
    # Only the first provider changes its bars: twice after their close, and the last ten sessions in the night.
    assert closed(NOW + minutes(1), again, timeframes=[M5, D1]) == {
        "24/7 5m 11-25 15:59 11-25 03:14 11-15 00:00",
        "24/7 1d 11-25 03:14 11-25 03:14 11-15 00:00",
        "XNYS 5m None None None",
        "XNYS 1d None None None",
        "XNYS 5m 11-25 16:00 11-25 00:00 11-11 14:30",
        "XNYS 1d 11-25 00:00 11-25 00:00 11-11 14:30",
    }
    night = utc("2026-11-25 00:00")
    assert "XNYS 5m 11-25 00:00 11-25 00:00 11-11 14:30" in closed(night, again)
    assert "XNYS 5m 11-24 23:00 11-24 00:00 11-10 14:30" in closed(night - SECOND, again)


def delays_of(rules: FetchRules) -> dict[str | None, timedelta]:
    return {name: each.delay for name, each in rules.publications.items()}


def test_the_fetch_rules_have_the_delays_and_the_long_history_of_the_providers_on_the_watchlist() -> None:
    watched = Watchlist(
        (Instrument("AAPL", "XNYS"), Instrument("BTC-USD", "24/7", "binance"), Instrument("X", "XNYS", "file")), DAYS
    )
    found = FetchRules.of(Settings.from_env({"APCA_API_KEY_ID": "key"}), watched)
    assert delays_of(found) == {None: 3 * SECOND, "binance": 3 * SECOND}
    lengths = {name: each.timeframe for name, each in found.long_histories.items()}
    assert lengths == {None: "30m", "binance": "1h"}, "files have no long history"
    found = FetchRules.of(Settings.from_env({}), watched)
    assert delays_of(found) == {None: timedelta(0), "binance": 3 * SECOND}
