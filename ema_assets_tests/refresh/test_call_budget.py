"""Several processes share a budget of calls per minute through the call times in the database."""

import asyncio
import threading
from datetime import datetime, timedelta

import pytest

from ema_assets.refresh.call_budget import SharedBudget
from ema_assets.store import provider_state
from ema_assets.store.database import Database, Transaction

SHORT = 0.3
# Too long to end while a test runs, even on a busy machine.
HOUR = 3600.0


def take(url: str, provider: str, requests: int, calls: int, window_seconds: float = SHORT) -> None:
    async def all_of_them() -> None:
        with Database(url) as database:
            budget = SharedBudget(database, provider, requests, window_seconds)
            await asyncio.gather(*(budget.take() for _ in range(calls)))

    asyncio.run(all_of_them())


def take_calls(transaction: Transaction, provider: str, most: int, calls: int) -> list[float]:
    """How long each of `calls` calls has to wait when `most` calls may leave per hour."""
    return [provider_state.take_call(transaction, provider, most, HOUR) for _ in range(calls)]


def moment_of(transaction: Transaction, sql: str) -> datetime:
    moment = transaction.query(f"SELECT ({sql}) AS moment").item()
    assert isinstance(moment, datetime)
    return moment


def assert_waits_until(transaction: Transaction, provider: str, most: int, until: datetime) -> None:
    """The next call must wait until exactly that moment, within the microseconds that the query takes."""
    before = moment_of(transaction, "clock_timestamp()")
    (wait,) = take_calls(transaction, provider, most, 1)
    after = moment_of(transaction, "clock_timestamp()")
    rounding = timedelta(microseconds=1)
    assert before - rounding <= until - timedelta(seconds=wait) <= after + rounding


def window_of(transaction: Transaction, provider: str, call: int) -> datetime:
    """The end of the window that began with this call. The first call is number 0."""
    sent = transaction.query("SELECT sent_at FROM market.provider_call WHERE provider = $1 ORDER BY 1", provider)
    return sent["sent_at"][call] + timedelta(seconds=HOUR)


@pytest.mark.broad
def test_several_processes_together_stay_within_the_budget(database: Database) -> None:
    """Each process has its own connection. In no window do more calls leave than the budget allows."""
    with database.transaction() as transaction:
        # Old calls are deleted from the table, but the test needs all of them.
        transaction.execute("CREATE TABLE market.seen (sent_at timestamptz)")
        transaction.execute(
            "CREATE RULE seen AS ON INSERT TO market.provider_call DO ALSO INSERT INTO market.seen SELECT NEW.sent_at"
        )
    takers = [threading.Thread(target=take, args=(database.url, "alpaca", 7, 6)) for _ in range(4)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    with database.transaction() as transaction:
        sent = transaction.query("SELECT sent_at FROM market.seen ORDER BY 1")["sent_at"].to_list()
    assert len(sent) == 24
    window = timedelta(seconds=SHORT)
    assert all(later - first >= window for first, later in zip(sent, sent[7:], strict=False))


def test_calls_within_the_budget_do_not_wait_and_the_next_waits_for_the_oldest(database: Database) -> None:
    with database.transaction() as transaction:
        assert take_calls(transaction, "alpaca", 7, 7) == [0.0] * 7
        assert_waits_until(transaction, "alpaca", 7, window_of(transaction, "alpaca", 0))
        # The first two leave the window.
        transaction.execute(
            """
            UPDATE market.provider_call SET sent_at = sent_at - interval '1 hour'
            WHERE sent_at <= (SELECT sent_at FROM market.provider_call ORDER BY 1 OFFSET 1 LIMIT 1)
            """
        )
        assert take_calls(transaction, "alpaca", 7, 2) == [0.0] * 2
        assert_waits_until(transaction, "alpaca", 7, window_of(transaction, "alpaca", 0))


def test_each_provider_has_its_own_budget(database: Database) -> None:
    with database.transaction() as transaction:
        assert take_calls(transaction, "alpaca", 3, 3) == [0.0] * 3
        assert take_calls(transaction, "binance", 3, 3) == [0.0] * 3
        assert_waits_until(transaction, "binance", 3, window_of(transaction, "binance", 0))


def test_a_process_with_a_smaller_share_leaves_the_rest_to_one_with_a_larger_share(database: Database) -> None:
    with database.transaction() as transaction:
        assert take_calls(transaction, "alpaca", 8, 8) == [0.0] * 8
        assert_waits_until(transaction, "alpaca", 8, window_of(transaction, "alpaca", 0))
        assert take_calls(transaction, "alpaca", 10, 2) == [0.0] * 2
        assert_waits_until(transaction, "alpaca", 10, window_of(transaction, "alpaca", 0))
        # Two more calls than its share have left, so it waits until three of them are old.
        assert_waits_until(transaction, "alpaca", 8, window_of(transaction, "alpaca", 2))


CLOSED_UNTIL = "SELECT closed_until FROM market.provider_state WHERE provider = 'binance'"


def test_all_processes_pause_a_provider_for_the_longest_time_it_requested(
    database: Database,
) -> None:
    with database.transaction() as transaction:
        before = moment_of(transaction, "clock_timestamp()")
    budget = SharedBudget(database, "binance", 100, SHORT)
    for seconds in (HOUR, 60.0, 0.0):
        budget.close_for(seconds)
    with database.transaction() as transaction:
        until = moment_of(transaction, CLOSED_UNTIL)
        assert before <= until - timedelta(seconds=HOUR) <= moment_of(transaction, "clock_timestamp()")
        assert_waits_until(transaction, "binance", 100, until)
        assert take_calls(transaction, "alpaca", 100, 1) == [0.0]


def test_a_waiting_call_leaves_when_the_pause_is_over(database: Database) -> None:
    SharedBudget(database, "binance", 100, SHORT).close_for(SHORT)
    take(database.url, "binance", 100, 2, HOUR)
    with database.transaction() as transaction:
        sent = moment_of(transaction, "SELECT min(sent_at) FROM market.provider_call WHERE provider = 'binance'")
        assert sent >= moment_of(transaction, CLOSED_UNTIL)
