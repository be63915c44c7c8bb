"""Sessions and the grid of bars: half days, holidays, daylight saving, lunch breaks, markets that never close."""

from datetime import UTC, date, datetime, timedelta

import exchange_calendars
import polars as pl
import pytest

from ema_assets.market.calendars import (
    bar_grid,
    exchange_sessions,
    known_calendars,
    last_closed,
    next_close,
    segments,
)
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.schemas import SESSION_SCHEMA
from ema_assets.model.timeframes import ORDER, Timeframe, by_key
from ema_assets_tests.market import reference
from ema_assets_tests.timeframes import D1, H1, H4, M5


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# Thanksgiving is the 26th; the 27th ends at 13:00 in New York.
THANKSGIVING = exchange_sessions("XNYS", date(2026, 11, 23), date(2026, 12, 1))
HONG_KONG = exchange_sessions("XHKG", date(2026, 7, 6), date(2026, 7, 10))
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
def test_sessions_equal_those_of_the_library_one_by_one(calendar: str, start: date, end: date) -> None:
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
def test_the_open_moves_by_an_hour_in_utc_when_daylight_saving_switches(before: date, after: date) -> None:
    opens = exchange_sessions("XNYS", before, after)["open"].to_list()
    assert len(opens) == 2
    assert abs((opens[1] - opens[0]) - timedelta(days=3)) == timedelta(hours=1)


def test_a_market_that_never_closes_has_one_session_a_utc_day() -> None:
    assert CRYPTO.schema == SESSION_SCHEMA
    assert CRYPTO["session"].to_list() == [date(2026, 11, day) for day in (25, 26, 27, 28)]
    assert CRYPTO["open"].to_list()[1:] == CRYPTO["close"].to_list()[:-1]
    assert CRYPTO["break_start"].null_count() == CRYPTO.height


def test_an_unknown_calendar_is_named_with_what_is_allowed() -> None:
    with pytest.raises(ConfigurationError, match=r"`calendar` must be '24/7' or a code .*received 'NYSEE'"):
        exchange_sessions("NYSEE", date(2026, 1, 1), date(2026, 1, 2))


def test_sessions_end_where_the_library_knows_no_further_holidays() -> None:
    last = exchange_calendars.get_calendar("XBOM").bound_max().date()
    found = exchange_sessions("XBOM", last - timedelta(days=60), last + timedelta(days=400))
    assert last - timedelta(days=7) <= found["session"].max() <= last


def test_sessions_begin_where_the_library_knows_no_earlier_holidays() -> None:
    first = exchange_calendars.get_calendar("XTKS").bound_min().date()
    found = exchange_sessions("XTKS", first - timedelta(days=4000), first + timedelta(days=60))
    assert first <= found["session"].min() <= first + timedelta(days=14)


def test_a_time_entirely_outside_what_the_library_knows_has_no_session() -> None:
    last = exchange_calendars.get_calendar("XBOM").bound_max().date()
    assert exchange_sessions("XBOM", last + timedelta(days=50), last + timedelta(days=60)).is_empty()


def test_a_calendar_that_the_library_cannot_build_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        raise NotImplementedError("implemented by subclasses")

    monkeypatch.setattr(exchange_calendars, "get_calendar", broken)
    with pytest.raises(ConfigurationError, match=r"'XBSE'.*exchange_calendars.*implemented by subclasses"):
        exchange_sessions("XBSE", date(2026, 1, 1), date(2026, 1, 2))


def test_known_calendars_hold_codes_and_aliases() -> None:
    names = known_calendars()
    assert {"XNYS", "NYSE", "24/7"} <= set(names)
    assert names == sorted(names)


def test_a_lunch_break_splits_a_session_in_two() -> None:
    one = segments(HONG_KONG.head(1))
    assert one.select("segment_open", "segment_close").rows() == [
        (utc("2026-07-06 01:30"), utc("2026-07-06 04:00")),
        (utc("2026-07-06 05:00"), utc("2026-07-06 08:00")),
    ]


@pytest.mark.parametrize("sessions", [THANKSGIVING, HONG_KONG, CRYPTO], ids=["half day", "lunch break", "24/7"])
@pytest.mark.parametrize("timeframe", [each for each in ORDER if each is not D1])
def test_the_grid_equals_a_walk_through_the_sessions(sessions: pl.DataFrame, timeframe: Timeframe) -> None:
    grid = bar_grid(sessions, timeframe).select("ts", "ts_end").rows()
    assert grid == reference.buckets(sessions, timeframe.duration)


def test_a_daily_bar_spans_its_session() -> None:
    assert bar_grid(THANKSGIVING, D1).select("ts", "ts_end").rows() == list(
        THANKSGIVING.select("open", "close").iter_rows()
    )


def test_the_last_four_hour_bar_is_cut_at_the_close() -> None:
    friday = THANKSGIVING.filter(session=date(2026, 11, 27))
    assert bar_grid(friday, H4).select("ts", "ts_end").rows() == [(utc("2026-11-27 14:30"), utc("2026-11-27 18:00"))]


# Each case: now, the last closed bar, the next bar to close.
MOMENTS = [
    ("5m", "2026-11-25 15:02", ("14:55", "15:00"), ("15:00", "15:05")),
    ("5m", "2026-11-25 15:05", ("15:00", "15:05"), ("15:05", "15:10")),
    ("5m", "2026-11-25 21:00", ("20:55", "21:00"), ("2026-11-27 14:30", "2026-11-27 14:35")),
    ("1h", "2026-11-25 20:59", ("19:30", "20:30"), ("20:30", "21:00")),
    ("1h", "2026-11-25 21:00", ("20:30", "21:00"), ("2026-11-27 14:30", "2026-11-27 15:30")),
    ("1d", "2026-11-25 20:59", ("2026-11-24 14:30", "2026-11-24 21:00"), ("14:30", "21:00")),
    ("1d", "2026-11-25 21:00", ("14:30", "21:00"), ("2026-11-27 14:30", "2026-11-27 18:00")),
    ("4h", "2026-11-26 18:00", ("2026-11-25 18:30", "2026-11-25 21:00"), ("2026-11-27 14:30", "2026-11-27 18:00")),
    ("5m", "2026-11-27 14:31", ("2026-11-25 20:55", "2026-11-25 21:00"), ("14:30", "14:35")),
    ("5m", "2026-11-27 14:30", ("2026-11-25 20:55", "2026-11-25 21:00"), ("14:30", "14:35")),
    ("15m", "2026-11-29 12:00", ("2026-11-27 17:45", "2026-11-27 18:00"), ("2026-11-30 14:30", "2026-11-30 14:45")),
]


@pytest.mark.parametrize(("timeframe", "now", "last", "coming"), MOMENTS)
def test_the_last_closed_bar_and_the_next_one_to_close(
    timeframe: str, now: str, last: tuple[str, str], coming: tuple[str, str]
) -> None:
    def moments(pair: tuple[str, str]) -> tuple[str, datetime, datetime]:
        start, end = (utc(text if " " in text else f"{now[:10]} {text}") for text in pair)
        return ("XNYS", start, end)

    assert last_closed(THANKSGIVING, by_key(timeframe), utc(now)).rows() == [moments(last)]
    assert next_close(THANKSGIVING, by_key(timeframe), utc(now)).rows() == [moments(coming)]


def test_during_lunch_the_last_bar_is_the_one_before_it() -> None:
    noon = utc("2026-07-08 04:30")
    assert last_closed(HONG_KONG, H1, noon).rows() == [("XHKG", utc("2026-07-08 03:30"), utc("2026-07-08 04:00"))]
    assert next_close(HONG_KONG, H1, noon).rows() == [("XHKG", utc("2026-07-08 05:00"), utc("2026-07-08 06:00"))]


def test_calendars_are_judged_one_by_one() -> None:
    both = pl.concat([THANKSGIVING, CRYPTO])
    found = last_closed(both, M5, utc("2026-11-26 12:01"))
    assert found.rows() == [
        ("24/7", utc("2026-11-26 11:55"), utc("2026-11-26 12:00")),
        ("XNYS", utc("2026-11-25 20:55"), utc("2026-11-25 21:00")),
    ]


def test_at_midnight_the_day_of_a_market_that_never_closes_has_closed() -> None:
    midnight = utc("2026-11-27 00:00")
    assert last_closed(CRYPTO, D1, midnight).rows() == [("24/7", utc("2026-11-26 00:00"), midnight)]
    assert next_close(CRYPTO, D1, midnight).rows() == [("24/7", midnight, utc("2026-11-28 00:00"))]


def test_no_session_yet_means_nothing_has_closed() -> None:
    assert last_closed(THANKSGIVING, M5, utc("2026-11-01 00:00")).is_empty()
    assert next_close(THANKSGIVING, M5, utc("2026-12-25 00:00")).is_empty()
