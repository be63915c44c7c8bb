"""When the performance of strategies is worth adding up again, and doing it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ema_assets.store import results
from ema_assets.store.database import Database, Transaction

# Trades change with every 5m bar; nobody reads their sums that often.
LEAST_PAUSE = timedelta(minutes=5)
# Buy and hold moves on, too, and who looks at Dagster sees from it that the schedule lives.
LONGEST_PAUSE = timedelta(hours=12)
# A symbol or a timeframe that was just switched on shall not wait for that long.
PAUSE_FOR_NEW_SERIES = timedelta(seconds=5)
# With many series adding up takes its time: at most a twentieth of the day, and a tenth while new ones come in.
PAUSE_PER_SECOND = 20
PAUSE_PER_SECOND_FOR_NEW_SERIES = 10

# A strategy says when it was computed before its transaction ends, and what ended after a refresh began is not in it.
_LONGEST_TRANSACTION = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """How many rows there are now, and how long adding them up took."""

    rows: int
    seconds: float


def why_not(transaction: Transaction, strategies: Sequence[str]) -> str | None:
    """Why performance need not be added up now; None when it should."""
    age = results.performance_age(transaction, strategies)
    if age["computed_at"] is None:
        return "no strategy has been computed yet"
    if age["refreshed_at"] is None:
        return None
    if age["seconds_ago"] >= LONGEST_PAUSE.total_seconds():
        return None
    if age["computed_at"] <= age["refreshed_at"] - _LONGEST_TRANSACTION:
        return f"no strategy was computed since {age['refreshed_at']:%Y-%m-%d %H:%M:%S} UTC"
    # A schedule that fires every five minutes must not miss each second time by a moment.
    return _too_early(age, LEAST_PAUSE, tolerance_seconds=30)


def why_not_for_new_series(transaction: Transaction, strategies: Sequence[str]) -> str | None:
    """Why performance need not be added up for series that it does not have yet; None when it should."""
    age = results.performance_age(transaction, strategies)
    if age["computed_at"] is None:
        return "no strategy has been computed yet"
    if age["refreshed_at"] is None:
        return None
    # Series that performance leaves out for good, such as those of a removed symbol, are not new for ever.
    since = age["refreshed_at"] - _LONGEST_TRANSACTION
    if age["computed_at"] < since or not results.series_without_performance(transaction, strategies, since):
        return "performance has every series that was computed"
    return _too_early(age, PAUSE_FOR_NEW_SERIES, per_second=PAUSE_PER_SECOND_FOR_NEW_SERIES)


def _too_early(
    age: Mapping[str, Any], least: timedelta, *, per_second: int = PAUSE_PER_SECOND, tolerance_seconds: int = 0
) -> str | None:
    """Why it is too early to add up again, `least` after the last time at the earliest; None when it is not."""
    pause = max(least.total_seconds(), age["seconds"] * per_second)
    if age["seconds_ago"] < pause - tolerance_seconds:
        return f"added up {age['seconds_ago']:.0f} s ago, which took {age['seconds']:.1f} s; again after {pause:.0f} s"
    return None


def refresh(database: Database) -> Refreshed:
    """Add up every series of every strategy. Readers see the old figures meanwhile."""
    with database.transaction() as transaction:
        return Refreshed(*results.refresh_performance(transaction))
