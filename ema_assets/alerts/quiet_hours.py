"""Hours in which nothing is sent: the same times of every day in one time zone. No clock."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `start` to `end` on clocks in `zone`; over midnight when `end` is not after `start`."""

    start: time
    end: time
    zone: ZoneInfo

    def until(self, now: datetime) -> datetime | None:
        """Return the end, in UTC, of the quiet hours that contain `now`; None when none do.

        Where clocks are set back, a time that occurs twice begins quiet hours the first time and ends them the second
        time. A skipped time is as far after midnight as if clocks had not been set yet.
        """
        today = now.astimezone(self.zone).date()
        for day in (today - timedelta(days=1), today):
            begins = self._at(day, self.start, fold=0)
            last = day if self.end > self.start else day + timedelta(days=1)
            ends = self._at(last, self.end, fold=1)
            if begins <= now < ends:
                return ends
        return None

    def _at(self, day: date, moment: time, fold: int) -> datetime:
        local = datetime.combine(day, moment, self.zone)
        # A skipped time is the same moment for both folds only when the first one is used.
        is_skipped = local.astimezone(UTC).astimezone(self.zone).replace(tzinfo=None) != local.replace(tzinfo=None)
        return local.replace(fold=0 if is_skipped else fold).astimezone(UTC)

    def __str__(self) -> str:
        return f"{self.start:%H:%M} to {self.end:%H:%M} {self.zone.key}"
