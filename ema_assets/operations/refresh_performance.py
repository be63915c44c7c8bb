"""Refreshing the performance of strategies, and deciding when that is worthwhile."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ema_assets.store import results
from ema_assets.store.database import Database, Transaction

# Trades change with every 5m bar; nobody reads performance that often.
LEAST_PAUSE = timedelta(minutes=5)
# Even without new trades, buy and hold changes, and a run shows in Dagster that the schedule is alive.
LONGEST_PAUSE = timedelta(hours=12)
# A symbol or timeframe that was just switched on must not wait that long.
PAUSE_FOR_NEW_SERIES = timedelta(seconds=5)
# A refresh of many series is slow: it takes at most a twentieth of the time, or a tenth while new series come in.
PAUSE_PER_SECOND = 20
PAUSE_PER_SECOND_FOR_NEW_SERIES = 10

# computed_at is written before the transaction of a strategy ends, and a refresh does not see transactions that end
# after it has begun.
_LONGEST_TRANSACTION = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The number of rows after a refresh, and how long it took."""

    rows: int
    seconds: float


def why_not(transaction: Transaction, strategies: Sequence[str]) -> str | None:
    """Return why performance need not be refreshed now; None when it should be."""
    age = results.performance_age(transaction, strategies)
    if age["computed_at"] is None:
        return "no strategy has been computed yet"
    if age["refreshed_at"] is None:
        return None
    if age["seconds_ago"] >= LONGEST_PAUSE.total_seconds():
        return None
    if age["computed_at"] <= age["refreshed_at"] - _LONGEST_TRANSACTION:
        return f"no strategy was computed since {age['refreshed_at']:%Y-%m-%d %H:%M:%S} UTC"
    # A schedule that fires every five minutes must not miss every second time by a moment.
    return _too_early(age, LEAST_PAUSE, tolerance_seconds=30)


def why_not_for_new_series(transaction: Transaction, strategies: Sequence[str]) -> str | None:
    """Return why performance need not be refreshed for series that it does not have yet; None when it should be."""
    age = results.performance_age(transaction, strategies)
    if age["computed_at"] is None:
        return "no strategy has been computed yet"
    if age["refreshed_at"] is None:
        return None
    # Series that performance always leaves out, such as those of a removed symbol, must not stay new forever.
    since = age["refreshed_at"] - _LONGEST_TRANSACTION
    if age["computed_at"] < since or not results.series_without_performance(transaction, strategies, since):
        return "performance has every series that was computed"
    return _too_early(age, PAUSE_FOR_NEW_SERIES, per_second=PAUSE_PER_SECOND_FOR_NEW_SERIES)


def _too_early(
    age: Mapping[str, Any], least: timedelta, *, per_second: int = PAUSE_PER_SECOND, tolerance_seconds: int = 0
) -> str | None:
    """Return why it is too early for a refresh, which must come at least `least` after the last; None if it is not."""
    pause = max(least.total_seconds(), age["seconds"] * per_second)
    if age["seconds_ago"] < pause - tolerance_seconds:
        return f"added up {age['seconds_ago']:.0f} s ago, which took {age['seconds']:.1f} s; again after {pause:.0f} s"
    return None


def refresh(database: Database) -> Refreshed:
    """Refresh the performance of every series of every strategy. Readers see the old figures meanwhile."""
    with database.transaction() as transaction:
        return Refreshed(*results.refresh_performance(transaction))
