"""What runs wait for: the publication of bars, the last 5m bar of a rolled-up bar, and series that another run locks.

A rolled-up bar closes at the same moment as its last 5m bar, and the 5m run goes first.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime

import polars as pl

from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.outcome import Outcome
from ema_assets.refresh.plan import AT_ONCE, MARKET, SCHEDULE_REACH, Publications, closed_bars
from ema_assets.store import ledger
from ema_assets.store.database import Database

# On a laptop a 5m run ends about 10 s after the close. The sweep takes what comes later.
LONGEST_WAIT_SECONDS = 40.0
# A run that has locked a series is processing a batch, which takes seconds.
LONGEST_LOCK_SECONDS = 120.0
_POLL_SECONDS = 0.5


def wait_for_publication(
    database: Database,
    timeframe: Timeframe,
    symbols: Sequence[str],
    clock: Callable[[], datetime],
    publications: Publications,
) -> None:
    """Wait until the bars of `timeframe` for which a schedule has launched this run can be requested.

    It takes at most SCHEDULE_REACH.
    """
    if not any(each.delay for each in publications.values()):
        return
    now = clock()
    with database.transaction() as transaction:
        closed = closed_bars(transaction, now, publications, ahead=SCHEDULE_REACH, timeframes=[timeframe])
        state = ledger.fetch_state(transaction, timeframe, symbols)
    stale = state.join(closed, on=list(MARKET), nulls_equal=True).filter(
        pl.col("checked_through").is_null() | (pl.col("checked_through") < pl.col("ts_end"))
    )
    published_at = stale["published_at"].max()
    if not isinstance(published_at, datetime):
        return
    deadline = time.monotonic() + SCHEDULE_REACH.total_seconds()
    # In a loop and up to the deadline, because the machine's clock may be set during the sleep.
    while (left := min((published_at - clock()).total_seconds(), deadline - time.monotonic())) > 0:
        time.sleep(left)


def wait_for_base(
    database: Database,
    timeframe: Timeframe,
    symbols: Sequence[str],
    clock: Callable[[], datetime],
    publications: Publications = AT_ONCE,
) -> int:
    """Wait until the source bars of the last closed bar of `timeframe` are stored; return how many series lack them.

    It takes at most LONGEST_WAIT_SECONDS. Series whose source bars are failing are not waited for.
    """
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    now = clock()
    with database.transaction() as transaction:
        closed = closed_bars(transaction, now, publications, ahead=SCHEDULE_REACH, timeframes=[timeframe])
    while True:
        with database.transaction() as transaction:
            behind = ledger.source_behind(transaction, timeframe.source, symbols, closed, now)
        if behind == 0 or time.monotonic() > deadline:
            return behind
        time.sleep(_POLL_SECONDS)


def retry_locked(
    symbols: Sequence[str],
    outcome: Outcome,
    process: Callable[[list[str]], None],
    still_wanted: Callable[[list[str]], list[str]],
) -> None:
    """Process the `symbols` again that are neither done nor failed, because another run has locked them.

    This is for series that a person wants computed, fresh or not: the other run computes only what is stale. A series
    that is locked for longer than LONGEST_LOCK_SECONDS is added to the errors. A series that is not `still_wanted` was
    taken out of the watchlist meanwhile.
    """
    deadline = time.monotonic() + LONGEST_LOCK_SECONDS
    while undone := [symbol for symbol in symbols if symbol not in outcome.done and symbol not in outcome.errors]:
        locked = still_wanted(undone)
        if not locked:
            return
        if time.monotonic() > deadline:
            reason = f"another run has locked it for {LONGEST_LOCK_SECONDS:g} s; materialize it again when it has ended"
            outcome.errors.update(dict.fromkeys(locked, reason))
            return
        time.sleep(_POLL_SECONDS)
        process(locked)
