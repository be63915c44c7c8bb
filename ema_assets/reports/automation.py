"""Why schedules and sensors launch less than they should, although no series has failed."""

from datetime import datetime, timedelta

import polars as pl

from ema_assets.store import diagnosis
from ema_assets.store.database import Transaction
from ema_assets.store.future_ticks import AHEAD

# So many crashes in a row are nothing: somebody has killed a process, or a host has restarted.
SINGLE_CRASHES = 2
CRASHES_LOOKED_AT = timedelta(hours=1)


def crash_loops(transaction: Transaction, now: datetime) -> pl.DataFrame | None:
    """Return timeframes and lanes whose runs fail as a whole again and again: timeframe, lane, runs, last_at (UTC).

    None if Dagster's tables are missing or unreadable.
    """
    found = diagnosis.crashed_runs(transaction, now - CRASHES_LOOKED_AT)
    return None if found is None else found.filter(pl.col("moments") > SINGLE_CRASHES).drop("moments")


def set_back(transaction: Transaction, now: datetime) -> str | None:
    """Say that the clock was set back and until when Dagster waits; None when it was not.

    Dagster evaluates a schedule or a sensor only after its last tick.
    """
    tick_at = diagnosis.newest_tick_at(transaction)
    if tick_at is None or tick_at <= now + AHEAD:
        return None
    return f"the clock was set back: Dagster evaluates no schedule and no sensor before {tick_at:%Y-%m-%d %H:%M:%S} UTC"
