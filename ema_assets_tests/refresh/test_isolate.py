"""A series that makes its batch fail costs only itself."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import adbc_driver_manager
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_assets.model.asset_names import EMA_SIGNALS, EMA_TREND, OHLC, STRATEGY
from ema_assets.model.errors import SignalError, StoreUnavailable, UnsoundSignal
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.isolate import bisect
from ema_assets.store import interrupts
from ema_assets.store.database import Database
from ema_assets_tests.conftest import mostly_broad
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, state_of, utc, watch
from ema_assets_tests.timeframes import M5, M15, ORDER
from ema_assets_tests.waiting import wait_until

SYMBOLS = [f"S{number}" for number in range(9)]
WATCHED = watch(dict.fromkeys(SYMBOLS, "XNYS"), m5_days=3, timeframes=ORDER)
NOW = utc("2026-11-25 16:00")
FEW = [M5, M15]


@given(st.integers(1, 40), st.sets(st.integers(0, 39), max_size=6))
def test_bisecting_leaves_out_exactly_the_failing_series(size: int, bad: set[int]) -> None:
    symbols = [str(number) for number in range(size)]
    done: list[str] = []
    calls = 0

    def work(part: list[str]) -> None:
        nonlocal calls
        calls += 1
        if any(int(symbol) in bad for symbol in part):
            raise ValueError("one of these is bad\nand here is more")
        done.extend(part)

    culprits = {symbol for symbol in symbols if int(symbol) in bad}
    assert bisect(symbols, work) == dict.fromkeys(culprits, "ValueError: one of these is bad")
    assert sorted(done) == sorted(set(symbols) - culprits)
    assert calls <= 1 + 2 * len(culprits) * size.bit_length()


def test_an_unsound_signal_fails_all_series_of_a_batch_without_bisecting(caplog: pytest.LogCaptureFixture) -> None:
    batches: list[list[str]] = []

    def work(batch: list[str]) -> None:
        batches.append(batch)
        if len(batch) > 1:
            raise UnsoundSignal("it mixes up symbols")

    assert bisect(SYMBOLS, work) == dict.fromkeys(SYMBOLS, "UnsoundSignal: it mixes up symbols")
    assert batches == [SYMBOLS]
    (record,) = caplog.records
    assert record.getMessage() == "S0, S1, S2, S3, S4 and 4 more cannot be processed: it mixes up symbols"
    assert record.exc_info is None


def test_a_single_failing_series_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    def work(batch: list[str]) -> None:
        if "S4" in batch:
            raise ValueError("a bad price")

    assert bisect(SYMBOLS, work) == {"S4": "ValueError: a bad price"}
    assert caplog.messages == ["S4 cannot be processed: a bad price"]


@pytest.mark.parametrize("raised", [ValueError, SignalError])
def test_a_failure_of_all_series_is_logged_once_in_full_and_once_for_the_others(
    raised: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    def work(_batch: list[str]) -> None:
        raise raised("a name is misspelt")

    assert bisect(SYMBOLS, work) == dict.fromkeys(SYMBOLS, f"{raised.__name__}: a name is misspelt")
    first, others = caplog.records
    assert first.getMessage() == "S0 cannot be processed: a name is misspelt"
    assert others.getMessage() == (
        f"S1, S2, S3, S4, S5 and 3 more cannot be processed either: {raised.__name__}: a name is misspelt"
    )
    assert others.exc_info is None
    # The error of a signal is complete. Any other error has one trace, without the traces of the batches.
    trace = first.exc_info[1] if first.exc_info else None
    assert isinstance(trace, ValueError) == (raised is ValueError)
    assert trace is None or trace.__context__ is None


def test_an_error_that_no_series_caused_is_raised_at_once() -> None:
    calls = 0

    def work(_part: list[str]) -> None:
        nonlocal calls
        calls += 1
        raise StoreUnavailable("gone")

    with pytest.raises(StoreUnavailable):
        bisect(SYMBOLS, work)
    assert calls == 1


@pytest.mark.parametrize(
    ("state", "is_raised"),
    [
        *((state, True) for state in ("08006", "25P02", "40P01", "53200", "55P03", "57P01", "58030", None)),
        *((state, False) for state in ("22003", "23514", "42P01")),
    ],
)
def test_database_errors_about_the_server_are_raised_and_errors_about_rows_fail_the_series(
    state: str | None, is_raised: bool
) -> None:
    def work(_part: list[str]) -> None:
        raise adbc_driver_manager.OperationalError(
            "said", status_code=adbc_driver_manager.AdbcStatusCode.INTERNAL, sqlstate=state
        )

    if is_raised:
        with pytest.raises(adbc_driver_manager.OperationalError):
            bisect(SYMBOLS, work)
    else:
        assert bisect(SYMBOLS, work) == dict.fromkeys(SYMBOLS, "OperationalError: said")


def test_an_error_that_streams_in_with_rows_is_of_a_statement_without_parameters_and_fails_no_series(
    database: Database,
) -> None:
    def work(_part: list[str]) -> None:
        with database.transaction() as transaction:
            transaction.query("SELECT 1 / (3 - n) FROM generate_series(1, 5) AS n")

    with pytest.raises(pl.exceptions.ComputeError):
        bisect(SYMBOLS, work)

    def mistaken(_part: list[str]) -> None:
        raise pl.exceptions.ComputeError("a mistake in a signal")

    assert bisect(["S0"], mistaken) == {"S0": "ComputeError: a mistake in a signal"}


def test_rows_of_a_statement_with_parameters_do_not_stream_in(database: Database) -> None:
    """So that its errors have a state, by which it is known whether the same work can succeed later."""
    sql = "SELECT 1 / ($1 - n) FROM generate_series(1, 100000) AS n"
    with pytest.raises(adbc_driver_manager.Error) as raised, database.transaction() as transaction:
        transaction.query(sql, 90_000)
    assert raised.value.sqlstate == "22012"


def test_a_memory_error_is_raised_and_a_long_reason_is_cut() -> None:
    def work(_part: list[str]) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        bisect(SYMBOLS, work)

    def tells_much(_part: list[str]) -> None:
        raise ValueError("x" * 10_000)

    assert bisect(["S0"], tells_much) == {"S0": "ValueError: " + "x" * 500}


class Interrupted(BaseException):
    """Not an `Exception`, like the error that Dagster raises in a terminated run."""


@pytest.mark.parametrize("raised", [Interrupted(), KeyboardInterrupt()])
def test_an_interrupt_is_raised_and_not_counted_as_a_failure(raised: BaseException) -> None:
    calls = 0

    def work(_part: list[str]) -> None:
        nonlocal calls
        calls += 1
        raise raised

    with pytest.raises(type(raised)):
        bisect(SYMBOLS, work)
    assert calls == 1


def test_an_error_during_an_interrupt_leads_to_no_bisecting_and_no_retry() -> None:
    calls = 0

    def work(_part: list[str]) -> None:
        nonlocal calls
        calls += 1
        interrupts.interrupt(Interrupted)
        raise ValueError("something that the interrupt has led to")

    try:
        with pytest.raises(Interrupted):
            bisect(SYMBOLS, work)
    finally:
        interrupts.go_on()
    assert calls == 1


@pytest.mark.parametrize("is_main", [True, False])
def test_an_interrupted_statement_stops_the_whole_batch(database: Database, is_main: bool) -> None:
    """A signal interrupts the main thread, and `interrupts.interrupt` interrupts other threads."""
    calls = 0

    def work(_part: list[str]) -> None:
        nonlocal calls
        calls += 1
        with database.transaction() as transaction:
            transaction.query("SELECT pg_sleep(600)::text AS nothing")

    def interrupt() -> None:
        with Database(database.url) as other:
            wait_until(lambda: sleeping(other), "the statement is at work")
        if is_main:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:
            interrupts.interrupt(Interrupted)

    with ThreadPoolExecutor(2) as threads:
        interrupting = threads.submit(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt if is_main else Interrupted):
                bisect(SYMBOLS, work) if is_main else threads.submit(bisect, SYMBOLS, work).result()
        finally:
            interrupting.result()
            interrupts.go_on()
    assert calls == 1
    with database.transaction() as transaction:
        assert not sleeping(database)
        assert transaction.query("SELECT 1 AS one").item() == 1


def sleeping(database: Database) -> int:
    """The number of statements that wait in `pg_sleep`."""
    with database.transaction() as transaction:
        return int(
            transaction.query(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
            ).item()
        )


def poison(database: Database, table: str, symbol: str, timeframe: str) -> None:
    """Make the database refuse every row of one series, as it does for a value that violates a constraint."""
    with database.transaction() as transaction:
        transaction.execute(
            f"ALTER TABLE market.{table} ADD CONSTRAINT poison CHECK (symbol <> '{symbol}' OR timeframe <> '{timeframe}')"
        )


def cure(database: Database, table: str) -> None:
    with database.transaction() as transaction:
        transaction.execute(f"ALTER TABLE market.{table} DROP CONSTRAINT poison")


@pytest.mark.parametrize(
    ("asset", "timeframe"),
    mostly_broad(
        [
            (OHLC, M5),
            (OHLC, M15),
            (EMA_SIGNALS, M5),
            (EMA_TREND, M15),
            (STRATEGY, M5),
        ]
    ),
)
def test_a_series_refused_by_the_database_is_reported_and_pauses_while_all_others_finish(
    database: Database, asset: str, timeframe: Timeframe
) -> None:
    exchange = MemoryExchange(
        *(
            bars_on("XNYS", symbol, M5, date(2026, 11, 23), date(2026, 11, 25), seed)
            for seed, symbol in enumerate(SYMBOLS)
        )
    )
    poison(database, asset, "S4", timeframe.key)
    outcomes = refresh(database, WATCHED, exchange, NOW, timeframes=FEW)
    found = outcomes[asset, timeframe]
    assert list(found.errors) == ["S4"]
    assert "poison" in found.errors["S4"]
    assert sorted(found.done) == [symbol for symbol in SYMBOLS if symbol != "S4"]
    assert [symbol for (one, _), each in outcomes.items() for symbol in each.errors if one != asset] == []
    state = state_of(database, "S4", timeframe, asset)
    assert state["failures"] == 1
    assert "poison" in str(state["last_error"])
    assert state["next_attempt_at"] > NOW
    assert {*outcomes[STRATEGY, timeframe].done} - {"S4"} == {*SYMBOLS} - {"S4"}

    cure(database, asset)
    later = refresh(database, WATCHED, exchange, NOW + timedelta(minutes=2), timeframes=FEW)
    assert later[asset, timeframe].done == ["S4"]
    assert state_of(database, "S4", timeframe, asset)["failures"] == 0
