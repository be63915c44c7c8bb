"""Two runs on one series: a scheduled run skips it, and a manual run waits and reports what it did not compute."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, timedelta
from types import SimpleNamespace

import polars as pl
import pytest

from ema_assets.model.asset_names import EMA_SIGNALS, OHLC, STRATEGY
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.ingest import store_file
from ema_assets.refresh import waiting
from ema_assets.refresh.compute import refresh_computed, refresh_rolled_up
from ema_assets.refresh.graph import build
from ema_assets.store import ledger
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, rows_of, state_of, utc, watch
from ema_assets_tests.timeframes import M5, M15, ORDER
from ema_assets_tests.waiting import wait_until

NOW = utc("2026-11-25 16:00")
WATCHED = watch({"AAPL": "XNYS", "MSFT": "XNYS", "XOM": "XNYS"}, m5_days=3, timeframes=ORDER)
GRAPH = build(WATCHED)
SPOILED = "SELECT count(*) FROM market.ema_signals WHERE timeframe = '5m' AND symbol = 'MSFT' AND ema_9 = 1"


def exchange() -> MemoryExchange:
    return MemoryExchange(
        *(
            bars_on("XNYS", symbol, M5, date(2026, 11, 23), date(2026, 11, 25), seed)
            for seed, symbol in enumerate(WATCHED.symbols)
        )
    )


@pytest.fixture
def loaded(database: Database) -> Database:
    """Three fresh series on 5m and 15m."""
    refresh(database, WATCHED, exchange(), NOW, timeframes=[M5, M15])
    return database


@contextmanager
def held(database: Database, asset: str, symbol: str, timeframe: Timeframe) -> Iterator[threading.Event]:
    """Another run locks one series until the event is set or the block ends."""
    let_go = threading.Event()
    has_it = threading.Event()

    def hold() -> None:
        with Database(database.url) as other, other.transaction() as transaction:
            assert ledger.lock(transaction, asset, timeframe, [symbol]).height == 1
            has_it.set()
            let_go.wait(180)

    run = threading.Thread(target=hold)
    run.start()
    assert has_it.wait(180)
    try:
        yield let_go
    finally:
        let_go.set()
        run.join()


@pytest.mark.broad
def test_a_scheduled_run_skips_a_series_that_another_run_has_locked(loaded: Database) -> None:
    with loaded.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET dirty_from = first_ts WHERE asset = 'ema_signals'")
    with held(loaded, EMA_SIGNALS, "MSFT", M5):
        outcome = refresh_computed(loaded, GRAPH.nodes[EMA_SIGNALS], M5, WATCHED.symbols, NOW)
    assert (sorted(outcome.done), outcome.errors) == (["AAPL", "XOM"], {})
    assert state_of(loaded, "MSFT", M5, EMA_SIGNALS)["dirty_from"] is not None


@pytest.mark.broad
def test_a_manual_run_computes_a_locked_series_as_soon_as_it_is_free(
    loaded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded.transaction() as transaction:
        transaction.execute("UPDATE market.ema_signals SET ema_9 = 1 WHERE timeframe = '5m'")
    with held(loaded, EMA_SIGNALS, "MSFT", M5) as let_go:
        pauses: list[float] = []
        pause = time.sleep

        def sleep(seconds: float) -> None:
            """End the other run while this run waits for it."""
            pauses.append(seconds)
            let_go.set()
            pause(0.02)

        monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
        outcome = refresh_computed(loaded, GRAPH.nodes[EMA_SIGNALS], M5, WATCHED.symbols, NOW, everything=True)
    assert (sorted(outcome.done), outcome.errors) == (["AAPL", "MSFT", "XOM"], {})
    assert pauses
    assert rows_of(loaded, SPOILED) == [(0,)]


@pytest.mark.parametrize(("asset", "timeframe"), [(EMA_SIGNALS, M5), (OHLC, M15)])
def test_a_manual_run_reports_a_series_that_stays_locked_without_counting_a_failure(
    loaded: Database, monkeypatch: pytest.MonkeyPatch, asset: str, timeframe: Timeframe
) -> None:
    monkeypatch.setattr(waiting, "LONGEST_LOCK_SECONDS", 0.1)
    monkeypatch.setattr(waiting, "_POLL_SECONDS", 0.02)
    with held(loaded, asset, "MSFT", timeframe):
        if asset == OHLC:
            outcome = refresh_rolled_up(loaded, timeframe, WATCHED.symbols, NOW, everything=True)
        else:
            outcome = refresh_computed(loaded, GRAPH.nodes[asset], timeframe, WATCHED.symbols, NOW, everything=True)
    assert sorted(outcome.done) == ["AAPL", "XOM"]
    assert list(outcome.errors) == ["MSFT"]
    assert "another run has locked it" in outcome.errors["MSFT"]
    assert state_of(loaded, "MSFT", timeframe, asset)["failures"] == 0


def test_a_manual_run_does_not_wait_for_a_symbol_that_is_taken_off_the_list_meanwhile(
    loaded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has locked it: it is not to be computed any more."""

    def remove(_: float) -> None:
        with loaded.transaction() as transaction:
            transaction.execute("UPDATE market.instrument SET is_active = false WHERE symbol = 'MSFT'")

    with held(loaded, EMA_SIGNALS, "MSFT", M5):
        monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=remove, monotonic=time.monotonic))
        outcome = refresh_computed(loaded, GRAPH.nodes[EMA_SIGNALS], M5, WATCHED.symbols, NOW, everything=True)
    assert (sorted(outcome.done), outcome.errors) == (["AAPL", "XOM"], {})


@pytest.mark.broad
def test_a_run_that_stores_bars_locks_rolled_up_bars_before_what_is_computed_from_bars(loaded: Database) -> None:
    """Another run rolls up 15m bars, and then marks a strategy on 5m that reads a trend of 15m."""

    def store() -> None:
        with Database(loaded.url) as other:
            refresh(other, WATCHED, exchange(), NOW + timedelta(minutes=5), timeframes=[M5])

    with ThreadPoolExecutor() as pool:
        with loaded.transaction() as transaction:
            ledger.lock(transaction, OHLC, M15, ["AAPL"])
            stored = pool.submit(store)
            waits = "SELECT count(*) AS n FROM pg_locks WHERE NOT granted"
            wait_until(lambda: transaction.query(waits).item(), "the bars wait for the run", poll_seconds=0.02)
            ledger.lock(transaction, STRATEGY, M5, ["AAPL"])
        stored.result()


def test_a_file_of_rolled_up_bars_waits_for_a_run_that_stores_what_they_are_made_of(loaded: Database) -> None:
    """The run marks the rolled-up series next, in any order. In another one than the file's, both would deadlock."""
    quarters = bars_on("XNYS", "AAPL", M15, NOW.date(), NOW.date()).filter(pl.col("ts") < NOW)

    def store() -> None:
        with Database(loaded.url) as other:
            store_file(other, quarters, "a file", NOW)

    with ThreadPoolExecutor() as pool:
        with loaded.transaction() as transaction:
            ledger.lock(transaction, OHLC, M5, ["AAPL"])
            stored = pool.submit(store)
            waits = "SELECT count(*) AS n FROM pg_locks WHERE NOT granted"
            wait_until(lambda: stored.done() or transaction.query(waits).item(), "the file waits", poll_seconds=0.02)
            assert not stored.done()
        stored.result()
