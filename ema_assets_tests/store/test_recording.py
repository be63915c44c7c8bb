"""Tests of what is reported to Dagster, of what it was computed from, and of reports that Dagster has lost."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import adbc_driver_manager
import pytest

from ema_assets.model.asset_names import EMA_SIGNALS, EMA_TREND, OHLC, STRATEGY
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import Timeframe
from ema_assets.store import ledger
from ema_assets.store.database import Database, Transaction
from ema_assets_tests.timeframes import H1, M5

NOW = datetime(2026, 11, 25, 15, 30, tzinfo=UTC)
EARLY = NOW - timedelta(minutes=5)
# What reads bars, and is reported again after them.
READERS = (EMA_SIGNALS, STRATEGY)


@pytest.fixture
def transaction(database: Database) -> Iterator[Transaction]:
    """Two symbols on two timeframes, of which Dagster knows everything: event 10 of revision 1, and event 20 again."""
    with database.transaction() as begun:
        ledger.sync_instruments(begun, [Instrument(name, timeframes=(M5, H1)) for name in ("AAPL", "MSFT")])
        begun.execute(
            """
            UPDATE market.series_state SET computed_at = $1, recorded_at = $1, revision = 1, recorded_revision = 1,
                   recorded_event = 20, recorded_first_event = 10, last_ts = $1
            """,
            NOW,
        )
        yield begun


def lost(transaction: Transaction) -> set[tuple[str, str, str]]:
    """Return the series that are to be reported again."""
    found = transaction.query("SELECT asset, symbol, timeframe FROM market.series_state WHERE recorded_at IS NULL")
    return set(found.iter_rows())


def forgotten(transaction: Transaction) -> set[tuple[str, str, str]]:
    """Return the series of which Dagster has no event any more."""
    found = transaction.query(
        """
        SELECT asset, symbol, timeframe FROM market.series_state
        WHERE recorded_event IS NULL AND recorded_first_event IS NULL AND recorded_revision IS NULL
        """
    )
    return set(found.iter_rows())


def with_readers(*series: tuple[str, str]) -> set[tuple[str, str, str]]:
    return {(asset, *each) for each in series for asset in (OHLC, *READERS)}


def test_reports_of_an_asset_wait_for_others_of_the_same_timeframe(database: Database, database_url: str) -> None:
    def lock(other: Database, asset: str, timeframe: Timeframe) -> None:
        with other.transaction() as transaction:
            transaction.execute("SET LOCAL lock_timeout = 100")
            ledger.lock_recording(transaction, asset, timeframe)

    with Database(database_url) as other:
        with database.transaction() as held:
            ledger.lock_recording(held, EMA_TREND, M5)
            with pytest.raises(adbc_driver_manager.Error, match="lock timeout"):
                lock(other, EMA_TREND, M5)
            lock(other, EMA_TREND, H1)
            lock(other, EMA_SIGNALS, M5)
        lock(other, EMA_TREND, M5)


def test_a_report_of_bars_has_the_last_close_and_each_says_how_far_the_fetched_bars_are_final(
    transaction: Transaction,
) -> None:
    bars = [("AAPL", "5m", NOW, 2), ("AAPL", "5m", EARLY, 3), ("AAPL", "1h", NOW, 4), ("MSFT", "5m", NOW, 5)]
    for symbol, timeframe, ts, close in bars:
        transaction.execute(
            "INSERT INTO market.ohlc SELECT $1, $2, $3, 1, 9, 1, $4::bigint, 5", symbol, timeframe, ts, close
        )
    transaction.execute("UPDATE market.series_state SET final_through = $1", NOW)
    transaction.execute(
        "UPDATE market.series_state SET final_through = $1 WHERE symbol = 'AAPL' AND timeframe = '5m' AND asset = 'ohlc'",
        EARLY,
    )

    def told(asset: str, timeframe: Timeframe) -> list[tuple[object, ...]]:
        found = ledger.to_record(transaction, asset, timeframe, ["MSFT", "AAPL"], everything=True)
        return found.select("symbol", "last_close", "final_through").rows()

    assert told(OHLC, M5) == [("AAPL", 2.0, EARLY), ("MSFT", 5.0, NOW)]
    assert told(OHLC, H1) == [("AAPL", 4.0, EARLY), ("MSFT", None, NOW)]
    transaction.execute("DELETE FROM market.series_state WHERE symbol = 'MSFT' AND asset = 'ohlc'")
    assert told(EMA_TREND, M5) == told(EMA_TREND, H1) == [("AAPL", None, EARLY), ("MSFT", None, None)]


def test_a_series_that_was_never_computed_reads_revision_zero_of_its_inputs(transaction: Transaction) -> None:
    """None of them must be reported first, unless it has been computed itself."""
    transaction.execute(
        "UPDATE market.series_state SET computed_at = NULL, recorded_at = NULL, recorded_revision = NULL"
    )
    found = ledger.to_record(transaction, EMA_TREND, H1, ["AAPL"], everything=True)
    assert [found[name].item().to_list() for name in ("reads", "read_versions")] == [[EMA_SIGNALS], ["0"]]
    assert found["untold"].item() is None
    transaction.execute("UPDATE market.series_state SET computed_at = $1 WHERE asset = 'ema_signals'", NOW)
    found = ledger.to_record(transaction, EMA_TREND, H1, ["AAPL"], everything=True)
    assert found["untold"].item().to_list() == ["ema_signals|1h"]


def test_an_asset_that_dagster_has_lost_is_reported_again_with_its_readers(transaction: Transaction) -> None:
    transaction.execute("UPDATE market.series_state SET recorded_at = NULL WHERE asset = 'ohlc' AND symbol = 'MSFT'")
    assert ledger.forget_asset(transaction, OHLC) == 2
    known = {(OHLC, "MSFT", "5m"), (OHLC, "MSFT", "1h")}
    assert lost(transaction) == with_readers(("AAPL", "5m"), ("AAPL", "1h")) | known
    assert forgotten(transaction) == {(OHLC, "AAPL", "5m"), (OHLC, "AAPL", "1h")}


def test_a_lost_run_concerns_series_of_which_it_has_the_newest_event_or_the_first_of_the_revision(
    transaction: Transaction,
) -> None:
    transaction.execute("CREATE SCHEMA IF NOT EXISTS dagster")
    transaction.execute(
        """
        CREATE TABLE dagster.event_logs (id bigint, run_id text, dagster_event_type text, asset_key text, partition text)
        """
    )
    events = [(20, "newest", "AAPL|5m"), (10, "first", "MSFT|1h"), (15, "between", "AAPL|1h"), (10, "all", None)]
    for number, run, partition in events:
        transaction.execute(
            """
            INSERT INTO dagster.event_logs
            VALUES ($1, $2, 'ASSET_MATERIALIZATION', '["market", "ohlc"]', nullif($3::text, ''))
            """,
            number,
            run,
            partition or "",
        )
    assert [ledger.forget_run(transaction, run) for run in ("between", "all", "none")] == [0, 0, 0]
    assert lost(transaction) == set()
    assert ledger.forget_run(transaction, "newest") == 1
    assert lost(transaction) == with_readers(("AAPL", "5m"))
    assert ledger.forget_run(transaction, "first") == 1
    assert lost(transaction) == with_readers(("AAPL", "5m"), ("MSFT", "1h"))
    assert forgotten(transaction) == {(OHLC, "AAPL", "5m"), (OHLC, "MSFT", "1h")}


def test_a_series_that_somebody_reported_by_hand_is_reported_again_alone(transaction: Transaction) -> None:
    ledger.forget_series(transaction, EMA_TREND, "AAPL", "1h")
    assert lost(transaction) == {(EMA_TREND, "AAPL", "1h")}
    assert forgotten(transaction) == set()


def test_a_report_is_noted_for_its_series_and_when_it_was_loaded_is_kept(transaction: Transaction) -> None:
    transaction.execute("UPDATE market.series_state SET loaded_at = $1 WHERE symbol = 'AAPL'", EARLY)
    transaction.execute("UPDATE market.series_state SET recorded_at = NULL, revision = 2")
    told = ledger.to_record(transaction, EMA_TREND, H1, ["AAPL", "MSFT"])
    told = told.with_columns(event=told["revision"] + 28)
    ledger.mark_recorded(transaction, EMA_TREND, H1, told)
    found = transaction.query(
        """
        SELECT asset, symbol, timeframe, recorded_revision, recorded_event, recorded_first_event, loaded_at = $1 AS is_kept
        FROM market.series_state WHERE recorded_at = $2 ORDER BY symbol
        """,
        EARLY,
        NOW,
    )
    assert found.rows() == [(EMA_TREND, "AAPL", "1h", 2, 30, 30, True), (EMA_TREND, "MSFT", "1h", 2, 30, 30, False)]


def test_the_newest_event_of_each_asset_is_known(transaction: Transaction) -> None:
    transaction.execute("UPDATE market.series_state SET recorded_event = 30 WHERE asset = 'ohlc' AND symbol = 'MSFT'")
    transaction.execute("UPDATE market.series_state SET recorded_event = NULL WHERE asset = 'ema_trend'")
    assert ledger.newest_events(transaction) == {OHLC: 30, EMA_SIGNALS: 20, STRATEGY: 20}


def test_one_storage_of_dagster_receives_the_reports_at_a_time(transaction: Transaction) -> None:
    found = [ledger.adopt_storage(transaction, each) for each in ("one", "one", "two", "two", "one")]
    assert found == [False, False, True, False, True]
