"""Rolled-up bars wait for their last 5m bar: both close at the same moment, and the 5m run goes first."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from ema_assets.domain.calendars import LOOK_BACK, last_closed
from ema_assets.store import ledger, sessions
from ema_assets.store.database import Database
from ema_assets.timeframes import Timeframe

# A 5m run takes about 10 s from the close on a laptop; what comes later is taken up by the sweep.
LONGEST_WAIT_SECONDS = 40.0
_POLL_SECONDS = 0.5


def wait_for_base(
    database: Database,
    timeframe: Timeframe,
    symbols: Sequence[str],
    clock: Callable[[], datetime],
    publication_delay: timedelta,
) -> int:
    """Return once the 5m bars of the last closed bar of `timeframe` are stored; how many series are still behind.

    Returns after LONGEST_WAIT_SECONDS at the latest. Series whose 5m bars fail at present are not waited for.
    """
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    now = clock()
    with database.transaction() as transaction:
        recent = sessions.in_use(transaction, now - LOOK_BACK, now)
    closed = last_closed(recent, timeframe, now - publication_delay)
    while True:
        with database.transaction() as transaction:
            behind = ledger.base_behind(transaction, symbols, closed, now)
        if behind == 0 or time.monotonic() > deadline:
            return behind
        time.sleep(_POLL_SECONDS)
