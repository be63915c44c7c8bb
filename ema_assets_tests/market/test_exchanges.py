"""Tests of sessions of exchanges: from the library, and our own for crypto, foreign exchange, futures, special days."""

from contextlib import nullcontext
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import exchange_calendars
import polars as pl
import pytest

from ema_assets.market import exchanges
from ema_assets.market.exchanges import exchange_sessions, holidays_known_through, known_calendars
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.schemas import SESSION_SCHEMA
from ema_assets.model.special_days import SpecialDays
from ema_assets.model.symbols import DEFAULT_CALENDAR

NEW_YORK, INDIA = ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


THANKSGIVING = exchange_sessions("XNYS", date(2026, 11, 23), date(2026, 12, 1))
CRYPTO = exchange_sessions("24/7", date(2026, 11, 25), date(2026, 11, 28))


@pytest.mark.parametrize(
    ("calendar", "start", "end"),
    [
        ("XNYS", date(2026, 11, 23), date(2026, 12, 1)),
        ("XHKG", date(2026, 2, 10), date(2026, 2, 25)),
        ("XTKS", date(2026, 4, 27), date(2026, 5, 8)),
        ("XLON", date(2026, 3, 27), date(2026, 4, 8)),
        ("XASX", date(2026, 9, 28), date(2026, 10, 9)),
    ],
)
def test_sessions_equal_those_of_the_library(calendar: str, start: date, end: date) -> None:
    found = exchange_sessions(calendar, start, end)
    assert found.schema == SESSION_SCHEMA
    library = exchange_calendars.get_calendar(calendar, start="2026-01-02", end="2026-12-31")
    expected = []
    for session in library.sessions_in_range(start.isoformat(), end.isoformat()):
        has_break = library.session_has_break(session)
        expected.append(
            (
                calendar,
                session.date(),
                library.session_open(session).to_pydatetime(),
                library.session_break_start(session).to_pydatetime() if has_break else None,
                library.session_break_end(session).to_pydatetime() if has_break else None,
                library.session_close(session).to_pydatetime(),
                library.session_open(session).to_pydatetime(),
                library.session_close(session).to_pydatetime(),
            )
        )
    assert found.rows() == expected


def test_a_holiday_has_no_session_and_a_half_day_ends_early() -> None:
    closes = dict(THANKSGIVING.select("session", "close").iter_rows())
    assert date(2026, 11, 26) not in closes
    assert closes[date(2026, 11, 25)] == utc("2026-11-25 21:00")
    assert closes[date(2026, 11, 27)] == utc("2026-11-27 18:00")


@pytest.mark.parametrize(
    ("before", "after"), [(date(2026, 3, 6), date(2026, 3, 9)), (date(2026, 10, 30), date(2026, 11, 2))]
)
def test_the_open_moves_by_an_hour_in_utc_when_daylight_saving_time_changes(before: date, after: date) -> None:
    opens = exchange_sessions("XNYS", before, after)["open"].to_list()
    assert len(opens) == 2
    assert abs((opens[1] - opens[0]) - timedelta(days=3)) == timedelta(hours=1)


def test_a_market_that_never_closes_has_one_session_per_utc_day() -> None:
    assert CRYPTO.schema == SESSION_SCHEMA
    assert CRYPTO["session"].to_list() == [date(2026, 11, day) for day in (25, 26, 27, 28)]
    assert CRYPTO["open"].to_list()[1:] == CRYPTO["close"].to_list()[:-1]
    assert CRYPTO["break_start"].null_count() == CRYPTO.height


@pytest.mark.parametrize(("received", "hint"), [("NYSEE", "`NYSE`"), ("XLONN", "`XLON`"), ("moon", "")])
def test_the_error_of_an_unknown_calendar_suggests_allowed_ones(received: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"`calendar` must be '24/7' .* received '{received}'.*{hint}"):
        exchange_sessions(received, date(2026, 1, 1), date(2026, 1, 2))


def test_every_weekday_is_a_session_beyond_the_holidays_that_the_library_knows() -> None:
    last = exchange_calendars.get_calendar("XBOM").bound_max().date()
    assert holidays_known_through("XBOM") == last
    found = exchange_sessions("XBOM", last - timedelta(days=60), last + timedelta(days=400))
    assert found["session"].is_unique().all()
    beyond = found.filter(pl.col("session") > last)
    weekdays = [last + timedelta(days=days) for days in range(1, 401)]
    assert beyond["session"].to_list() == [day for day in weekdays if day.weekday() < 5]
    assert {ts.astimezone(INDIA).time() for ts in beyond["open"]} == {time(9, 15)}
    assert {ts.astimezone(INDIA).time() for ts in beyond["close"]} == {time(15, 30)}
    far = exchange_sessions("XBOM", last + timedelta(days=50), last + timedelta(days=60))
    assert far.equals(found.filter(pl.col("session").is_between(last + timedelta(days=50), last + timedelta(days=60))))


@pytest.mark.parametrize("calendar", ["XNYS", "XBOM"])
def test_the_files_of_a_folder_share_one_answer_of_the_library(calendar: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a fifth of a second per request. The holidays of XBOM are known until the end of a year."""
    answer = exchanges._sessions_between
    answered = set()

    def recorded(*asked: Any) -> pl.DataFrame:
        found = answer(*asked)
        answered.add(asked)
        return found

    monkeypatch.setattr(exchanges, "_sessions_between", recorded)
    for month in range(1, 13):
        found = exchange_sessions(calendar, date(2021, month, 10), date(2026, month, 20))
        assert date(2021, month, 10) <= found["session"][0] <= date(2021, month, 15)
        assert date(2026, month, 15) <= found["session"][-1] <= date(2026, month, 20)
    assert len(answered) == 1


@pytest.mark.parametrize("calendar", ["XNYS", "XFRA"])
def test_sessions_before_1970_equal_those_of_the_library(calendar: str) -> None:
    """Daily histories of sixty years have such sessions. Their timestamps are negative numbers."""
    found = exchange_sessions(calendar, date(1962, 1, 1), date(1971, 12, 31))
    theirs = exchange_calendars.get_calendar(calendar, start="1962-01-01", end="1971-12-31")
    assert found["session"].to_list() == [day.date() for day in theirs.sessions]
    opens, closes = ([at.to_pydatetime() for at in each] for each in (theirs.opens, theirs.closes))
    assert (found["open"].to_list(), found["close"].to_list()) == (opens, closes)
    assert found["regular_open"].null_count() == found["regular_close"].null_count() == 0
    assert found["break_start"].null_count() == found.height


@pytest.mark.parametrize("calendar", ["XNYS", "24/7", "24/5", "XNYS extended"])
def test_holidays_that_follow_rules_are_known_forever(calendar: str) -> None:
    assert holidays_known_through(calendar) is None


def test_the_library_knows_the_holidays_of_the_default_calendar_forever() -> None:
    """The package relies on this instead of importing the library, which takes longer than most commands."""
    assert exchange_calendars.get_calendar(DEFAULT_CALENDAR).bound_max() is None


def test_sessions_begin_with_the_first_holidays_that_the_library_knows() -> None:
    first = exchange_calendars.get_calendar("XTKS").bound_min().date()
    found = exchange_sessions("XTKS", first - timedelta(days=4000), first + timedelta(days=60))
    assert first <= found["session"].min() <= first + timedelta(days=14)


def test_a_calendar_that_the_library_cannot_build_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        raise NotImplementedError("implemented by subclasses")

    monkeypatch.setattr(exchange_calendars, "get_calendar", broken)
    with pytest.raises(ConfigurationError, match=r"'XBSE'.*exchange_calendars; take a calendar"):
        exchange_sessions("XBSE", date(2026, 1, 1), date(2026, 1, 2))


def test_known_calendars_include_codes_and_aliases() -> None:
    names = known_calendars()
    assert {"XNYS", "NYSE", "24/7"} <= set(names)
    assert names == sorted(names)


# --- foreign exchange and futures -------------------------------------------------------------------------------------


def test_a_day_of_foreign_exchange_lasts_from_17_to_17_in_new_york() -> None:
    found = exchange_sessions("24/5", date(2026, 3, 5), date(2026, 3, 10))
    assert found.schema == SESSION_SCHEMA
    # The clocks go forward on Sunday the 8th.
    assert found.select("session", "open", "close").rows() == [
        (date(2026, 3, 5), utc("2026-03-04 22:00"), utc("2026-03-05 22:00")),
        (date(2026, 3, 6), utc("2026-03-05 22:00"), utc("2026-03-06 22:00")),
        (date(2026, 3, 9), utc("2026-03-08 21:00"), utc("2026-03-09 21:00")),
        (date(2026, 3, 10), utc("2026-03-09 21:00"), utc("2026-03-10 21:00")),
    ]


def test_foreign_exchange_is_closed_on_christmas_and_new_year() -> None:
    days = exchange_sessions("24/5", date(2026, 12, 23), date(2027, 1, 4))["session"].to_list()
    assert days == [*(date(2026, 12, day) for day in (23, 24, 28, 29, 30, 31)), date(2027, 1, 4)]


@pytest.mark.parametrize("calendar", ["CMES", "CME", "COMEX", "us_futures"])
def test_futures_begin_on_sunday_evening_and_pause_for_one_hour_per_day(calendar: str) -> None:
    found = exchange_sessions(calendar, date(2026, 7, 6), date(2026, 7, 7))
    assert found.select("session", "open", "close").rows() == [
        (date(2026, 7, 6), utc("2026-07-05 22:00"), utc("2026-07-06 21:00")),
        (date(2026, 7, 7), utc("2026-07-06 22:00"), utc("2026-07-07 21:00")),
    ]


def test_an_early_close_of_futures_stays_early() -> None:
    # On Martin Luther King Day Globex closes at noon in Chicago.
    (session,) = exchange_sessions("CMES", date(2026, 1, 19), date(2026, 1, 19)).rows(named=True)
    assert (session["open"], session["close"]) == (utc("2026-01-18 23:00"), utc("2026-01-19 18:00"))


@pytest.mark.parametrize(
    ("calendar", "zone"), [("24/7", ZoneInfo("UTC")), ("24/5", NEW_YORK), ("XNYS extended", NEW_YORK), ("XBOM", INDIA)]
)
def test_the_days_of_each_calendar_are_those_of_its_zone(calendar: str, zone: ZoneInfo) -> None:
    assert exchanges.zone_of(calendar) == zone


# --- special days -----------------------------------------------------------------------------------------------------

DIWALI, BUDGET = date(2025, 10, 21), date(2026, 2, 1)


def test_an_added_special_day_has_the_hours_of_the_day_before_or_its_own_hours() -> None:
    special = SpecialDays({BUDGET: None, DIWALI: (time(13, 45), time(14, 45))})
    plain = exchange_sessions("XBOM", date(2025, 10, 15), date(2026, 2, 4))
    found = exchange_sessions("XBOM", date(2025, 10, 15), date(2026, 2, 4), special)
    assert found.schema == SESSION_SCHEMA
    assert found["session"].is_sorted()
    added = found.join(plain, on="session", how="anti").select("session", "open", "close", "regular_open")
    assert added.rows() == [
        (DIWALI, utc("2025-10-21 08:15"), utc("2025-10-21 09:15"), utc("2025-10-21 08:15")),
        (BUDGET, utc("2026-02-01 03:45"), utc("2026-02-01 10:00"), utc("2026-02-01 03:45")),
    ]
    assert found.join(added, on="session", how="anti").equals(plain)


def test_a_special_day_changes_the_hours_of_a_session_or_removes_it() -> None:
    special = SpecialDays({date(2026, 11, 24): (time(10), time(12))}, frozenset({date(2026, 11, 25)}))
    found = exchange_sessions("XNYS", date(2026, 11, 23), date(2026, 11, 27), special)
    assert found.select("session", "open", "close").rows() == [
        (date(2026, 11, 23), utc("2026-11-23 14:30"), utc("2026-11-23 21:00")),
        (date(2026, 11, 24), utc("2026-11-24 15:00"), utc("2026-11-24 17:00")),
        (date(2026, 11, 27), utc("2026-11-27 14:30"), utc("2026-11-27 18:00")),
    ]


@pytest.mark.broad
def test_a_special_day_alone_in_the_requested_range_has_the_usual_hours() -> None:
    found = exchange_sessions("XNYS", date(2026, 11, 28), date(2026, 11, 29), SpecialDays({date(2026, 11, 28): None}))
    assert found.select("open", "close").rows() == [(utc("2026-11-28 14:30"), utc("2026-11-28 18:00"))]


def test_a_special_day_before_all_sessions_in_the_requested_range_has_the_hours_of_the_first_one() -> None:
    saturday = date(2026, 11, 21)
    found = exchange_sessions("XNYS", saturday, date(2026, 11, 24), SpecialDays({saturday: None}))
    assert found["session"].dt.day().to_list() == [21, 23, 24]
    assert found.select("open", "close", "regular_open", "regular_close").row(0) == (
        *(utc("2026-11-21 14:30"), utc("2026-11-21 21:00")),
        *(utc("2026-11-21 14:30"), utc("2026-11-21 21:00")),
    )


def test_a_special_day_has_extended_hours_around_its_own() -> None:
    special = SpecialDays({date(2026, 11, 28): (time(9, 30), time(16))})
    (day,) = exchange_sessions("XNYS extended", date(2026, 11, 28), date(2026, 11, 28), special).rows(named=True)
    assert (day["open"], day["regular_open"]) == (utc("2026-11-28 09:00"), utc("2026-11-28 14:30"))
    assert (day["regular_close"], day["close"]) == (utc("2026-11-28 21:00"), utc("2026-11-29 01:00"))


@pytest.mark.parametrize(
    ("calendar", "hours", "sentence"),
    [
        (
            "24/5",
            (time(0), time(23)),
            "of 2026-11-24 ends at 2026-11-24 23:00 at the exchange, after that of 2026-11-25",
        ),
        ("24/5", (time(16), time(17)), None),
        ("XNYS extended", (time(0), time(16)), "of 2026-11-23 ends at 2026-11-23 20:00 at the exchange, after that of"),
        ("XNYS extended", (time(5), time(23)), None),
    ],
)
def test_the_hours_of_a_special_day_that_reach_into_another_session_are_refused(
    calendar: str, hours: tuple[time, time], sentence: str | None
) -> None:
    special = SpecialDays({date(2026, 11, 24): hours})
    refused = nullcontext() if sentence is None else pytest.raises(ConfigurationError, match=sentence)
    with refused:
        exchange_sessions(calendar, date(2026, 11, 16), date(2026, 11, 27), special)


def test_the_fingerprint_of_sessions_changes_with_the_special_days() -> None:
    one, other = SpecialDays({BUDGET: None}), SpecialDays({}, frozenset({BUDGET}))
    assert len({exchanges.fingerprint(each) for each in (SpecialDays(), one, other)}) == 3
    assert exchanges.fingerprint(one) == exchanges.fingerprint(SpecialDays({BUDGET: None}))
