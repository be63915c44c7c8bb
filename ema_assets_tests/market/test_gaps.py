"""Tests of gaps: which bars are missing, when they are requested again, and when they are given up."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_assets.market.exchanges import exchange_sessions
from ema_assets.market.gaps import (
    DID_NOT_TRADE,
    MOST_ATTEMPTS,
    MOST_PATIENT_ATTEMPTS,
    NOT_IN_FILE,
    OPEN,
    clusters,
    expected,
    grid_with_slots,
    next_due_time,
    reconcile,
)
from ema_assets.model.schemas import GAP_SCHEMA, UTC_TIME
from ema_assets.model.timeframes import Timeframe
from ema_assets_tests.timeframes import D1, H1, H4, M5

STEP = timedelta(minutes=5)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def sessions(calendar: str, first: str, last: str) -> pl.DataFrame:
    return exchange_sessions(calendar, date.fromisoformat(first), date.fromisoformat(last))


def windows(*rows: tuple[str, str, str, str]) -> pl.DataFrame:
    schema = {"symbol": pl.String(), "calendar": pl.String(), "start": UTC_TIME, "end": UTC_TIME}
    parsed = [(symbol, calendar, utc(start), utc(end)) for symbol, calendar, start, end in rows]
    return pl.DataFrame(parsed, schema=schema, orient="row")


def times(frame: pl.DataFrame) -> list[str]:
    return [f"{ts:%m-%d %H:%M}" for ts in frame["ts"]]


# --- expected bars --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calendar", "first", "last", "timeframe", "bars"),
    [
        pytest.param("XNYS", "2026-11-25", "2026-11-27", M5, 78 + 42, id="a holiday and a half day"),
        pytest.param("XNYS", "2026-11-25", "2026-11-30", D1, 3, id="days around a holiday and a weekend"),
        pytest.param("XHKG", "2026-02-13", "2026-02-20", M5, 66 + 30 + 66, id="lunch and the Lunar New Year"),
        pytest.param("XNYS", "2026-03-06", "2026-03-09", M5, 2 * 78, id="the clocks go forward"),
        pytest.param("XLON", "2026-10-23", "2026-10-26", H1, 2 * 9, id="the clocks go back"),
        pytest.param("24/7", "2026-11-27", "2026-11-29", H4, 18, id="no weekend"),
    ],
)
def test_slots_of_the_grid_are_consecutive_across_breaks_and_closed_days(
    calendar: str, first: str, last: str, timeframe: Timeframe, bars: int
) -> None:
    grid = grid_with_slots(sessions(calendar, first, last), timeframe)
    assert grid["slot"].to_list() == list(range(bars))
    assert grid["ts"].is_sorted()


def test_clock_hours_begin_before_the_open_and_end_at_the_close() -> None:
    grid = grid_with_slots(sessions("XNYS", "2026-11-27", "2026-11-27"), H1, by_clock=True)
    assert times(grid) == [f"11-27 {hour}:00" for hour in (14, 15, 16, 17)]
    assert grid["ts_end"].to_list() == [utc(f"2026-11-27 {hour}:00") for hour in (15, 16, 17, 18)]
    london = grid_with_slots(sessions("XLON", "2026-11-27", "2026-11-27"), H1, by_clock=True)
    assert london.select("ts", "ts_end").row(-1) == (utc("2026-11-27 16:00"), utc("2026-11-27 16:30"))
    days = sessions("XNYS", "2026-11-25", "2026-11-27")
    by_day = grid_with_slots(days, D1, by_clock=True)
    assert by_day.equals(grid_with_slots(days, D1))


def test_the_bars_that_open_within_a_window_are_expected() -> None:
    trading = pl.concat([sessions("XNYS", "2026-11-25", "2026-11-27"), sessions("24/7", "2026-11-25", "2026-11-27")])
    grid = grid_with_slots(trading, M5)
    found = expected(
        windows(
            ("AAPL", "XNYS", "2026-11-25 20:50", "2026-11-27 14:35"),
            ("BTC-USD", "24/7", "2026-11-26 00:00", "2026-11-26 00:10"),
            ("MSFT", "XNYS", "2026-11-26 00:00", "2026-11-27 00:00"),
            ("TSLA", "XNYS", "2026-11-27 17:50", "2026-11-27 18:00"),
        ),
        grid,
    )
    assert {symbol: times(found.filter(symbol=symbol)) for symbol in found["symbol"].unique()} == {
        "AAPL": ["11-25 20:50", "11-25 20:55", "11-27 14:30"],
        "BTC-USD": ["11-26 00:00", "11-26 00:05"],
        "TSLA": ["11-27 17:50", "11-27 17:55"],
    }
    assert found.filter(symbol="AAPL")["slot"].diff().drop_nulls().to_list() == [1, 1]
    assert expected(windows(), grid).schema == found.schema


# --- life of a gap --------------------------------------------------------------------------------------------------


class Account:
    """The known gaps of one symbol, reconciled with the missing bars again and again."""

    def __init__(self, calendar: str = "XNYS", days: Sequence[str] = ("2026-11-25", "2026-11-27")) -> None:
        self.grid = grid_with_slots(sessions(calendar, *days), M5)
        self.known = GAP_SCHEMA.to_frame()

    def hears(
        self,
        now: str | datetime,
        *missing: str,
        fetched: bool = True,
        missed_by_all: bool = False,
        answered: bool = True,
    ) -> list[tuple[str, str, int, str, int]]:
        """Reconcile at `now` with the bars of the grid that are `missing` (times, or `from..to`).

        They are missing in an answer of a provider, or in a file if it was not `answered`.
        """
        moment = utc(now) if isinstance(now, str) else now
        ranges = [
            (utc(f"2026-{low}"), utc(f"2026-{high or low}")) for low, _, high in (m.partition("..") for m in missing)
        ]
        wanted = pl.any_horizontal(pl.lit(False), *(pl.col("ts").is_between(low, high) for low, high in ranges))
        frame = self.grid.filter(wanted).select(pl.lit("AAPL").alias("symbol"), "ts", "ts_end", "slot")
        asked = pl.DataFrame({"symbol": ["AAPL"], "is_fetched": [fetched]})
        found = reconcile(
            frame.sample(fraction=1.0, shuffle=True, seed=1),
            self.known,
            M5,
            moment,
            is_asked=asked,
            outage=frame if missed_by_all else frame.clear(),
            is_answered=answered,
        )
        assert found.schema == GAP_SCHEMA
        assert found["bars"].sum() == frame.height
        assert found.select((pl.col("next_attempt_at").is_not_null() == (pl.col("status") == OPEN)).all()).item()
        self.known = found
        return self.rows

    @property
    def rows(self) -> list[tuple[str, str, int, str, int]]:
        rows = self.known.select("first_ts", "last_ts", "bars", "status", "asked").rows()
        return [(f"{low:%m-%d %H:%M}", f"{high:%m-%d %H:%M}", *rest) for low, high, *rest in rows]

    @property
    def due(self) -> datetime:
        (moment,) = self.known["next_attempt_at"].drop_nulls().unique()
        assert isinstance(moment, datetime)
        return moment


def test_consecutive_missing_bars_are_one_gap() -> None:
    account = Account()
    missing = ["11-25 15:00..11-25 15:10", "11-25 16:00", "11-25 20:50..11-27 14:35"]
    assert account.hears("2026-11-27 14:40", *missing, answered=False) == [
        # A gap may span bars of two days ago and of minutes ago, until it is given up.
        ("11-25 15:00", "11-25 15:10", 3, OPEN, 0),
        ("11-25 16:00", "11-25 16:00", 1, OPEN, 0),
        ("11-25 20:50", "11-27 14:35", 4, OPEN, 0),
    ]


def test_lunch_breaks_and_half_days_do_not_split_a_gap() -> None:
    account = Account("XHKG", ("2026-02-13", "2026-02-20"))
    # The half day before the holidays ends at noon. Trading continues four days later.
    found = account.hears("2026-02-20 02:00", "02-13 03:50..02-13 05:00", "02-16 03:55..02-20 01:35", answered=False)
    assert [row[:3] for row in found] == [("02-13 03:50", "02-13 05:00", 3), ("02-16 03:55", "02-20 01:35", 3)]


def test_pauses_grow_until_a_gap_is_settled_as_not_traded() -> None:
    account = Account()
    now, pauses = utc("2026-11-25 15:07:30"), []
    account.hears(now, "11-25 15:00")
    for asked in range(1, MOST_ATTEMPTS + 1):
        due = account.due
        pauses.append(due - now)
        # An answer to another request shortly before does not postpone it.
        assert account.hears(due - timedelta(seconds=1), "11-25 15:00")[0][3:] == (OPEN, asked - 1)
        assert account.due == due
        now = due
        status = OPEN if asked < MOST_ATTEMPTS else DID_NOT_TRADE
        assert account.hears(now, "11-25 15:00") == [("11-25 15:00", "11-25 15:00", 1, status, asked)]
    assert [pause / timedelta(minutes=1) for pause in pauses] == [5, 20, 80, 320]
    for hours in (1, 24, 400):
        assert account.hears(now + timedelta(hours=hours), "11-25 15:00")[0][3:] == (DID_NOT_TRADE, MOST_ATTEMPTS)


def test_an_old_gap_of_a_file_is_requested_once() -> None:
    account = Account()
    account.hears("2026-11-27 14:40", "11-25 15:00", answered=False)
    assert account.hears(account.due, "11-25 15:00") == [("11-25 15:00", "11-25 15:00", 1, DID_NOT_TRADE, 1)]


def test_another_file_with_a_gap_that_is_due_is_not_an_answer_of_the_provider() -> None:
    """Two files are read one after the other, and the provider was not asked in between."""
    account = Account()
    account.hears("2026-11-27 14:40", "11-25 15:00", answered=False)
    due = account.due
    assert account.hears(due + timedelta(hours=1), "11-25 15:00", answered=False)[0][3:] == (OPEN, 0)
    assert account.due == due
    assert account.hears(due + timedelta(hours=2), "11-25 15:00")[0][3:] == (DID_NOT_TRADE, 1)


def test_an_old_gap_within_an_answer_is_not_requested_again() -> None:
    account = Account()
    assert account.hears("2026-11-27 14:40", "11-25 15:00")[0][3:] == (DID_NOT_TRADE, 0)
    assert account.hears("2026-11-27 16:00", "11-25 15:00")[0][3:] == (DID_NOT_TRADE, 0)


@pytest.mark.parametrize("found", ["2026-11-25 15:07:30", "2026-11-27 14:40"])
def test_a_gap_of_every_symbol_is_requested_again_over_the_next_weeks(found: str) -> None:
    """The vendor has an outage and repairs it within days. It is implausible that no symbol traded."""
    account = Account()
    now, pauses = utc(found), []
    account.hears(now, "11-25 15:00", missed_by_all=True)
    for asked in range(1, MOST_PATIENT_ATTEMPTS + 1):
        pauses.append(account.due - now)
        now = account.due
        status = OPEN if asked < MOST_PATIENT_ATTEMPTS else DID_NOT_TRADE
        told = account.hears(now, "11-25 15:00", missed_by_all=True)
        assert told == [("11-25 15:00", "11-25 15:00", 1, status, asked)]
    days = [round(pause / timedelta(days=1), 1) for pause in pauses]
    assert days[4:] == [1, 2, 4, 8]
    assert all(pause > timedelta(hours=23) for pause in pauses) is (found == "2026-11-27 14:40")


def test_a_day_that_is_missing_right_after_its_close_is_requested_again_within_hours() -> None:
    now = utc("2026-11-26 00:05")
    day = grid_with_slots(sessions("24/7", "2026-11-24", "2026-11-25"), D1).tail(1)
    missing = day.select("ts", "ts_end", "slot", symbol=pl.lit("BTC-USD"))
    asked = pl.DataFrame({"symbol": ["BTC-USD"], "is_fetched": [True]})
    known, outage = GAP_SCHEMA.to_frame(), missing.clear()
    found = reconcile(missing, known, D1, now, is_asked=asked, outage=outage, is_answered=True)
    assert found.select("status", "next_attempt_at").row(0) == (OPEN, next_due_time(now + D1.fetched.gap_pause))


def test_a_settled_gap_stays_settled_when_every_symbol_comes_to_miss_it() -> None:
    account = Account()
    account.hears("2026-11-27 14:40", "11-25 15:00", answered=False)
    account.hears(account.due, "11-25 15:00")
    assert account.hears("2026-11-27 16:00", "11-25 15:00", missed_by_all=True)[0][3:] == (DID_NOT_TRADE, 1)


@pytest.mark.parametrize(("now", "found"), [("2026-12-16 15:00", (OPEN, 0)), ("2026-12-16 15:05", (DID_NOT_TRADE, 0))])
def test_a_gap_of_every_symbol_is_doubted_for_three_weeks(now: str, found: tuple[str, int]) -> None:
    assert Account().hears(now, "11-25 15:00", missed_by_all=True)[0][3:] == found


def test_a_gap_that_other_symbols_no_longer_have_is_settled_like_any_other() -> None:
    account = Account()
    account.hears("2026-11-25 15:07:30", "11-25 15:00", missed_by_all=True)
    for _ in range(MOST_ATTEMPTS - 1):
        account.hears(account.due, "11-25 15:00", missed_by_all=True)
    assert account.hears(account.due, "11-25 15:00")[0][3:] == (DID_NOT_TRADE, MOST_ATTEMPTS)


def test_a_gap_that_becomes_old_while_it_waits_is_not_given_up_early() -> None:
    account = Account()
    account.hears("2026-11-25 15:07", "11-25 15:00")
    assert account.hears("2026-11-27 15:00", "11-25 15:00")[0][3:] == (OPEN, 1)


def test_bars_that_arrive_split_a_gap_into_parts_that_keep_its_number_of_requests() -> None:
    account = Account()
    account.hears("2026-11-25 15:27", "11-25 15:00..11-25 15:20")
    due = account.due
    found = account.hears(due, "11-25 15:00..11-25 15:05", "11-25 15:15..11-25 15:20")
    assert found == [("11-25 15:00", "11-25 15:05", 2, OPEN, 1), ("11-25 15:15", "11-25 15:20", 2, OPEN, 1)]
    assert account.hears(account.due, "11-25 15:20") == [("11-25 15:20", "11-25 15:20", 1, OPEN, 2)]
    assert account.hears(account.due) == []


def test_a_late_bar_splits_a_settled_gap_into_parts_that_stay_settled() -> None:
    account = Account()
    account.hears("2026-11-27 14:40", "11-25 15:00..11-25 15:10", answered=False)
    account.hears(account.due, "11-25 15:00..11-25 15:10")
    assert account.hears("2026-11-27 16:00", "11-25 15:00", "11-25 15:10") == [
        ("11-25 15:00", "11-25 15:00", 1, DID_NOT_TRADE, 1),
        ("11-25 15:10", "11-25 15:10", 1, DID_NOT_TRADE, 1),
    ]


def test_a_new_gap_next_to_a_known_gap_is_a_separate_gap() -> None:
    """The two gaps were requested a different number of times."""
    account = Account()
    account.hears("2026-11-25 15:07", "11-25 15:00")
    account.hears(account.due, "11-25 15:00")
    assert account.hears("2026-11-25 15:20", "11-25 14:55..11-25 15:10") == [
        ("11-25 14:55", "11-25 14:55", 1, OPEN, 0),
        ("11-25 15:00", "11-25 15:00", 1, OPEN, 1),
        ("11-25 15:05", "11-25 15:10", 2, OPEN, 0),
    ]


def test_each_missing_bar_belongs_to_its_own_gap_in_whatever_order_bars_are_given() -> None:
    account = Account()
    account.hears("2026-11-25 15:17", "11-25 15:00..11-25 15:10")
    account.hears(account.due, "11-25 15:00..11-25 15:10")
    missing = ["11-25 15:00..11-25 15:10", "11-25 15:20..11-25 15:30"]
    found = account.hears("2026-11-25 15:37", *missing)
    assert [row[2:] for row in found] == [(3, OPEN, 1), (3, OPEN, 0)]
    assert account.hears("2026-11-25 15:38", *missing) == found


def test_missing_bars_of_files_are_requested_only_once_the_symbol_is_fetched() -> None:
    account = Account()
    for moment in ("2026-11-25 18:00", "2026-11-27 18:00"):
        assert account.hears(moment, "11-25 15:00", fetched=False)[0][3:] == (NOT_IN_FILE, 0)
    assert account.hears("2026-11-27 18:00", "11-25 15:00", answered=False)[0][3:] == (OPEN, 0)
    assert account.hears("2026-11-27 18:00", "11-25 15:00", fetched=False)[0][3:] == (NOT_IN_FILE, 0)


def test_gaps_of_several_symbols_do_not_mix() -> None:
    grid = Account().grid.head(6)
    missing = pl.concat(
        [grid[:3].select(pl.lit("AAPL").alias("symbol"), "ts", "ts_end", "slot"),
         grid[1:3].select(pl.lit("MSFT").alias("symbol"), "ts", "ts_end", "slot")]
    )  # fmt: skip
    asked = pl.DataFrame({"symbol": ["AAPL", "MSFT"], "is_fetched": [True, False]})
    never: dict[str, Any] = {"outage": missing.clear(), "is_answered": False}
    found = reconcile(missing, GAP_SCHEMA.to_frame(), M5, utc("2026-11-25 15:00"), is_asked=asked, **never)
    assert found.select("symbol", "bars", "status").rows() == [("AAPL", 3, OPEN), ("MSFT", 2, NOT_IN_FILE)]
    known = found
    again = reconcile(missing, known, M5, utc("2026-11-25 15:01"), is_asked=asked, **never)
    assert again.equals(known)
    nothing = reconcile(missing.clear(), known, M5, utc("2026-11-25 15:01"), is_asked=asked, **never)
    assert nothing.schema == GAP_SCHEMA
    assert nothing.is_empty()


@pytest.mark.broad
@given(st.data())
def test_every_missing_bar_is_in_exactly_one_gap(data: st.DataObject) -> None:
    """A gap that is settled is never requested again."""
    account = Account(days=("2026-11-25", "2026-11-25"))
    slots = [f"{ts:%m-%d %H:%M}" for ts in account.grid["ts"]][:12]
    now = utc("2026-11-25 15:31")
    settled: set[datetime] = set()
    for _ in range(data.draw(st.integers(1, 6))):
        missing = data.draw(st.sets(st.sampled_from(slots)))
        account.hears(now, *missing)
        ranges = account.known.select(
            pl.datetime_ranges("first_ts", "last_ts", "5m").alias("ts"), "status", "bars"
        ).explode("ts")
        assert sorted(f"{ts:%m-%d %H:%M}" for ts in ranges["ts"].drop_nulls()) == sorted(missing)
        is_open = set(ranges.filter(pl.col("status") == OPEN)["ts"])
        assert not is_open & settled
        settled = set(ranges.filter(pl.col("status") == DID_NOT_TRADE)["ts"])
        now += data.draw(st.sampled_from([timedelta(minutes=1), timedelta(minutes=40), timedelta(hours=7)]))


@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)))
def test_requests_are_due_at_common_moments_ten_minutes_apart(moment: datetime) -> None:
    due = next_due_time(moment)
    assert timedelta(0) <= due - moment < timedelta(minutes=10)
    assert (due.minute % 10, due.second, due.microsecond) == (2, 30, 0)
    assert next_due_time(due) == due


# --- which gaps are requested together ------------------------------------------------------------------------------


def gap(symbol: str, start: datetime, minutes: int = 5) -> tuple[str, str, None, datetime, datetime]:
    return (symbol, "XNYS", None, start, start + timedelta(minutes=minutes))


def clustered(*gaps: tuple[str, str, None, datetime, datetime], most: int = 5) -> list[tuple[str, int, str, str]]:
    schema = dict.fromkeys(("symbol", "calendar", "provider"), pl.String()) | dict.fromkeys(("start", "end"), UTC_TIME)
    frame = pl.DataFrame(list(gaps), schema=schema, orient="row")
    found = clusters(frame.sample(fraction=1.0, shuffle=True, seed=1), timedelta(days=1), most)
    assert found.columns == ["symbol", "calendar", "provider", "start", "end", "round"]
    return [(row["symbol"], row["round"], f"{row['start']:%d %H:%M}", f"{row['end']:%d %H:%M}") for row in found.iter_rows(named=True)]  # fmt: skip


def test_gaps_near_each_other_are_requested_together() -> None:
    found = clustered(
        gap("AAPL", utc("2026-11-02 15:00")),
        gap("AAPL", utc("2026-11-03 15:02")),
        gap("AAPL", utc("2026-11-06 15:00"), 15),
        gap("AAPL", utc("2026-11-07 15:15")),
        gap("MSFT", utc("2026-11-09 15:00")),
    )
    # Distances are from the end of a gap to the start of the next one of the same symbol.
    assert found == [
        ("AAPL", 0, "02 15:00", "03 15:07"),
        ("MSFT", 0, "09 15:00", "09 15:05"),
        ("AAPL", 1, "06 15:00", "06 15:15"),
        ("AAPL", 2, "07 15:15", "07 15:20"),
    ]
    assert clustered() == []


def test_many_gaps_of_a_symbol_are_split_into_a_few_requests_at_the_widest_distances() -> None:
    found = clustered(*(gap("AAPL", utc(f"2026-11-{day:02} 15:00")) for day in (1, 3, 9, 11, 20, 22)), most=3)
    assert found == [
        ("AAPL", 0, "01 15:00", "03 15:05"),
        ("AAPL", 1, "09 15:00", "11 15:05"),
        ("AAPL", 2, "20 15:00", "22 15:05"),
    ]
    # Also when several distances are the widest.
    equal = clustered(*(gap("AAPL", utc(f"2026-11-{day:02} 15:00")) for day in (1, 3, 5, 7)), most=2)
    assert [number for _, number, *_ in equal] == [0, 1]


@given(
    st.lists(st.tuples(st.sampled_from(["A", "B", "C"]), st.integers(0, 500), st.integers(1, 30)), max_size=20),
    st.integers(1, 5),
)
def test_every_gap_is_covered_and_no_symbol_has_more_requests_than_allowed(
    gaps: list[tuple[str, int, int]], most: int
) -> None:
    rows = [gap(symbol, utc("2026-11-01 00:00") + timedelta(hours=hour), 5 * bars) for symbol, hour, bars in gaps]
    schema = dict.fromkeys(("symbol", "calendar", "provider"), pl.String()) | dict.fromkeys(("start", "end"), UTC_TIME)
    found = clusters(pl.DataFrame(rows, schema=schema, orient="row"), timedelta(days=1), most)
    for symbol, _, _, start, end in rows:
        covering = found.filter(pl.col("symbol") == symbol, pl.col("start") <= start, pl.col("end") >= end)
        assert covering.height >= 1
    assert all(count <= most for count in found.group_by("symbol").len()["len"])
    assert found.select("symbol", "round").is_duplicated().sum() == 0


def test_the_gaps_of_each_symbol_are_cut_where_its_own_are_widest_apart() -> None:
    found = clustered(
        *(gap(symbol, utc(f"2026-11-{day:02} 15:00")) for symbol, day in (("A", 1), ("A", 20), ("B", 1), ("B", 9))),
        most=2,
    )
    assert [(symbol, number) for symbol, number, _, _ in found] == [("A", 0), ("B", 0), ("B", 1), ("A", 1)]
