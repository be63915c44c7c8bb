"""When the virtual market begins: an ordinary day, and the days on which calendars are special."""

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Start:
    """A moment at which a virtual market begins, and what comes soon after it."""

    name: str
    at: datetime
    about: str


# No bar of an hour closes within the first half hour or so, while history is loaded: how far back its hours are asked
# for follows from how many there are, and everything is loaded again as of the start.
STARTS = (
    Start("tuesday", datetime(2026, 11, 17, 14, 0, tzinfo=UTC), "New York opens at 14:30 UTC"),
    Start("dst-sunday", datetime(2026, 11, 1, 5, 30, tzinfo=UTC), "at 06:00 UTC New York sets its clocks back"),
    Start("dst-monday", datetime(2026, 11, 2, 14, 0, tzinfo=UTC), "the first open at 14:30 and not at 13:30 UTC"),
    Start("half-day", datetime(2026, 11, 27, 16, 45, tzinfo=UTC), "New York closes at 18:00 UTC, three hours early"),
    Start("year-end", datetime(2026, 12, 31, 19, 45, tzinfo=UTC), "the last close of the year, at 21:00 UTC"),
    Start("new-year", datetime(2026, 12, 31, 23, 15, tzinfo=UTC), "pairs trade over midnight into another year"),
    Start("dst-spring", datetime(2026, 3, 9, 13, 0, tzinfo=UTC), "the first open at 13:30 and not at 14:30 UTC"),
)


def of_seed(seed: int) -> Start:
    """Each seed begins elsewhere than the one before it."""
    return STARTS[seed % len(STARTS)]


def by_name(name: str) -> Start:
    return next(start for start in STARTS if start.name == name)
