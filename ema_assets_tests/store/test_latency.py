"""From a bar's close to its strategy row."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from ema_assets.model.timeframes import Timeframe
from ema_assets.reports import status
from ema_assets.store import latency
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, rows_of, watch


def closes(*rows: tuple[datetime, int]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=["bucket_end", "series"], orient="row")


def test_each_series_counts_once_a_close(database: Database) -> None:
    now = datetime.now(UTC)
    with database.transaction() as transaction:
        latency.record(
            transaction, Timeframe.M5, closes((now - timedelta(seconds=5), 90), (now - timedelta(seconds=20), 9))
        )
        latency.record(transaction, Timeframe.M5, closes((now - timedelta(seconds=300), 1)))
        latency.record(transaction, Timeframe.H1, closes((now - timedelta(seconds=8), 1)))
        latency.record(transaction, Timeframe.H1, closes((now + timedelta(hours=1), 1)))
        found = status.latency(transaction, now)
        assert status.latency(transaction, now + timedelta(days=8)) == []
        assert latency.delete_before(transaction, now + timedelta(days=1), 3) == 3
    assert [(each["timeframe"], each["closes"], each["series"]) for each in found] == [("5m", 3, 100), ("1h", 1, 1)]
    assert found[0]["p50_seconds"] == pytest.approx(5, abs=1)
    assert found[0]["p99_seconds"] == pytest.approx(20, abs=1)


def test_seconds_are_the_machines_however_fast_the_markets_clock_runs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
    since = datetime.now(UTC) - timedelta(seconds=30)
    monkeypatch.setenv("EMA_CLOCK", f"{start.isoformat()} x60 since {since.isoformat()}")
    with database.transaction() as transaction:
        # At x60 the bar of 14:50 closed ten seconds ago, and that of 15:10 closes in ten.
        closed = closes((start + timedelta(minutes=20), 7), (start + timedelta(minutes=40), 7))
        latency.record(transaction, Timeframe.M5, closed)
        (found,) = status.latency(transaction, datetime.now(UTC))
    assert (found["closes"], found["series"]) == (1, 7)
    assert found["p50_seconds"] == pytest.approx(10, abs=1)


def test_only_series_that_go_on_are_measured(database: Database) -> None:
    """Not the loading of history, not what is computed again, not a tick without a new bar."""
    today = datetime.now(UTC).date()
    watched = watch({"BTC-USD": "24/7", "ETH-USD": "24/7"}, m5_days=3, d1_days=3)
    exchange = MemoryExchange(
        *(
            bars_on("24/7", symbol, Timeframe.M5, today - timedelta(days=3), today - timedelta(days=1), seed)
            for seed, symbol in enumerate(watched.symbols)
        )
    )
    end = datetime.combine(date.today(), datetime.min.time(), UTC)
    minutes = [Timeframe.M5, Timeframe.M15]
    refresh(database, watched, exchange, end - timedelta(minutes=15), timeframes=minutes)
    refresh(database, watched, exchange, end - timedelta(minutes=15), timeframes=minutes, everything=True)
    assert rows_of(database, "SELECT * FROM market.close_latency") == []
    refresh(database, watched, exchange, end, timeframes=minutes)
    refresh(database, watched, exchange, end, timeframes=minutes)
    found = rows_of(database, "SELECT timeframe, closed_at, series FROM market.close_latency ORDER BY timeframe DESC")
    assert found == [("5m", end, 2), ("15m", end, 2)]
