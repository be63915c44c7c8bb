"""Every usual way to write a time, and those that are refused or asked about."""

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest

from ema_assets.files.times import joined, read_times
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
        ("20261125 10:00:00 US/Eastern", "2026-11-25 15:00"),
        ("25.11.2026 17:00:00.000 GMT+0200", "2026-11-25 15:00"),
        ("Wed, 25 Nov 2026 15:00:00 GMT", "2026-11-25 15:00"),
        ("1795618800", "2026-11-25 15:00"),
        ("1795618800.5", "2026-11-25 15:00:00.500000"),
        ("1795618800000", "2026-11-25 15:00"),
        ("1795618800000000", "2026-11-25 15:00"),
        ("1795618800000000000", "2026-11-25 15:00"),
        ("883666800", "1998-01-01 15:00"),
        ("883666800000", "1998-01-01 15:00"),
    ],
)
def test_a_time_that_says_its_zone_is_an_instant(text: str, expected: str) -> None:
    found = read_times(pl.Series([text]), None)
    assert found.ts.to_list() == [moment(expected).replace(tzinfo=UTC)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-25 15:00:00", "2026-11-25 15:00"),
        ("2026-11-25T15:00", "2026-11-25 15:00"),
        ("2026/11/25 15:00", "2026-11-25 15:00"),
        ("2026.11.25 15:00", "2026-11-25 15:00"),
        ("20261125 150000", "2026-11-25 15:00"),
        ("20261125150000", "2026-11-25 15:00"),
        ("202611251500", "2026-11-25 15:00"),
        ("20261125 930", "2026-11-25 09:30"),
        ("20261125", "2026-11-25"),
        (" 2026-11-25 ", "2026-11-25"),
        ("2026-1-5", "2026-01-05"),
        ("25/11/2026", "2026-11-25"),
        ("11/25/2026", "2026-11-25"),
        ("25-11-26", "2026-11-25"),
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
    ],
)
def test_a_time_without_a_zone_is_kept_as_it_is_written(text: str, expected: str) -> None:
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
        "2026-11-25 15:00 IST",
    ],
)
def test_what_is_no_time_is_none(text: str) -> None:
    found = read_times(pl.Series([text]), None)
    assert (found.wall.to_list(), found.ts.to_list()) == ([None], [None])


def test_a_column_of_zones_that_nobody_knows_has_no_times() -> None:
    found = read_times(pl.Series(["2026-11-25 15:00 IST", "2026-11-25 15:05 IST"]), None)
    assert (found.wall.to_list(), found.ts.to_list()) == ([None, None], [None, None])


def test_ways_to_write_a_time_may_be_mixed_in_one_column() -> None:
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
def test_columns_of_parquet_may_have_any_type_of_time(column: pl.Series, ts: datetime | None) -> None:
    found = read_times(column, None)
    assert found.wall.to_list() == [datetime(2026, 11, 25, 15)]
    assert found.ts.to_list() == [ts]


def test_dates_of_parquet_and_days_of_excel_are_days() -> None:
    assert read_times(pl.Series([date(2026, 11, 25)]), None).wall.to_list() == [datetime(2026, 11, 25)]
    assert read_times(pl.Series(["46351", "46351.625"]), None).wall.to_list() == [
        datetime(2026, 11, 25),
        datetime(2026, 11, 25, 15),
    ]


def test_epochs_of_two_units_in_one_column_are_read_each_in_its_own() -> None:
    found = read_times(pl.Series(["1735689300000", "1735689600000000"]), None)
    assert [f"{ts:%Y-%m-%d %H:%M}" for ts in found.ts] == ["2024-12-31 23:55", "2025-01-01 00:00"]
    assert found.note == "epoch ms and µs"


def test_the_order_of_day_and_month_is_decided_by_the_whole_column() -> None:
    found = read_times(pl.Series(["01/02/2024", "13/02/2024"]), None)
    assert found.wall.dt.date().to_list() == [date(2024, 2, 1), date(2024, 2, 13)]
    found = read_times(pl.Series(["01/02/2024", "02/13/2024"]), None)
    assert found.wall.dt.date().to_list() == [date(2024, 1, 2), date(2024, 2, 13)]


def test_an_order_that_the_column_does_not_show_is_asked_for() -> None:
    with pytest.raises(AmbiguousBarFile) as caught:
        read_times(pl.Series(["04/03/2024", "05/03/2024", "06/03/2024"]), None)
    assert "such as 04/03/2024, may be day/month or month/day" in str(caught.value)
    first, second = caught.value.readings
    assert first.answers == (("dates", "dmy"),)
    assert first.evidence == "as day/month/year they run from 2024-03-04 to 2024-03-06, no day on a weekend"
    assert second.answers == (("dates", "mdy"),)
    assert second.evidence == "as month/day/year they run from 2024-04-03 to 2024-06-03, no day on a weekend"


@pytest.mark.parametrize(("order", "expected"), [("dmy", date(2024, 3, 4)), ("mdy", date(2024, 4, 3))])
def test_an_order_that_is_given_is_used(order: str, expected: date) -> None:
    assert read_times(pl.Series(["04/03/2024"]), order).wall.dt.date().to_list() == [expected]
    assert read_times(pl.Series(["24-03-04"]), "ymd").wall.dt.date().to_list() == [date(2024, 3, 4)]


def test_an_order_that_cannot_be_is_refused() -> None:
    with pytest.raises(BarFileError, match="`--dates mdy` cannot be: a month of 13 is in it"):
        read_times(pl.Series(["13/02/2024"]), "mdy")
    with pytest.raises(BarFileError, match="neither day/month/year nor month/day/year throughout"):
        read_times(pl.Series(["13/02/2024", "02/14/2024"]), None)


def test_days_and_clocks_in_two_columns_are_one_time() -> None:
    days, clocks = pl.Series(["2024.03.11", "2024.03.12"]), pl.Series(["09:30", "16:00"])
    assert read_times(joined([days, clocks]), None).wall.to_list() == [
        datetime(2024, 3, 11, 9, 30),
        datetime(2024, 3, 12, 16),
    ]
    whole = pl.Series(["2024-03-11 09:30", "2024-03-12 16:00"])
    assert read_times(joined([days, whole]), None).wall.to_list() == [
        datetime(2024, 3, 11, 9, 30),
        datetime(2024, 3, 12, 16),
    ]
