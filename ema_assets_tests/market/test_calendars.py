"""Tests of the grid of bars and of the placement of bars: half days, lunch breaks, clock hours, unlisted days."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from ema_assets.market.calendars import (
    bar_grid,
    last_closed,
    next_close,
    place,
    segments,
    unlisted_sessions,
    with_trend_of,
)
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets_tests.market import reference
from ema_assets_tests.timeframes import D1, H1, H4, M5, ORDER


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# Thanksgiving is the 26th; the 27th ends at 13:00 in New York.
THANKSGIVING = exchange_sessions("XNYS", date(2026, 11, 23), date(2026, 12, 1))
HONG_KONG = exchange_sessions("XHKG", date(2026, 7, 6), date(2026, 7, 10))
CRYPTO = exchange_sessions("24/7", date(2026, 11, 25), date(2026, 11, 28))


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


# Each case: timeframe, now, the last closed bar, the next bar to close.
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
def test_the_last_closed_bar_and_the_next_bar_to_close_are_found(
    timeframe: str, now: str, last: tuple[str, str], coming: tuple[str, str]
) -> None:
    def moments(pair: tuple[str, str]) -> tuple[str, datetime, datetime]:
        start, end = (utc(text if " " in text else f"{now[:10]} {text}") for text in pair)
        return ("XNYS", start, end)

    assert last_closed(THANKSGIVING, by_key(timeframe), utc(now)).rows() == [moments(last)]
    assert next_close(THANKSGIVING, by_key(timeframe), utc(now)).rows() == [moments(coming)]


def test_the_last_closed_bar_during_lunch_is_the_one_before_it() -> None:
    noon = utc("2026-07-08 04:30")
    assert last_closed(HONG_KONG, H1, noon).rows() == [("XHKG", utc("2026-07-08 03:30"), utc("2026-07-08 04:00"))]
    assert next_close(HONG_KONG, H1, noon).rows() == [("XHKG", utc("2026-07-08 05:00"), utc("2026-07-08 06:00"))]


def test_the_last_closed_bar_is_determined_per_calendar() -> None:
    both = pl.concat([THANKSGIVING, CRYPTO])
    found = last_closed(both, M5, utc("2026-11-26 12:01"))
    assert found.rows() == [
        ("24/7", utc("2026-11-26 11:55"), utc("2026-11-26 12:00")),
        ("XNYS", utc("2026-11-25 20:55"), utc("2026-11-25 21:00")),
    ]


def test_the_day_of_a_market_that_never_closes_ends_at_midnight() -> None:
    midnight = utc("2026-11-27 00:00")
    assert last_closed(CRYPTO, D1, midnight).rows() == [("24/7", utc("2026-11-26 00:00"), midnight)]
    assert next_close(CRYPTO, D1, midnight).rows() == [("24/7", midnight, utc("2026-11-28 00:00"))]


def test_there_is_no_closed_bar_before_the_first_session_and_no_next_one_after_the_last() -> None:
    assert last_closed(THANKSGIVING, M5, utc("2026-11-01 00:00")).is_empty()
    assert next_close(THANKSGIVING, M5, utc("2026-12-25 00:00")).is_empty()


# --- placement of bars ------------------------------------------------------------------------------------------------


def placed(calendar: str, timeframe: Timeframe, *moments: str, sessions: pl.DataFrame) -> list[tuple[object, ...]]:
    bars = pl.DataFrame({"calendar": calendar, "ts": [utc(text) for text in moments]}).cast({"ts": UTC_TIME})
    found = place(bars, timeframe, sessions)
    assert found.columns == ["calendar", "ts", "session", "ts_end", "is_session_last"]
    return found.select("session", "ts_end", "is_session_last").rows()


def test_an_hour_that_begins_before_the_open_belongs_to_the_session_in_which_it_trades() -> None:
    """Of clock hours, the one from 14:00 includes the open at 14:30, and the one from 20:00 ends with the close."""
    times = [f"2026-11-25 {hour}:00" for hour in (14, 15, 20)]
    opened = utc("2026-11-25 14:30")
    assert placed("XNYS", H1, *times, sessions=THANKSGIVING) == [
        (opened, utc("2026-11-25 15:00"), False),
        (opened, utc("2026-11-25 16:00"), False),
        (opened, utc("2026-11-25 21:00"), True),
    ]


def test_a_bar_ends_at_the_lunch_break_unless_it_reaches_into_the_afternoon() -> None:
    opened = utc("2026-07-06 01:30")
    assert placed("XHKG", H1, "2026-07-06 03:30", "2026-07-06 04:30", sessions=HONG_KONG) == [
        (opened, utc("2026-07-06 04:00"), False),
        (opened, utc("2026-07-06 05:30"), False),
    ]
    # The four clock hours include the first hour of the afternoon, so they are not complete at noon.
    assert placed("XHKG", H4, "2026-07-06 02:00", sessions=HONG_KONG) == [(opened, utc("2026-07-06 06:00"), False)]


def test_a_bar_that_spans_two_sessions_belongs_to_the_later_one() -> None:
    globex = exchange_sessions("CMES", date(2026, 7, 6), date(2026, 7, 8))
    # From 14:00 to 18:00 in Chicago, including the pause from 16:00 to 17:00.
    assert placed("CMES", H4, "2026-07-06 19:00", sessions=globex) == [
        (utc("2026-07-06 22:00"), utc("2026-07-06 23:00"), False)
    ]


@pytest.mark.parametrize("timeframe", [*(each for each in ORDER if not each.is_session), by_key("6h")])
@pytest.mark.parametrize("sessions", [THANKSGIVING, HONG_KONG, CRYPTO], ids=["half day", "lunch break", "24/7"])
def test_bars_of_the_grid_are_placed_in_their_session_with_the_ends_of_the_grid(
    sessions: pl.DataFrame, timeframe: Timeframe
) -> None:
    grid = bar_grid(sessions, timeframe)
    opens = dict(sessions.select("session", "open").iter_rows())
    found = place(grid.select("calendar", "ts"), timeframe, sessions)
    assert found["ts_end"].to_list() == grid["ts_end"].to_list()
    assert found["session"].to_list() == [opens[day] for day in grid["session"]]
    last = grid.group_by("session").agg(pl.col("ts").max())["ts"].to_list()
    assert found.filter("is_session_last")["ts"].to_list() == sorted(last)


def test_a_day_without_a_session_has_the_hours_of_the_previous_session() -> None:
    found = unlisted_sessions(THANKSGIVING).select("session", "open", "close")
    assert found.rows() == [
        (date(2026, 11, 26), utc("2026-11-26 14:30"), utc("2026-11-26 21:00")),
        (date(2026, 11, 28), utc("2026-11-28 14:30"), utc("2026-11-28 18:00")),
        (date(2026, 11, 29), utc("2026-11-29 14:30"), utc("2026-11-29 18:00")),
    ]
    assert unlisted_sessions(CRYPTO).is_empty()


def test_bars_of_a_day_without_a_session_form_a_session_of_their_own() -> None:
    opened, closed = utc("2026-11-26 14:30"), utc("2026-11-26 21:00")
    assert placed("XNYS", D1, "2026-11-26 14:30", sessions=THANKSGIVING) == [(opened, closed, True)]
    assert placed("XNYS", M5, "2026-11-26 14:30", "2026-11-26 20:55", sessions=THANKSGIVING) == [
        (opened, utc("2026-11-26 14:35"), False),
        (opened, closed, True),
    ]


def test_a_bar_outside_all_hours_belongs_to_the_session_before_it() -> None:
    assert placed("XNYS", M5, "2026-11-25 22:00", sessions=THANKSGIVING) == [
        (utc("2026-11-25 14:30"), utc("2026-11-25 22:05"), False)
    ]


def test_a_day_of_a_market_with_extended_hours_ends_with_the_regular_ones() -> None:
    extended = exchange_sessions("XNYS extended", date(2026, 11, 23), date(2026, 11, 27))
    assert placed("XNYS extended", D1, "2026-11-25 14:30", sessions=extended) == [
        (utc("2026-11-25 09:00"), utc("2026-11-25 21:00"), True)
    ]


def test_a_bar_half_a_step_beside_the_grid_that_spans_a_lunch_break_ends_in_the_afternoon() -> None:
    """Four hours from 11:30 in Hong Kong, two hours after the open."""
    assert placed("XHKG", H4, "2026-07-06 03:30", sessions=HONG_KONG) == [
        (utc("2026-07-06 01:30"), utc("2026-07-06 07:30"), False)
    ]


def test_the_trend_of_a_longer_timeframe_counts_from_the_close_of_its_bar() -> None:
    rows = [("AAPL", minutes) for minutes in (25, 30, 35)] + [("MSFT", 35)]
    schema = {"symbol": pl.String(), "ts": UTC_TIME, "ts_end": UTC_TIME}
    bars = pl.DataFrame(
        [(symbol, utc(f"2026-11-25 15:{end - 5}"), utc(f"2026-11-25 15:{end}")) for symbol, end in rows],
        schema,
        orient="row",
    )
    hours = pl.DataFrame(
        {"symbol": "AAPL", "ts_end": [utc("2026-11-25 16:30"), utc("2026-11-25 15:30")], "trend": ["down", "up"]},
        {"symbol": pl.String(), "ts_end": UTC_TIME, "trend": pl.String()},
    )
    assert with_trend_of(bars, hours).select("symbol", "higher_trend").rows() == [
        ("AAPL", None),
        ("AAPL", "up"),
        ("AAPL", "up"),
        ("MSFT", None),
    ]
