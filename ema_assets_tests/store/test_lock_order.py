"""Tests of the order in which rows are locked: that of all runs, or two of them would wait for each other."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import polars as pl
import pytest

from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import BAR_SCHEMA, UTC_TIME
from ema_assets.model.symbols import Instrument
from ema_assets.store import ledger, long_history, older_history, quality
from ema_assets.store.database import Database, Transaction
from ema_assets_tests.timeframes import H1, M5
from ema_assets_tests.waiting import wait_until

NOW = datetime(2026, 11, 25, 15, 30, tzinfo=UTC)
# Not in the order in which runs lock them.
SYMBOLS = ["MSFT", "AAPL"]


def begin(transaction: Transaction, symbols: list[str]) -> None:
    asked = pl.DataFrame({"symbol": symbols, "start": NOW}, schema={"symbol": pl.String(), "start": UTC_TIME})
    older_history.begin(transaction, M5, asked, NOW, is_anew=False)


def settle(transaction: Transaction) -> None:
    schema = {"symbol": pl.String(), "asked_from": UTC_TIME, "long_from": UTC_TIME, "note": pl.String()}
    rows = [(symbol, NOW, NOW, "a note") for symbol in SYMBOLS]
    older_history.settle(transaction, M5, pl.DataFrame(rows, schema=schema, orient="row"), None, NOW)


def fail(transaction: Transaction) -> None:
    older_history.fail(transaction, M5, dict.fromkeys(SYMBOLS, "down"), NOW)


def end_pauses(transaction: Transaction) -> None:
    older_history.end_pauses(transaction, SYMBOLS, [M5], NOW)


def ask_again(transaction: Transaction) -> None:
    older_history.ask_again(transaction, M5, SYMBOLS, NOW)


def write_long_bars(transaction: Transaction) -> None:
    bars = pl.DataFrame([(symbol, "1h", NOW, 1, 1, 1, 1, 1) for symbol in SYMBOLS], schema=BAR_SCHEMA, orient="row")
    long_history.write_long_bars(transaction, M5, H1, bars.with_columns(ts_end=pl.lit(NOW)), "a source")


def reach_back(transaction: Transaction) -> None:
    rows = [(symbol, "1h", NOW) for symbol in SYMBOLS]
    older_history.reach_back(transaction, pl.DataFrame(rows, schema=["symbol", "timeframe", "from_ts"], orient="row"))


def mark_dirty(transaction: Transaction) -> None:
    older_history.mark_dirty(transaction, M5, SYMBOLS)


def add_impact(transaction: Transaction, symbols: list[str] = SYMBOLS) -> None:
    impact = pl.DataFrame({"symbol": symbols}).with_columns(
        pl.lit(1, pl.Int64).alias(name) for name in ("recomputed", "crossovers", "trades")
    )
    quality.add_impact(transaction, M5, impact)


def lock_bars(transaction: Transaction, symbols: list[str]) -> None:
    ledger.lock(transaction, OHLC, M5, symbols)


def lock_hours(transaction: Transaction, symbols: list[str]) -> None:
    ledger.lock(transaction, OHLC, H1, symbols)


@pytest.mark.parametrize(
    ("write", "lock"),
    [
        *((each, begin) for each in (settle, fail, end_pauses, ask_again, write_long_bars)),
        (settle, lock_bars),
        (reach_back, lock_hours),
        (mark_dirty, lock_hours),
        (add_impact, add_impact),
    ],
)
def test_what_writes_several_rows_waits_for_a_run_without_a_deadlock(
    database: Database,
    database_url: str,
    write: Callable[[Transaction], None],
    lock: Callable[[Transaction, list[str]], None],
) -> None:
    """The run works on one series and then on the next one."""
    with database.transaction() as transaction:
        # Stored in the other order, so that neither the table nor what is given has the order of runs.
        ledger.sync_instruments(transaction, [Instrument(symbol) for symbol in SYMBOLS])
        for symbol in SYMBOLS:
            begin(transaction, [symbol])
        transaction.execute("UPDATE market.older_history SET failures = 1, asked_from = $1", NOW)
        transaction.execute("UPDATE market.series_state SET asked_from = $1", NOW)
        for symbol in sorted(SYMBOLS):
            revision = {"symbol": [symbol], "kind": "correction", "detail": "", "changed_from": NOW}
            quality.record_revisions(transaction, M5, pl.DataFrame({**revision, "corrected": 1, "late": 0}), "a source")

    def work() -> None:
        with Database(database_url) as other, other.transaction() as transaction:
            write(transaction)

    with ThreadPoolExecutor() as pool:
        with database.transaction() as transaction:
            lock(transaction, ["AAPL"])
            done = pool.submit(work)
            waiting = "SELECT count(*) AS n FROM pg_locks WHERE NOT granted"
            wait_until(lambda: bool(transaction.query(waiting).item()), "the other waits", poll_seconds=0.02)
            lock(transaction, ["MSFT"])
            begin(transaction, ["AAPL"])
        done.result()
