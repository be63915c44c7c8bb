"""Calls a minute that several processes share."""

import asyncio
import threading
import time
from datetime import timedelta

from ema_assets.refresh.call_budget import SharedBudget
from ema_assets.store import provider_state
from ema_assets.store.database import Database

WINDOW = 0.6


def take(url: str, provider: str, requests: int, calls: int, left: list[float]) -> None:
    async def all_of_them() -> None:
        with Database(url) as database:
            budget = SharedBudget(database, provider, requests, WINDOW)

            async def one() -> None:
                await budget.take()
                left.append(time.monotonic())

            await asyncio.gather(*(one() for _ in range(calls)))

    asyncio.run(all_of_them())


def test_several_processes_together_stay_within_the_budget(database: Database) -> None:
    """Each on a connection of its own; whatever the window, no more calls have left in it than allowed."""
    with database.transaction() as transaction:
        # Calls are forgotten when they are old; the test wants to see them all.
        transaction.execute("CREATE TABLE market.seen (sent_at timestamptz)")
        transaction.execute(
            "CREATE RULE seen AS ON INSERT TO market.provider_call DO ALSO INSERT INTO market.seen SELECT NEW.sent_at"
        )
    left: list[float] = []
    takers = [threading.Thread(target=take, args=(database.url, "alpaca", 7, 6, left)) for _ in range(4)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert len(left) == 24
    with database.transaction() as transaction:
        sent = transaction.query("SELECT sent_at FROM market.seen ORDER BY 1")["sent_at"].to_list()
    assert len(sent) == 24
    window = timedelta(seconds=WINDOW)
    assert all(later - first >= window for first, later in zip(sent, sent[7:], strict=False))
    assert sent[6] - sent[0] < window, "the first seven need not wait for each other"


def test_each_provider_has_its_own(database: Database) -> None:
    left: list[float] = []
    started = time.monotonic()
    take(database.url, "alpaca", 3, 3, left)
    take(database.url, "binance", 3, 3, left)
    assert max(left) - started < WINDOW


def test_a_smaller_share_leaves_the_rest_to_whoever_has_a_larger_one(database: Database) -> None:
    with database.transaction() as transaction:
        waits = [provider_state.take_call(transaction, "alpaca", 8, 60.0) for _ in range(9)]
        assert waits[:8] == [0.0] * 8
        assert waits[8] > 59
        assert [provider_state.take_call(transaction, "alpaca", 10, 60.0) for _ in range(2)] == [0.0, 0.0]
        assert provider_state.take_call(transaction, "alpaca", 10, 60.0) > 59
        # Two more than its share have left: it waits until three of them are a minute old.
        assert provider_state.take_call(transaction, "alpaca", 8, 60.0) > 59


def test_a_provider_that_asks_for_a_pause_is_left_alone_by_all(database: Database) -> None:
    budget = SharedBudget(database, "binance", 100, WINDOW)
    budget.close_for(0.3)
    budget.close_for(0.1)
    budget.close_for(0.0)
    started = time.monotonic()
    left: list[float] = []
    take(database.url, "binance", 100, 2, left)
    assert min(left) - started > 0.2
    take(database.url, "alpaca", 100, 1, left)
