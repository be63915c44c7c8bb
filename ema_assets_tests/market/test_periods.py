"""Tests of bars of weeks, months, quarters and years, which consist of whole sessions."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_assets.market.calendars import bar_grid, last_bar_reach, last_closed, next_close, place, reach
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.market.rollups import dirty_buckets, roll_up
from ema_assets.model.schemas import BAR_SCHEMA, UTC_TIME
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets_tests.timeframes import MO1, W1

QUARTER, YEAR = by_key("3M"), by_key("12M")
PERIODS = (W1, MO1, QUARTER, YEAR)
SESSIONS = {
    calendar: exchange_sessions(calendar, date(2024, 12, 20), date(2027, 1, 15))
    for calendar in ("XNYS", "24/7", "24/5", "XSAU", "XTKS")
}


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def period(timeframe: Timeframe, calendar: str, day: date) -> object:
    """Return the period that a session belongs to, by Python's own calendar."""
    if timeframe is W1:
        # The Saudi week begins on a Sunday.
        return (day + timedelta(days=calendar == "XSAU")).isocalendar()[:2]
    return day.year, {MO1: day.month, QUARTER: (day.month - 1) // 3, YEAR: 0}[timeframe]


def expected(timeframe: Timeframe, calendar: str) -> list[tuple[datetime, datetime]]:
    spans: dict[object, list[tuple[datetime, datetime]]] = defaultdict(list)
    for day, opens, closes in SESSIONS[calendar].select("session", "regular_open", "regular_close").rows():
        spans[period(timeframe, calendar, day)].append((opens, closes))
    return sorted((min(each)[0], max(each)[1]) for each in spans.values())


@pytest.mark.parametrize("calendar", SESSIONS)
@pytest.mark.parametrize("timeframe", PERIODS)
def test_the_grid_equals_pythons_own_calendar(calendar: str, timeframe: Timeframe) -> None:
    assert bar_grid(SESSIONS[calendar], timeframe).select("ts", "ts_end").rows() == expected(timeframe, calendar)


def test_a_week_lasts_from_its_first_open_to_its_last_close() -> None:
    weeks = bar_grid(SESSIONS["XNYS"], W1).select("ts", "ts_end").rows()
    # In the week of Thanksgiving the Friday ends at 13:00 in New York. The week of Labor Day begins on a Tuesday.
    assert (utc("2026-11-23 14:30"), utc("2026-11-27 18:00")) in weeks
    assert (utc("2026-09-08 13:30"), utc("2026-09-11 20:00")) in weeks
    # A week of foreign exchange lasts from Sunday to Friday, 17:00 in New York.
    assert (utc("2026-11-22 22:00"), utc("2026-11-27 22:00")) in bar_grid(SESSIONS["24/5"], W1).select(
        "ts", "ts_end"
    ).rows()
    # Weeks of crypto are ISO weeks in UTC, also across the turn of the year.
    assert (utc("2025-12-29 00:00"), utc("2026-01-05 00:00")) in bar_grid(SESSIONS["24/7"], W1).select(
        "ts", "ts_end"
    ).rows()


@pytest.mark.parametrize(
    ("timeframe", "now", "last", "coming"),
    [
        (W1, "2026-11-27 17:59", ("2026-11-16 14:30", "2026-11-20 21:00"), ("2026-11-23 14:30", "2026-11-27 18:00")),
        (W1, "2026-11-27 18:00", ("2026-11-23 14:30", "2026-11-27 18:00"), ("2026-11-30 14:30", "2026-12-04 21:00")),
        (MO1, "2026-11-29 12:00", ("2026-10-01 13:30", "2026-10-30 20:00"), ("2026-11-02 14:30", "2026-11-30 21:00")),
        (QUARTER, "2026-11-29 12:00", ("2026-07-01 13:30", "2026-09-30 20:00"), ("2026-10-01 13:30", "2026-12-31 21:00")),
        (YEAR, "2026-11-29 12:00", ("2025-01-02 14:30", "2025-12-31 21:00"), ("2026-01-02 14:30", "2026-12-31 21:00")),
    ],
)  # fmt: skip
def test_the_sessions_around_a_moment_are_enough_to_find_the_last_closed_bar_and_the_next_one(
    timeframe: Timeframe, now: str, last: tuple[str, str], coming: tuple[str, str]
) -> None:
    moment = utc(now)
    sessions = exchange_sessions("XNYS", date(2023, 1, 3), date(2027, 11, 1))
    around = sessions.filter(
        pl.col("open") > moment - last_bar_reach(timeframe), pl.col("close") < moment + reach(timeframe)
    )
    assert last_closed(around, timeframe, moment).row(0)[1:] == tuple(map(utc, last))
    ahead = sessions.filter(
        pl.col("open") > moment - reach(timeframe), pl.col("close") < moment + timedelta(days=14) + reach(timeframe)
    )
    assert next_close(ahead, timeframe, moment).row(0)[1:] == tuple(map(utc, coming))


def days(calendar: str, *, without: frozenset[int] = frozenset()) -> pl.DataFrame:
    """Return a 1d bar per session except `without`: open n, high n + 0.5, low n - 0.5, close n + 0.25, volume 1."""
    opens = SESSIONS[calendar]["regular_open"].to_list()
    return pl.DataFrame(
        [
            ("AAPL", "1d", ts, float(n), n + 0.5, n - 0.5, n + 0.25, 1.0, calendar)
            for n, ts in enumerate(opens, start=1)
            if n not in without
        ],
        schema={**BAR_SCHEMA, "calendar": pl.String()},
        orient="row",
    )


@given(
    st.sampled_from(sorted(SESSIONS)),
    st.sampled_from(PERIODS),
    st.frozensets(st.integers(1, 400), max_size=150),
    st.integers(10, 700),
)
def test_weeks_and_months_equal_a_walk_through_their_sessions(
    calendar: str, timeframe: Timeframe, without: frozenset[int], complete: int
) -> None:
    sessions = SESSIONS[calendar]
    through = sessions["regular_close"][min(complete, sessions.height - 1)]
    known = pl.DataFrame(
        {"symbol": ["AAPL"], "complete_through": [through]}, schema_overrides={"complete_through": UTC_TIME}
    )
    closed, still_open = roll_up(days(calendar, without=without), timeframe, sessions, known)
    walked: dict[object, list[tuple[int, datetime]]] = defaultdict(list)
    ends: dict[object, datetime] = {}
    for n, (day, opens, closes) in enumerate(
        sessions.select("session", "regular_open", "regular_close").rows(), start=1
    ):
        walked[period(timeframe, calendar, day)].append((n, opens))
        ends[period(timeframe, calendar, day)] = closes
    wanted, first_open = [], None
    for key, members in walked.items():
        traded = [n for n, _ in members if n not in without]
        if not traded:
            continue
        if ends[key] <= through:
            row = (
                traded[0],
                traded[-1] + 0.5,
                traded[0] - 0.5,
                traded[-1] + 0.25,
                len(traded),
                len(members) - len(traded),
            )
            wanted.append((members[0][1], *map(float, row[:5]), row[5]))
        elif first_open is None:
            first_open = (members[0][1], ends[key])
    assert closed.select("ts", "open", "high", "low", "close", "volume", "missing_bars").rows() == wanted
    assert still_open.select("bucket", "bucket_end").rows() == ([] if first_open is None else [first_open])


def test_a_changed_day_makes_its_whole_week_dirty() -> None:
    changed = pl.DataFrame(
        {"symbol": ["AAPL"], "calendar": ["XNYS"], "changed_from": [utc("2026-11-25 14:30")]},
        schema_overrides={"changed_from": UTC_TIME},
    )
    assert dirty_buckets(changed, W1, SESSIONS["XNYS"]).rows() == [
        ("AAPL", utc("2026-11-23 14:30"), utc("2026-11-27 18:00"))
    ]


def test_each_week_counts_as_one_session() -> None:
    bars = bar_grid(SESSIONS["XNYS"], W1).select("calendar", "ts", symbol=pl.lit("AAPL"))
    placed = place(bars, W1, SESSIONS["XNYS"])
    assert placed["session"].equals(bars["ts"])
    assert placed["ts_end"].to_list() == [closes for _, closes in expected(W1, "XNYS")]
    assert placed["is_session_last"].all()


def test_a_week_is_called_after_its_first_session() -> None:
    found = bar_grid(SESSIONS["XNYS"], W1).filter(pl.col("ts") == utc("2026-09-08 13:30"))
    assert found["session"].to_list() == [date(2026, 9, 8)]
