"""What runs wait for: rolled-up bars for their last source bar, a person's run for another that has locked a series.

A rolled-up bar closes at the same moment as its last source bar, and the run of the source goes first.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from ema_assets.market.calendars import LOOK_BACK, last_closed
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.outcome import Outcome
from ema_assets.store import sessions
from ema_assets.store.database import Database
from ema_assets.store.ledger import staleness

# A 5m run takes about 10 s from the close on a laptop; what comes later is taken up by the sweep.
LONGEST_WAIT_SECONDS = 40.0
# A run locks a series while it works on a batch, which takes seconds.
LONGEST_LOCK_SECONDS = 120.0
_POLL_SECONDS = 0.5


def wait_for_base(
    database: Database,
    timeframe: Timeframe,
    symbols: Sequence[str],
    clock: Callable[[], datetime],
    publication_delay: timedelta,
) -> int:
    """Wait until the source bars of the last closed bar of `timeframe` are stored; return how many series lack them.

    Waits LONGEST_WAIT_SECONDS at most, and not for series whose source bars fail at present.
    """
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    now = clock()
    with database.transaction() as transaction:
        recent = sessions.in_use(transaction, now - LOOK_BACK, now)
    closed = last_closed(recent, timeframe, now - publication_delay)
    while True:
        with database.transaction() as transaction:
            behind = staleness.source_behind(transaction, timeframe.source, symbols, closed, now)
        if behind == 0 or time.monotonic() > deadline:
            return behind
        time.sleep(_POLL_SECONDS)


def take_up_locked(symbols: Sequence[str], outcome: Outcome, process: Callable[[list[str]], None]) -> None:
    """Process again those of `symbols` that are neither done nor failed because another run has locked them.

    For what a person asked to be computed, fresh or not: the other run computes what is stale only. A series that stays
    locked for longer than LONGEST_LOCK_SECONDS goes to the errors.
    """
    deadline = time.monotonic() + LONGEST_LOCK_SECONDS
    while locked := [symbol for symbol in symbols if symbol not in outcome.done and symbol not in outcome.errors]:
        if time.monotonic() > deadline:
            reason = (
                f"another run has locked it for {LONGEST_LOCK_SECONDS:g} s; materialize it again when that has ended"
            )
            outcome.errors.update(dict.fromkeys(locked, reason))
            return
        time.sleep(_POLL_SECONDS)
        process(locked)
