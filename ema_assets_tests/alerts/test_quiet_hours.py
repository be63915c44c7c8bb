"""Tests of quiet hours: over midnight, in any time zone, and on days on which clocks change."""

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from ema_assets.alerts.quiet_hours import QuietHours
from ema_assets.alerts.subscriptions import Subscription
from ema_assets_tests.refresh.exchange import utc

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = QuietHours(time(22), time(7), BERLIN)
TOKYO_MORNING = QuietHours(time(8), time(9), ZoneInfo("Asia/Tokyo"))


@pytest.mark.parametrize(
    ("hours", "now", "until"),
    [
        # In winter Berlin is an hour ahead of UTC.
        (NIGHT, "2026-11-26 20:59", None),
        (NIGHT, "2026-11-26 21:00", "2026-11-27 06:00"),
        (NIGHT, "2026-11-26 23:30", "2026-11-27 06:00"),
        (NIGHT, "2026-11-27 05:59", "2026-11-27 06:00"),
        (NIGHT, "2026-11-27 06:00", None),
        (QuietHours(time(12), time(13, 30), BERLIN), "2026-11-26 11:15", "2026-11-26 12:30"),
        (QuietHours(time(12), time(13, 30), BERLIN), "2026-11-26 12:30", None),
        # In Tokyo it is already the next day.
        (TOKYO_MORNING, "2026-11-26 23:30", "2026-11-27 00:00"),
        (TOKYO_MORNING, "2026-11-27 00:00", None),
        # In spring, 02:00 to 03:00 does not exist and the night is an hour shorter.
        (NIGHT, "2026-03-28 21:00", "2026-03-29 05:00"),
        (NIGHT, "2026-03-29 04:59", "2026-03-29 05:00"),
        (NIGHT, "2026-03-29 05:00", None),
        (QuietHours(time(22), time(2, 30), BERLIN), "2026-03-29 01:29", "2026-03-29 01:30"),
        (QuietHours(time(22), time(2, 30), BERLIN), "2026-03-29 01:30", None),
        (QuietHours(time(2, 30), time(6), BERLIN), "2026-03-29 01:29", None),
        (QuietHours(time(2, 30), time(6), BERLIN), "2026-03-29 01:30", "2026-03-29 04:00"),
        # In autumn, 02:00 to 03:00 occurs twice and the night is an hour longer.
        (NIGHT, "2026-10-24 20:00", "2026-10-25 06:00"),
        (QuietHours(time(22), time(2, 30), BERLIN), "2026-10-25 00:45", "2026-10-25 01:30"),
        (QuietHours(time(22), time(2, 30), BERLIN), "2026-10-25 01:29", "2026-10-25 01:30"),
        (QuietHours(time(22), time(2, 30), BERLIN), "2026-10-25 01:30", None),
        (QuietHours(time(2, 15), time(6), BERLIN), "2026-10-25 00:15", "2026-10-25 05:00"),
        (QuietHours(time(2, 15), time(6), BERLIN), "2026-10-25 00:14", None),
    ],
)
def test_quiet_hours_begin_and_end_by_local_time(hours: QuietHours, now: str, until: str | None) -> None:
    assert hours.until(utc(now)) == (None if until is None else utc(until))


def test_quiet_hours_are_shown_with_their_zone() -> None:
    assert str(NIGHT) == "22:00 to 07:00 Europe/Berlin"


def test_quiet_hours_follow_local_time_throughout_a_year() -> None:
    moment, nights = utc("2026-01-01 00:00"), set[datetime]()
    while moment.year == 2026:
        until = NIGHT.until(moment)
        local = moment.astimezone(BERLIN).time()
        assert (until is not None) == (local >= time(22) or local < time(7)), moment
        if until is not None:
            assert moment < until <= moment + timedelta(hours=10)
            assert until.astimezone(BERLIN).time() == time(7)
            nights.add(until)
        moment += timedelta(minutes=45)
    assert len(nights) == 366


def test_an_alert_waits_for_its_group_and_for_the_end_of_quiet_hours() -> None:
    day = Subscription("day", ("crossover",), ("hook",), group_seconds=30)
    night = Subscription("night", ("crossover",), ("hook",), quiet=NIGHT, group_seconds=120)
    assert day.due_at(utc("2026-11-26 12:00"), utc("2026-11-26 12:00")) == utc("2026-11-26 12:00:30")
    assert night.due_at(utc("2026-11-26 12:00"), utc("2026-11-26 12:00")) == utc("2026-11-26 12:02")
    # Quiet hours begin while the alert waits for its group.
    assert night.due_at(utc("2026-11-26 20:59"), utc("2026-11-26 20:59")) == utc("2026-11-27 06:00")
    # The alert was raised before quiet hours, and its delivery is late.
    assert night.due_at(utc("2026-11-26 15:00"), utc("2026-11-26 23:00")) == utc("2026-11-27 06:00")
