"""Tests of reading times: every usual notation, and those that are refused or ambiguous."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

import polars as pl
import pytest

from ema_assets.files.joined_times import joined
from ema_assets.files.times import read_times
from ema_assets.model.errors import AmbiguousBarFile, BarFileError


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-25T15:00:00Z", "2026-11-25 15:00"),
        ("2026-11-25T15:00:00.5Z", "2026-11-25 15:00:00.500000"),
        ("2026-11-25T15:00:00.123456789+00:00", "2026-11-25 15:00:00.123456"),
        ("2026-11-25 15:00:00+00", "2026-11-25 15:00"),
        ("2026-11-25T10:00:00-05:00", "2026-11-25 15:00"),
        ("2026-11-25T10:00:00-0500", "2026-11-25 15:00"),
        ("2026-11-25T10:00:00-05:00[America/New_York]", "2026-11-25 15:00"),
        ("2026-11-25 15:00 UTC", "2026-11-25 15:00"),
        ("2026-11-25T15:00Z", "2026-11-25 15:00"),
        ("2026-11-25 10:00:00 EST", "2026-11-25 15:00"),
        ("2026-07-01 11:00 EDT", "2026-07-01 15:00"),
        ("2026-11-25 16:00 CET", "2026-11-25 15:00"),
        ("2026-07-01 17:00 CEST", "2026-07-01 15:00"),
        ("2026-07-01 16:00 BST", "2026-07-01 15:00"),
        ("2026-11-25 17:00 EET", "2026-11-25 15:00"),
        ("2026-07-01 18:00 EEST", "2026-07-01 15:00"),
        ("2026-11-26 00:00 JST", "2026-11-25 15:00"),
        ("2026-11-25 23:00 HKT", "2026-11-25 15:00"),
        ("20261125 10:00:00 US/Eastern", "2026-11-25 15:00"),
        ("25.11.2026 17:00:00.000 GMT+0200", "2026-11-25 15:00"),
        ("Wed, 25 Nov 2026 15:00:00 GMT", "2026-11-25 15:00"),
        ("1795618800", "2026-11-25 15:00"),
        ("1795618800.5", "2026-11-25 15:00:00.500000"),
        ("1795618800000", "2026-11-25 15:00"),
        ("1795618800000.5", "2026-11-25 15:00:00.000500"),
        ("1795618800000000", "2026-11-25 15:00"),
        ("1795618800000000000", "2026-11-25 15:00"),
        ("1795618800123456789", "2026-11-25 15:00:00.123456"),
        ("/Date(1795618800000)/", "2026-11-25 15:00"),
        ("/Date(1795618800000-0500)/", "2026-11-25 15:00"),
        ("\\/Date(1795618800000)\\/", "2026-11-25 15:00"),
        ("883666800", "1998-01-01 15:00"),
        ("883666800000", "1998-01-01 15:00"),
    ],
)
def test_a_time_with_a_zone_is_an_instant(text: str, expected: str) -> None:
    found = read_times(pl.Series([text]), None)
    assert found.ts.to_list() == [moment(expected).replace(tzinfo=UTC)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026.11.25D09:30:00.000000000", "2026-11-25 09:30"),
        ("25NOV2026:09:30:00", "2026-11-25 09:30"),
        ("2026-11-25 Wed", "2026-11-25 00:00"),
        ("2026-11-25, Wednesday", "2026-11-25 00:00"),
        ("25.11.2026 (Wednesday) 09:30", "2026-11-25 09:30"),
        ("11/25/2026 Wed 09:30", "2026-11-25 09:30"),
        ("11/25/2026 09:30 Wed.", "2026-11-25 09:30"),
        ("2026/11/25(水)", "2026-11-25 00:00"),
        ("2026-11-25(수) 09:30", "2026-11-25 09:30"),
        ("2026年11月25日(水)", "2026-11-25 00:00"),
        ("2026-11-25 15:00:00", "2026-11-25 15:00"),
        ("2026-11-25T15:00", "2026-11-25 15:00"),
        ("2026/11/25 15:00", "2026-11-25 15:00"),
        ("2026.11.25 15:00", "2026-11-25 15:00"),
        ("20261125 150000", "2026-11-25 15:00"),
        ("20261125150000", "2026-11-25 15:00"),
        ("202611251500", "2026-11-25 15:00"),
        ("20261125-15:00:00.250", "2026-11-25 15:00:00.250000"),
        ("20261125;150000", "2026-11-25 15:00"),
        ("20261125 930", "2026-11-25 09:30"),
        ("20261125 93005", "2026-11-25 09:30:05"),
        ("20261125", "2026-11-25"),
        (" 2026-11-25 ", "2026-11-25"),
        ("2026-1-5", "2026-01-05"),
        ("25/11/2026", "2026-11-25"),
        ("11/25/2026", "2026-11-25"),
        ("25-11-26", "2026-11-25"),
        ("25-11-98", "1998-11-25"),
        ("25-11-70", "1970-11-25"),
        ("25-11-69", "2069-11-25"),
        ("25.11.2026 9:30", "2026-11-25 09:30"),
        ("01.02.2026", "2026-02-01"),
        ("25-NOV-2026", "2026-11-25"),
        ("25-Nov-26", "2026-11-25"),
        ("5 January 1987", "1987-01-05"),
        ("Nov 25, 2026", "2026-11-25"),
        ("November 5 2026", "2026-11-05"),
        ("2026-Nov-25", "2026-11-25"),
        ("11/25/2026 4:00 PM", "2026-11-25 16:00"),
        ("11/25/2026 04:00:00PM", "2026-11-25 16:00"),
        ("11/25/2026 12:05 a.m.", "2026-11-25 00:05"),
        ("2026-11-25 15:00:00,250", "2026-11-25 15:00:00.250000"),
        ("2026-11-30 24:00", "2026-12-01"),
        ("2026-12-31T24:00:00", "2027-01-01"),
        ("20261125 240000", "2026-11-26"),
        ("20261125240000", "2026-11-26"),
        ("2026年11月25日", "2026-11-25"),
        ("2026年1月5日 9:30", "2026-01-05 09:30"),
        ("2026년 11월 25일 15:00", "2026-11-25 15:00"),
        ("2026- 11- 25", "2026-11-25"),
        ("2026. 1. 5. 09:30", "2026-01-05 09:30"),
    ],
)
def test_a_time_without_a_zone_is_kept_as_written(text: str, expected: str) -> None:
    found = read_times(pl.Series([text]), None)
    assert found.wall.to_list() == [moment(expected)]
    assert found.ts.to_list() == [None]


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "2026-13-01",
        "2026-02-30 15:00",
        "15:00",
        "2026-11-25T15:00:00X",
        "2026-11-25 25:00",
        "2026-11-25 24:01",
        "2026-11-25 15:00 IST",
        "2026-11-25 15:00 MST",
        "2026-11-25 15:00 Mars/Base",
    ],
)
def test_an_invalid_time_is_null(text: str) -> None:
    found = read_times(pl.Series([text]), None)
    assert (found.wall.to_list(), found.ts.to_list()) == ([None], [None])


def test_times_in_an_unknown_zone_are_null_and_the_others_of_their_column_are_read() -> None:
    found = read_times(pl.Series(["2026-11-25 15:00 IST", "2026-11-25 15:05 IST"]), None)
    assert (found.wall.to_list(), found.ts.to_list()) == ([None, None], [None, None])
    found = read_times(pl.Series(["2026-11-25 15:00 IST", "2026-11-25 10:05 EST", "2026-11-25 15:10"]), None)
    assert found.wall.to_list() == [None, datetime(2026, 11, 25, 10, 5), datetime(2026, 11, 25, 15, 10)]
    assert found.ts.to_list() == [None, datetime(2026, 11, 25, 15, 5, tzinfo=UTC), None]


def test_notations_of_times_may_be_mixed_in_one_column() -> None:
    texts = ["2026-11-25T15:00:00Z", "2026-11-25 15:05:00", "25-NOV-2026", "20261125 1510", "2026-11-25 10:15-05:00"]
    found = read_times(pl.Series(texts), None)
    clocks = ["15:00", "15:05", "00:00", "15:10", "10:15"]
    assert found.wall.to_list() == [moment(f"2026-11-25 {clock}") for clock in clocks]
    assert [ts is not None for ts in found.ts] == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("column", "ts"),
    [
        (pl.Series([datetime(2026, 11, 25, 15)], dtype=pl.Datetime("ms")), None),
        (pl.Series([datetime(2026, 11, 25, 15)], dtype=pl.Datetime("ns")), None),
        (
            pl.Series(
                [datetime(2026, 11, 25, 15, tzinfo=timezone(timedelta(hours=-5)))],
                dtype=pl.Datetime("us", "America/New_York"),
            ),
            datetime(2026, 11, 25, 20, tzinfo=UTC),
        ),
        (pl.Series([1795618800], dtype=pl.Int64), datetime(2026, 11, 25, 15, tzinfo=UTC)),
        (pl.Series([1795618800.0]), datetime(2026, 11, 25, 15, tzinfo=UTC)),
    ],
)
def test_columns_may_have_any_type_of_time(column: pl.Series, ts: datetime | None) -> None:
    found = read_times(column, None)
    assert found.wall.to_list() == [datetime(2026, 11, 25, 15)]
    assert found.ts.to_list() == [ts]


def test_dates_and_day_numbers_of_excel_are_read() -> None:
    assert read_times(pl.Series([date(2026, 11, 25)]), None).wall.to_list() == [datetime(2026, 11, 25)]
    assert read_times(pl.Series(["46351", "46351.625"]), None).wall.to_list() == [
        datetime(2026, 11, 25),
        datetime(2026, 11, 25, 15),
    ]


@pytest.mark.parametrize("texts", [["46351", "46352"], ["1795564800", "1795651200"], ["20261125", "20261126"]])
def test_blank_cells_and_text_below_the_table_do_not_decide_how_times_are_read(texts: list[str]) -> None:
    found = read_times(pl.Series([*texts, "Source: a vendor", *[""] * 9, None]), None)
    assert found.wall.to_list() == [datetime(2026, 11, 25), datetime(2026, 11, 26), *[None] * 11]


def test_epochs_of_two_units_in_one_column_are_read() -> None:
    found = read_times(pl.Series(["1735689300000", "1735689600000000"]), None)
    assert [f"{ts:%Y-%m-%d %H:%M}" for ts in found.ts] == ["2024-12-31 23:55", "2025-01-01 00:00"]
    assert found.note == "epoch ms and µs"


@pytest.mark.parametrize("days", [1, 7, 30])
def test_a_column_may_change_the_unit_of_its_epochs_whatever_its_bars(days: int) -> None:
    times = [datetime(1980, 1, 4, tzinfo=UTC) + timedelta(days=days * place) for place in range(200)]
    seconds = [round(each.timestamp()) for each in times]
    epochs = [*(each * 1000 for each in seconds[:150]), *seconds[150:]]
    assert read_times(pl.Series(epochs), None).ts.to_list() == times


def test_the_order_of_day_and_month_is_decided_by_the_whole_column() -> None:
    found = read_times(pl.Series(["01/02/2024", "13/02/2024"]), None)
    assert found.wall.dt.date().to_list() == [date(2024, 2, 1), date(2024, 2, 13)]
    found = read_times(pl.Series(["01/02/2024", "02/13/2024"]), None)
    assert found.wall.dt.date().to_list() == [date(2024, 1, 2), date(2024, 2, 13)]


def test_an_order_of_day_and_month_that_the_column_does_not_show_is_ambiguous() -> None:
    with pytest.raises(AmbiguousBarFile) as caught:
        read_times(pl.Series(["04/03/2024", "05/03/2024", "06/03/2024"]), None)
    assert "such as 04/03/2024, may be day/month or month/day" in str(caught.value)
    first, second = caught.value.readings
    assert first.answers == (("dates", "dmy"),)
    assert first.evidence == "as day/month/year they run from 2024-03-04 to 2024-03-06, no day on a weekend"
    assert second.answers == (("dates", "mdy"),)
    assert second.evidence == "as month/day/year they run from 2024-04-03 to 2024-06-03, no day on a weekend"


@pytest.mark.parametrize(("order", "expected"), [("dmy", date(2024, 3, 4)), ("mdy", date(2024, 4, 3))])
def test_the_option_dates_sets_the_order_of_day_and_month(order: str, expected: date) -> None:
    assert read_times(pl.Series(["04/03/2024"]), order).wall.dt.date().to_list() == [expected]
    assert read_times(pl.Series(["24-03-04"]), "ymd").wall.dt.date().to_list() == [date(2024, 3, 4)]


def test_an_order_that_contradicts_the_dates_is_refused() -> None:
    with pytest.raises(BarFileError, match="`--dates mdy` cannot be: a month of 13 is in it"):
        read_times(pl.Series(["13/02/2024"]), "mdy")
    with pytest.raises(BarFileError, match="neither day/month/year nor month/day/year throughout"):
        read_times(pl.Series(["13/02/2024", "02/14/2024"]), None)


def test_dates_and_times_of_day_in_two_columns_are_joined() -> None:
    days, clocks = pl.Series(["2024.03.11", "2024.03.12"]), pl.Series(["09:30", "16:00"])
    assert read_times(joined([days, clocks]), None).wall.to_list() == [
        datetime(2024, 3, 11, 9, 30),
        datetime(2024, 3, 12, 16),
    ]
    for whole in (["2024-03-11 09:30", "2024-03-12 16:00"], ["20240311093000000", "20240312160000000"]):
        assert read_times(joined([days, pl.Series(whole)]), None).wall.to_list() == [
            datetime(2024, 3, 11, 9, 30),
            datetime(2024, 3, 12, 16),
        ]


@pytest.mark.parametrize(
    ("clocks", "dates", "has_hours", "expected"),
    [
        (["9", "10", "24"], ["2024-03-11", "2024-03-11", "2024-03-12"], False, ["11 09:00", "11 10:00", "13 00:00"]),
        ([0.0, 1.0], ["2024-03-11", "2024-03-11"], True, ["11 00:00", "11 01:00"]),
        (["0", "5", "10"], ["2024-03-11"] * 3, False, ["11 00:00", "11 00:05", "11 00:10"]),
        (["0", "5", "25"], ["2024-03-11", "2024-03-11", "2024-03-12"], False, ["11 00:00", "11 00:05", "12 00:25"]),
    ],
)
def test_numbers_up_to_24_on_several_days_are_hours(
    clocks: list[Any], dates: list[str], has_hours: bool, expected: list[str]
) -> None:
    found = read_times(joined([pl.Series(dates), pl.Series(clocks)], has_hours=has_hours), None)
    assert found.wall.dt.to_string("%d %H:%M").to_list() == expected


@pytest.mark.parametrize(
    "clocks",
    [
        pl.Series(["1899-12-31 09:30:00", "1899-12-31 16:00:00"]),
        pl.Series(["1899-12-30T09:30:00", "1899-12-30T16:00:00"]),
        pl.Series([datetime(1900, 1, 1, 9, 30), datetime(1900, 1, 1, 16)]),
        pl.Series([time(9, 30), time(16)]),
        pl.Series([timedelta(hours=9, minutes=30), timedelta(hours=16)]),
    ],
    ids=["Excel", "LibreOffice", "strptime", "time", "duration"],
)
def test_a_time_of_day_with_a_placeholder_day_gets_the_day_of_the_date_column(clocks: pl.Series) -> None:
    days = pl.Series(["2024-03-11 00:00:00", "2024-03-12 00:00:00"])
    assert read_times(joined([days, clocks]), None).wall.to_list() == [
        datetime(2024, 3, 11, 9, 30),
        datetime(2024, 3, 12, 16),
    ]


@pytest.mark.parametrize(
    ("clocks", "expected"),
    [
        (pl.Series([timedelta(hours=24)]), "`time` must be a time of day, received durations up to 1 day, 0:00:00"),
        (
            pl.Series(["1899-12-31 23:55:00", "1900-01-01 00:00:00"]),
            "`time` must be a time of day, received '1900-01-01 00:00:00', which is 24 hours or more",
        ),
        (pl.Series([["09:30"]]), "`time` must be a time, a date, an epoch or text, its column holds List(String)"),
    ],
)
def test_an_invalid_time_of_day_is_refused(clocks: pl.Series, expected: str) -> None:
    with pytest.raises(BarFileError) as caught:
        joined([pl.Series(["2024-03-11"] * len(clocks)), clocks])
    assert str(caught.value) == expected


@pytest.mark.parametrize("values", [[timedelta(hours=9)], [["2024-03-11"]], [{"x": 1}], [b"2024-03-11"], [True]])
def test_a_time_column_of_an_invalid_type_is_refused_by_name(values: list[object]) -> None:
    with pytest.raises(BarFileError, match="`ts` must be a time, a date, an epoch or text, its column holds "):
        read_times(pl.Series(values), None)


def test_a_date_column_of_an_invalid_type_is_refused_by_name() -> None:
    with pytest.raises(BarFileError, match="`date` must be a time, a date, an epoch or text, its column holds Bool"):
        joined([pl.Series([True]), pl.Series(["09:30"])])


def test_a_date_without_a_time_of_day_is_midnight_and_a_time_of_day_without_a_date_is_null() -> None:
    days, clocks = pl.Series(["2024-03-11", "2024-03-12", None]), pl.Series(["09:30", None, "16:00"])
    assert read_times(joined([days, clocks]), None).wall.to_list() == [
        datetime(2024, 3, 11, 9, 30),
        datetime(2024, 3, 12),
        None,
    ]


def test_three_columns_of_times_are_refused() -> None:
    with pytest.raises(BarFileError, match="`--columns` must name ts, or date and time"):
        joined([pl.Series(["2024-03-11"])] * 3)


def test_floats_that_are_not_finite_or_far_too_large_are_null() -> None:
    found = read_times(pl.Series([1795618800.5, float("nan"), None, float("inf"), 1e300, 1795618801.0]), None)
    assert found.wall.to_list() == [
        datetime(2026, 11, 25, 15, 0, 0, 500_000),
        None,
        None,
        None,
        None,
        datetime(2026, 11, 25, 15, 0, 1),
    ]


@pytest.mark.parametrize("per_second", [1, 10**3, 10**6, 10**9])
def test_floats_are_exact_epochs_in_every_unit(per_second: int) -> None:
    # As a double, most epochs in ns with milliseconds are some ns off.
    times = [datetime(2024, 1, 2, 14, 30) + timedelta(minutes=5 * place, milliseconds=place) for place in range(50)]
    epochs = [(each - datetime(1970, 1, 1)) // timedelta(microseconds=1) * per_second / 10**6 for each in times]
    assert read_times(pl.Series(epochs), None).wall.to_list() == times


def test_floats_without_a_fraction_may_be_dates() -> None:
    assert read_times(pl.Series([20240102.0, 20240103.0]), None).wall.dt.day().to_list() == [2, 3]
    assert read_times(pl.Series([202401021530.0]), None).wall.to_list() == [datetime(2024, 1, 2, 15, 30)]


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("1971-01-04", "2010-12-24"),
        ("1965-01-04", "1982-12-31"),
        ("1969-12-01", "1970-03-31"),
        ("1970-01-01", "1970-01-30"),
    ],
)
@pytest.mark.parametrize("unit", ["ms", "µs", "ns"])
def test_epochs_around_1970_have_the_unit_of_the_whole_column(first: str, last: str, unit: str) -> None:
    days = pl.date_range(date.fromisoformat(first), date.fromisoformat(last), "1d", eager=True)
    per_second = {"ms": 10**3, "µs": 10**6, "ns": 10**9}[unit]
    found = read_times(days.cast(pl.Int32).cast(pl.Int64) * 86_400 * per_second, None)
    assert found.wall.dt.date().to_list() == days.to_list()
    assert found.note == f"epoch {unit}"


@pytest.mark.parametrize(("count", "unit"), [(5, "s"), (6, "ms")])
def test_five_steps_longer_than_bars_can_be_show_that_the_unit_is_shorter(count: int, unit: str) -> None:
    days = pl.Series([datetime(1970, 1, 20) + timedelta(days=day) for day in range(count)])
    assert read_times(days.dt.epoch("ms"), None).note == f"epoch {unit}"


def test_epochs_in_seconds_before_1970_are_read() -> None:
    days = pl.date_range(date(1950, 1, 2), date(1999, 12, 31), "1d", eager=True)
    found = read_times(days.cast(pl.Int32).cast(pl.Int64) * 86_400, None)
    assert found.wall.dt.date().to_list() == days.to_list()
    assert read_times(pl.Series(["-157507200.5", "-157507199.25"]), None).wall.to_list() == [
        datetime(1965, 1, 3, 23, 59, 59, 500_000),
        datetime(1965, 1, 4, 0, 0, 0, 750_000),
    ]


@pytest.mark.parametrize("mark", [0, -1, 9_999_999_999])
def test_placeholder_epochs_do_not_decide_the_unit_of_the_others(mark: int) -> None:
    times = [datetime(2024, 1, 2, 14, 30, tzinfo=UTC) + timedelta(minutes=5 * place) for place in range(50)]
    for per_second in (1, 10**3):
        epochs = [mark, *(round(each.timestamp()) * per_second for each in times), mark]
        assert read_times(pl.Series(epochs), None).ts.to_list()[1:-1] == times


def test_days_of_excel_may_be_floats() -> None:
    found = read_times(pl.Series([46351.0, 46351.625]), None)
    assert found.wall.to_list() == [datetime(2026, 11, 25), datetime(2026, 11, 25, 15)]
    assert found.note == "days as Excel counts them"
