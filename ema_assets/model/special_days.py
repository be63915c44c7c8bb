"""Days on which an exchange differs from its calendar, as configured by the user. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time


@dataclass(frozen=True, slots=True)
class SpecialDays:
    """A user's corrections of one calendar.

    `extra` are trading days with their hours (local time of the exchange), or None for the hours of the session before.
    They are added if the calendar lacks them, otherwise they get these hours. `closed` are days of the calendar without
    trading.
    """

    extra: Mapping[date, tuple[time, time] | None] = field(default_factory=dict)
    closed: frozenset[date] = frozenset()

    def __str__(self) -> str:
        extra = [f"+{day}{'' if hours is None else f' {hours[0]}-{hours[1]}'}" for day, hours in self.extra.items()]
        return " ".join(sorted([*extra, *(f"-{day}" for day in self.closed)]))


NO_SPECIAL_DAYS = SpecialDays()
