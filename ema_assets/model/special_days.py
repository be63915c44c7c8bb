"""Days on which an exchange differs from its calendar, as a user says. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time


@dataclass(frozen=True, slots=True)
class SpecialDays:
    """What a user knows better about one calendar.

    `extra` are days that trade though the calendar does not have them: their hours, local at the exchange, or None for
    the hours of the session before. A day that the calendar has gets these hours. `closed` are days that do not trade
    though the calendar has them.
    """

    extra: Mapping[date, tuple[time, time] | None] = field(default_factory=dict)
    closed: frozenset[date] = frozenset()

    def __str__(self) -> str:
        extra = [f"+{day}{'' if hours is None else f' {hours[0]}-{hours[1]}'}" for day, hours in self.extra.items()]
        return " ".join(sorted([*extra, *(f"-{day}" for day in self.closed)]))


NO_SPECIAL_DAYS = SpecialDays()
