"""Symbols of several providers in one refresh, and providers that do not answer."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.asset_names import OHLC, STRATEGY
from ema_assets.model.errors import Banned, ConfigurationError, ProviderError, ProviderUnavailable, Unauthorized
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.sync_watchlist import sync
from ema_assets.providers.fetching.base import BarRequest, FetchBatch, ProviderClient
from ema_assets.providers.http.refusals import Unreachable
from ema_assets.refresh import fetch
from ema_assets.refresh.answers import Answer, Stored
from ema_assets.refresh.fetch import refresh_fetched
from ema_assets.refresh.outages import not_asked, root_of
from ema_assets.refresh.outcome import Outcome
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.refresh.store_answer import store_bars
from ema_assets.store import provider_state
from ema_assets.store.database import Database
from ema_assets_tests.core import CORE
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, rows_of, state_of, utc
from ema_assets_tests.timeframes import D1, FETCHED, M5

WEEK = (date(2026, 11, 23), date(2026, 11, 27))
NOW = utc("2026-11-25 16:00")
STEP = timedelta(minutes=5)
DAYS = dict(zip(FETCHED, (4, 60), strict=True))
WATCHED = Watchlist(
    (
        Instrument("AAPL", "XNYS"),
        Instrument("MSFT", "XNYS"),
        Instrument("JPM", "XNYS"),
        Instrument("BTC-USD", "24/7", "binance"),
    ),
    DAYS,
    **CORE,
)
STOCKS = ["AAPL", "JPM", "MSFT"]


def exchange(name: str) -> MemoryExchange:
    found = MemoryExchange(
        *(
            bars_on(each.calendar, each.symbol, timeframe, *WEEK, seed)
            for seed, each in enumerate(WATCHED.instruments)
            for timeframe in FETCHED
        )
    )
    found.name = name
    return found


class Market:
    """Two providers, and helpers that refresh from both and list the requests."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.alpaca, self.binance = exchange("alpaca"), exchange("binance")
        self.wrong: dict[str | None, str] = {}

    def __call__(self, name: str | None) -> ProviderClient:
        if name in self.wrong:
            raise ConfigurationError(self.wrong[name])
        return {None: self.alpaca, "binance": self.binance}[name](name)

    def fetch(self, now: datetime, timeframe: Timeframe = M5) -> Outcome:
        self.alpaca.asked, self.binance.asked = [], []
        return refresh_fetched(
            self.database, self, timeframe, [each.symbol for each in WATCHED.instruments], FetchRules(DAYS), now
        )

    def asked(self) -> tuple[list[str], list[str]]:
        """The symbols that were requested from each of the two providers."""
        return tuple(sorted(each.instrument.symbol for each in one.asked) for one in (self.alpaca, self.binance))  # type: ignore[return-value]


@pytest.fixture
def market(database: Database) -> Market:
    sync(database, WATCHED, NOW)
    return Market(database)


def fail_all(one: MemoryExchange, make: Callable[..., ProviderError]) -> None:
    one.failing = {each.symbol: "it is down" for each in WATCHED.instruments}
    one.failure = make  # type: ignore[assignment]


@pytest.mark.broad
def test_one_refresh_requests_each_symbol_from_its_own_provider(market: Market) -> None:
    outcome = market.fetch(NOW)
    assert market.asked() == (STOCKS, ["BTC-USD"])
    assert sorted(outcome.done) == [*STOCKS[:1], "BTC-USD", *STOCKS[1:]]
    assert outcome.calls == 2
    assert (market.alpaca.closed, market.binance.closed) == (1, 1)


@pytest.mark.broad
def test_a_provider_without_keys_fails_only_its_own_symbols(market: Market) -> None:
    market.wrong = {None: "set APCA_API_KEY_ID"}
    outcome = market.fetch(NOW)
    assert outcome.done == ["BTC-USD"]
    assert outcome.errors == dict.fromkeys(STOCKS, "set APCA_API_KEY_ID")
    state = state_of(market.database, "AAPL", M5)
    assert (state["failures"], state["last_error"]) == (1, "set APCA_API_KEY_ID")
    market.wrong = {}
    assert sorted(market.fetch(NOW + timedelta(minutes=2)).done) == STOCKS


@pytest.mark.broad
@pytest.mark.parametrize("error", [Unreachable, ProviderUnavailable, Unauthorized])
def test_an_outage_leads_to_one_probe_per_pause_while_the_other_provider_continues(
    market: Market, error: type[ProviderError]
) -> None:
    market.fetch(NOW)
    fail_all(market.alpaca, error)
    start = NOW + STEP
    assert market.fetch(start).errors == dict.fromkeys(STOCKS, "it is down")
    ((failures, until),) = rows_of(market.database, "SELECT failures, open_until FROM market.provider_state")
    assert (failures, until) == (1, start + timedelta(seconds=30))
    assert {state_of(market.database, each, M5)["next_attempt_at"] for each in STOCKS} == {until}

    # The daily series do not pause yet. They fail without a call.
    daily = market.fetch(start + timedelta(seconds=10), D1)
    assert market.asked() == ([], ["BTC-USD"])
    said = "alpaca was not asked: it is left alone until 16:05:30 UTC, after this error: it is down"
    assert daily.errors == dict.fromkeys(STOCKS, said)
    assert daily.done == ["BTC-USD"]
    assert state_of(market.database, "AAPL", D1)["next_attempt_at"] == until

    for number in range(2, 8):
        now = rows_of(market.database, "SELECT open_until FROM market.provider_state")[0][0]
        assert isinstance(now, datetime)
        market.fetch(now)
        assert len(market.alpaca.asked) == 1
        ((failures, until),) = rows_of(market.database, "SELECT failures, open_until FROM market.provider_state")
        assert failures == number
        assert until == now + timedelta(seconds=min(30 * 2 ** (number - 1), 900))

    market.alpaca.failing = {}
    assert isinstance(until, datetime)
    healed = market.fetch(until)
    assert market.asked()[0] == STOCKS
    assert sorted(healed.done) == ["AAPL", "BTC-USD", "JPM", "MSFT"]
    assert rows_of(market.database, "SELECT failures, open_until, last_error FROM market.provider_state") == [
        (0, None, None)
    ]
    assert market.alpaca.calls == 2, "the probe, and all others together"


@pytest.mark.broad
def test_failures_of_concurrent_runs_count_as_one_failure(market: Market, database_url: str) -> None:
    """Three runs fail at the same moment. A short outage must not lead to a long pause."""
    fail_all(market.alpaca, Unreachable)
    at, pauses = NOW, []
    for _ in range(3):
        together = threading.Barrier(3)

        class Together(MemoryExchange):
            barrier = together

            async def fetch(self, requests: Sequence[BarRequest]) -> AsyncIterator[FetchBatch]:
                await asyncio.to_thread(self.barrier.wait, 60)
                async for batch in super().fetch(requests):
                    yield batch

        def one(timeframe: Timeframe, now: datetime, kind: type[MemoryExchange] = Together) -> None:
            down = kind()
            down.name = "alpaca"
            fail_all(down, Unreachable)
            with Database(database_url) as database:
                refresh_fetched(database, lambda _: down, timeframe, ["AAPL", "MSFT"], FetchRules(DAYS), now)

        runs = [threading.Thread(target=one, args=(each, at)) for each in (M5, M5, D1)]
        for run in runs:
            run.start()
        for run in runs:
            run.join(60)
        ((failures, until),) = rows_of(market.database, "SELECT failures, open_until FROM market.provider_state")
        assert isinstance(until, datetime)
        pauses.append((failures, (until - at).total_seconds()))
        at = until
    assert pauses == [(1, 30), (2, 60), (3, 120)]


def test_a_failure_counts_only_once_per_pause_that_a_run_has_seen(database: Database) -> None:
    def tripped(seen: provider_state.Breaker, now: datetime, least: float | None = None) -> tuple[int, datetime]:
        with database.transaction() as transaction:
            until = provider_state.trip(transaction, "alpaca", "down", now, seen, least)
            found = provider_state.breaker(transaction, "alpaca")
        assert found.open_until == until
        return found.failures, until

    def seen() -> provider_state.Breaker:
        with database.transaction() as transaction:
            return provider_state.breaker(transaction, "alpaca")

    second = timedelta(seconds=1)
    before = seen()
    assert tripped(before, NOW) == (1, NOW + 30 * second)
    assert tripped(before, NOW + 3 * second) == (1, NOW + 30 * second), "another run has counted it"
    assert tripped(before, NOW + 3 * second, 600) == (1, NOW + 603 * second), "but a ban is kept to"
    first = seen()
    assert tripped(first, NOW + 700 * second) == (2, NOW + 760 * second)
    assert tripped(first, NOW + 701 * second) == (2, NOW + 760 * second)
    assert tripped(before, NOW + 702 * second) == (2, NOW + 760 * second), "a run that began long ago"
    with database.transaction() as transaction:
        provider_state.reset(transaction, "alpaca")
    assert tripped(first, NOW + 800 * second) == (1, NOW + 830 * second), "it has answered since"


def test_the_pause_of_a_provider_ends_and_those_of_others_go_on(database: Database) -> None:
    names = ("alpaca", "binance", "yahoo")
    with database.transaction() as transaction:
        for name in names:
            provider_state.trip(transaction, name, "down", NOW, provider_state.Breaker())
        provider_state.reset(transaction, "alpaca")
        provider_state.end_pauses(transaction, ["yahoo"], NOW)
        found = {name: provider_state.breaker(transaction, name) for name in names}
    assert {name: (each.failures, each.open_until) for name, each in found.items()} == {
        "alpaca": (0, None),
        "binance": (1, NOW + timedelta(seconds=30)),
        "yahoo": (1, NOW),
    }


@pytest.mark.broad
def test_a_series_of_a_paused_provider_reports_the_reason_and_the_end_of_the_pause(market: Market) -> None:
    fail_all(market.alpaca, ProviderUnavailable)
    market.alpaca.failing = dict.fromkeys(STOCKS, "alpaca answered 503: no")
    assert market.fetch(NOW).errors == dict.fromkeys(STOCKS, "alpaca answered 503: no")
    until = NOW + timedelta(seconds=30)
    probed = market.fetch(until).errors
    assert len(market.alpaca.asked) == 1
    probe = market.alpaca.asked[0].instrument.symbol
    said = "alpaca was not asked: it is left alone until 16:01:30 UTC, after it answered 503: no"
    assert probed == dict.fromkeys(STOCKS, said) | {probe: "alpaca answered 503: no"}
    again = market.fetch(until + timedelta(seconds=1), D1)
    assert market.alpaca.asked == []
    assert again.errors == dict.fromkeys(STOCKS, said), "the reason is not told within itself"
    assert not_asked("binance", "binance has shut us out (418): no", NOW + timedelta(days=1), NOW) == (
        "binance was not asked: it is left alone until 2026-11-26 16:00:00 UTC, after it has shut us out (418): no"
    )
    for error in ("binance has shut us out (418): no", "no route to host"):
        assert root_of(not_asked("binance", error, NOW, NOW)) == root_of(error) == error


@pytest.mark.broad
def test_a_ban_lasts_as_long_as_the_provider_states(market: Market) -> None:
    fail_all(market.binance, lambda text, provider: Banned(text, provider=provider, retry_after_seconds=600.0))
    market.fetch(NOW)
    until = NOW + timedelta(seconds=600)
    assert state_of(market.database, "BTC-USD", M5)["next_attempt_at"] == until
    market.fetch(until - timedelta(seconds=1), D1)
    assert market.binance.asked == []
    market.binance.failing = {}
    assert "BTC-USD" in market.fetch(until).done


@pytest.mark.broad
def test_a_failing_symbol_does_not_delay_the_others_after_an_outage(market: Market) -> None:
    fail_all(market.alpaca, ProviderUnavailable)
    market.fetch(NOW)
    market.alpaca.failing = {"AAPL": "alpaca answered 500: no"}
    now, asked = NOW, []
    for _ in range(2):
        now += timedelta(minutes=2)
        outcome = market.fetch(now)
        asked.append(market.asked()[0])
    assert asked[0] == ["AAPL"], "all have failed, and it is the first of them"
    assert asked[1] == STOCKS, "the others first"
    assert outcome.errors.keys() == {"AAPL"}
    assert rows_of(market.database, "SELECT failures FROM market.provider_state WHERE provider = 'alpaca'") == [(0,)]
    assert {symbol: state_of(market.database, symbol, M5)["failures"] for symbol in STOCKS[1:]} == {"JPM": 0, "MSFT": 0}


@pytest.mark.broad
def test_pauses_count_from_the_time_of_the_answer(market: Market) -> None:
    """An answer may come half a minute after the start of a run, or minutes after the start of a command."""

    def after(seconds: int) -> datetime:
        refresh_fetched(
            market.database,
            market,
            M5,
            [each.symbol for each in WATCHED.instruments],
            FetchRules(DAYS),
            NOW,
            clock=lambda: NOW + timedelta(seconds=seconds),
        )
        ((until,),) = rows_of(
            market.database, "SELECT open_until FROM market.provider_state WHERE provider = 'binance'"
        )
        assert isinstance(until, datetime)
        return until

    fail_all(market.binance, lambda text, provider: Banned(text, provider=provider, retry_after_seconds=60.0))
    market.alpaca.failing = {"AAPL": "it is down"}
    assert after(25) == NOW + timedelta(seconds=85)
    pause = state_of(market.database, "AAPL", M5)["next_attempt_at"] - (NOW + timedelta(seconds=25))
    assert 22 <= pause.total_seconds() <= 38


def test_a_server_error_for_one_symbol_is_not_an_outage(market: Market) -> None:
    fail_all(market.binance, ProviderUnavailable)
    market.alpaca.failing = {"AAPL": "it is down"}
    outcome = market.fetch(NOW)
    assert sorted(outcome.errors) == ["AAPL", "BTC-USD"]
    assert rows_of(market.database, "SELECT * FROM market.provider_state") == []


def test_answers_of_other_providers_are_stored_when_storing_one_fails_with_a_bug(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug is in this package. A bug in the code of a provider fails only its series, see `test_contract`."""

    def broken(transaction: object, timeframe: Timeframe, answer: Answer, *rest: Any) -> Stored:
        if answer.source == "binance":
            raise MemoryError("a bug")
        return store_bars(transaction, timeframe, answer, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(fetch, "store_bars", broken)
    with pytest.raises(MemoryError, match="a bug"):
        market.fetch(NOW)
    assert all(state_of(market.database, symbol, M5)["last_ts"] is not None for symbol in STOCKS)
    assert (market.alpaca.closed, market.binance.closed) == (1, 1)


@pytest.mark.broad
def test_a_symbol_moved_to_another_provider_is_requested_there(market: Market) -> None:
    refresh(market.database, WATCHED, market, NOW)  # type: ignore[arg-type]
    moved = Watchlist(
        (*WATCHED.instruments[:2], Instrument("JPM", "XNYS", "binance"), WATCHED.instruments[3]), DAYS, **CORE
    )
    market.alpaca.asked, market.binance.asked = [], []
    outcomes = refresh(market.database, moved, market, NOW + STEP, timeframes=[M5])  # type: ignore[arg-type]
    assert market.asked() == (["AAPL", "MSFT"], ["BTC-USD", "JPM"])
    assert len(outcomes[OHLC, M5].done) == len(outcomes[STRATEGY, M5].done) == 4


def test_when_only_gaps_are_due_after_an_outage_one_of_them_is_the_probe(market: Market) -> None:
    """The breaker must not close without a call. If the probe fails, no other request of the batch may be sent."""
    complete = market.alpaca.bars
    hole = NOW - timedelta(hours=1)
    market.alpaca.bars = complete.filter(pl.col("ts") != hole)
    market.fetch(NOW)
    ((due,),) = rows_of(market.database, "SELECT max(next_attempt_at) FROM market.bar_gap")
    assert isinstance(due, datetime)

    def all_is_asked_for(until: datetime) -> None:
        with market.database.transaction() as transaction:
            transaction.execute("UPDATE market.series_state SET checked_through = $1, asked_at = $1", until)

    all_is_asked_for(due)
    with market.database.transaction() as transaction:
        provider_state.trip(transaction, "alpaca", "it is down", due - timedelta(minutes=1), provider_state.Breaker())
    fail_all(market.alpaca, Unreachable)
    assert set(market.fetch(due).errors) == set(STOCKS)
    assert len(market.alpaca.asked) == 1
    ((failures, until),) = rows_of(market.database, "SELECT failures, open_until FROM market.provider_state")
    assert (failures, until) == (2, due + timedelta(seconds=60))

    market.alpaca.failing = {}
    market.alpaca.bars = complete
    later = max(due + timedelta(minutes=40), until)
    all_is_asked_for(later)
    market.fetch(later)
    assert sorted(market.asked()[0]) == STOCKS
    assert market.alpaca.calls == 2, "the probe, and the others together"
    assert rows_of(market.database, "SELECT failures FROM market.provider_state") == [(0,)]
    assert rows_of(market.database, "SELECT count(*) FROM market.bar_gap WHERE symbol <> 'BTC-USD'") == [(0,)]


def test_storing_the_answers_of_one_provider_does_not_delay_those_of_another(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store of the first provider waits for the answer of the second. On the event loop it would wait forever.

    Both providers have their requests by then: planning requests needs the database, which the store has to itself.
    """
    is_asked, has_begun, is_heard = threading.Event(), threading.Event(), threading.Event()

    class Slow(MemoryExchange):
        async def fetch(self, requests: Sequence[BarRequest]) -> AsyncIterator[FetchBatch]:
            is_asked.set()
            await asyncio.to_thread(has_begun.wait, 60)
            async for batch in super().fetch(requests):
                is_heard.set()
                yield batch

    class Quick(MemoryExchange):
        async def fetch(self, requests: Sequence[BarRequest]) -> AsyncIterator[FetchBatch]:
            await asyncio.to_thread(is_asked.wait, 60)
            async for batch in super().fetch(requests):
                yield batch

    was_heard = []

    def waiting_store(*arguments: Any, **more: Any) -> Stored:
        has_begun.set()
        was_heard.append(is_heard.wait(timeout=60))
        return store_bars(*arguments, **more)

    quick, slow = Quick(market.alpaca.bars), Slow(market.binance.bars)
    quick.name, slow.name = "alpaca", "binance"
    market.alpaca, market.binance = quick, slow
    monkeypatch.setattr(fetch, "store_bars", waiting_store)
    assert sorted(market.fetch(NOW).done) == ["AAPL", "BTC-USD", "JPM", "MSFT"]
    assert was_heard == [True, True]
