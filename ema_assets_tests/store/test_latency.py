"""Tests of the measured latency from the close of a bar to the commit of its strategy row."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from ema_assets.reports import status
from ema_assets.store import latency
from ema_assets.store.database import Database, Transaction
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, rows_of, watch
from ema_assets_tests.timeframes import H1, M5, M15, ORDER


def closes(*rows: tuple[datetime, int]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=["bucket_end", "series"], orient="row")


def seconds(found: dict[str, object], percentile: str) -> float:
    value = found[f"{percentile}_seconds"]
    assert isinstance(value, float)
    return value


def clock_of(transaction: Transaction) -> datetime:
    moment = transaction.query("SELECT clock_timestamp() AS moment").item()
    assert isinstance(moment, datetime)
    return moment


def test_each_series_counts_once_per_close(database: Database) -> None:
    with database.transaction() as transaction:
        now = clock_of(transaction)
        latency.record(transaction, M5, closes((now - timedelta(seconds=5), 90), (now - timedelta(seconds=20), 9)))
        latency.record(transaction, M5, closes((now - timedelta(seconds=300), 1)))
        took = (clock_of(transaction) - now).total_seconds()
        latency.record(transaction, H1, closes((now - timedelta(seconds=8), 1)))
        latency.record(transaction, H1, closes((now + timedelta(hours=1), 1)))
        found = status.latency(transaction, now)
        assert status.latency(transaction, now + timedelta(days=8)) == []
        assert latency.delete_before(transaction, now + timedelta(days=1), 3) == 3
    assert [(each["timeframe"], each["closes"], each["series"]) for each in found] == [("5m", 3, 100), ("1h", 1, 1)]
    assert 5 <= seconds(found[0], "p50") <= 5 + took
    assert 20 <= seconds(found[0], "p99") <= 20 + took


def test_latency_is_in_seconds_of_the_machine_however_fast_the_market_clock_runs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
    with database.transaction() as transaction:
        now = clock_of(transaction)
        since = now - timedelta(seconds=30)
        monkeypatch.setenv("EMA_CLOCK", f"{start.isoformat()} x60 since {since.isoformat()}")
        # At x60 the bar of 14:50 closed ten seconds ago, and that of two days later closes in an hour.
        closed = closes((start + timedelta(minutes=20), 7), (start + timedelta(hours=60), 7))
        latency.record(transaction, M5, closed)
        took = (clock_of(transaction) - now).total_seconds()
        (found,) = status.latency(transaction, now)
    assert (found["closes"], found["series"]) == (1, 7)
    assert 10 <= seconds(found, "p50") <= 10 + took


def test_only_a_new_bar_of_a_loaded_series_is_measured(database: Database) -> None:
    """The loading of history, a recomputation and a refresh without a new bar are not measured."""
    watched = watch({"BTC-USD": "24/7", "ETH-USD": "24/7"}, m5_days=3, d1_days=3, timeframes=ORDER)
    exchange = MemoryExchange(
        *(
            bars_on("24/7", symbol, M5, date(2025, 11, 20), date(2025, 11, 22), seed)
            for seed, symbol in enumerate(watched.symbols)
        )
    )
    end = datetime(2025, 11, 23, tzinfo=UTC)
    minutes = [M5, M15]
    refresh(database, watched, exchange, end - timedelta(minutes=15), timeframes=minutes)
    refresh(database, watched, exchange, end - timedelta(minutes=15), timeframes=minutes, everything=True)
    assert rows_of(database, "SELECT * FROM market.close_latency") == []
    refresh(database, watched, exchange, end, timeframes=minutes)
    refresh(database, watched, exchange, end, timeframes=minutes)
    found = rows_of(database, "SELECT timeframe, closed_at, series FROM market.close_latency ORDER BY timeframe DESC")
    assert found == [("5m", end, 2), ("15m", end, 2)]
