"""The six timeframes: their order, durations and where their bars come from. Nothing else lives here."""

from datetime import timedelta
from enum import StrEnum


class Timeframe(StrEnum):
    """A bar's duration, shortest first. The value is the Dagster partition key of the `timeframe` dimension."""

    M5 = "5m"
    M15 = "15m"
    M30 = "30m"
    H1 = "1h"
    H4 = "4h"
    D1 = "1d"

    @property
    def duration(self) -> timedelta:
        """Length of a full bar. A `1d` bar covers one session, whatever its length."""
        return _DURATIONS[self]

    @property
    def minutes(self) -> int:
        """Length of a full bar in minutes."""
        return int(self.duration.total_seconds()) // 60

    @property
    def is_fetched(self) -> bool:
        """True when bars come from the provider, False when they are rolled up from stored `5m` bars."""
        return self in FETCHED

    @property
    def rank(self) -> int:
        """Place in the order of urgency: 0 for `5m`, 5 for `1d`."""
        return ORDER.index(self)


_DURATIONS = {
    Timeframe.M5: timedelta(minutes=5),
    Timeframe.M15: timedelta(minutes=15),
    Timeframe.M30: timedelta(minutes=30),
    Timeframe.H1: timedelta(hours=1),
    Timeframe.H4: timedelta(hours=4),
    Timeframe.D1: timedelta(days=1),
}

ORDER: tuple[Timeframe, ...] = tuple(Timeframe)
BASE = Timeframe.M5
FETCHED: tuple[Timeframe, ...] = (Timeframe.M5, Timeframe.D1)
ROLLED_UP: tuple[Timeframe, ...] = tuple(t for t in ORDER if t not in FETCHED)
