"""Tests of the times in files: sessions decide whether times are clear, ambiguous (with options), or refused.

The expected sessions are written out by hand: New York is five hours behind UTC in winter and opens at 09:30.
"""

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ema_assets.files.options import ReadOptions
from ema_assets.files.reading import read
from ema_assets.model.errors import AmbiguousBarFile, BarFileError
from ema_assets.model.symbols import FROM_FILES, Instrument
from ema_assets.operations import file_sessions, file_share
from ema_assets.operations.ingest import understand
from ema_assets_tests.files.reader import HEADER, NOW, question, refusal, rows_of, understood, written

DAY = date(2025, 1, 14)  # a regular Tuesday
OPEN, CLOSE = datetime(2025, 1, 14, 9, 30), datetime(2025, 1, 14, 16)
FIVE = timedelta(minutes=5)


def five_minutes(first: datetime, last: datetime, step: timedelta = FIVE) -> list[datetime]:
    """Return times from `first` to `last`, both included."""
    return [first + number * step for number in range(int((last - first) / step) + 1)]


def lines(times: list[str], symbol: str = "KO", timeframe: str = "5m") -> str:
    bars = [f"{symbol},{timeframe},{time},{10 + n / 100},{11 + n / 100},9,10.5,{n}" for n, time in enumerate(times)]
    return "\n".join([HEADER, *bars]) + "\n"


def times_of(path: Path, **options: Any) -> list[str]:
    return [row[2] for row in rows_of(understood(path, **options).bars)]


def utc_opens(count: int = 78) -> list[str]:
    return [f"{datetime(2025, 1, 14, 14, 30) + number * FIVE:%Y-%m-%d %H:%M}" for number in range(count)]


# --- intraday ---------------------------------------------------------------------------------------------------------


def test_naive_times_that_fit_the_sessions_only_as_utc_are_utc(tmp_path: Path) -> None:
    path = written(tmp_path, lines(utc_opens()))
    found = understood(path)
    assert [row[2] for row in rows_of(found.bars)] == utc_opens()
    assert (found.zone, found.label) == ("UTC (the sessions fit no other zone)", "at the open of a bar")


def test_naive_times_of_closes_in_the_zone_of_the_exchange_are_ambiguous(tmp_path: Path) -> None:
    path = written(tmp_path, lines([f"{time}" for time in five_minutes(OPEN + FIVE, CLOSE)]))
    assert refusal(path) == "its times name no zone, and as UTC 59 of 78 lie outside the sessions"
    asked = question(path)
    evidence = "as America/New_York, labelled at the close of each bar, all 78 times fit the sessions of XNYS"
    assert asked == {evidence: {"tz": "America/New_York", "label": "close"}}
    assert times_of(path, **asked[evidence]) == utc_opens()


def test_naive_times_of_opens_in_the_zone_of_the_exchange_are_ambiguous(tmp_path: Path) -> None:
    path = written(tmp_path, lines([f"{time}" for time in five_minutes(OPEN, CLOSE - FIVE)]))
    asked = question(path)
    assert asked == {"as America/New_York all 78 times fit the sessions of XNYS": {"tz": "America/New_York"}}
    assert times_of(path, tz="America/New_York") == utc_opens()


def test_times_on_the_clocks_of_several_exchanges_are_ambiguous(tmp_path: Path) -> None:
    new_york = [f"{time}" for time in five_minutes(OPEN, CLOSE - FIVE)]
    tokyo = [f"{time}" for time in five_minutes(datetime(2025, 1, 14, 9), datetime(2025, 1, 14, 11, 25))]
    text = lines(new_york) + lines(tokyo, "7203.T").split("\n", 1)[1]
    path = written(tmp_path, text)
    asked = question(path)
    evidence = "on the clocks of their exchanges all 108 times fit the sessions of XNYS and XTKS"
    assert next(iter(asked.items())) == (evidence, {"tz": "exchange"})
    assert len(asked) == 3
    found = understood(path, tz="exchange")
    times = [row[2] for row in rows_of(found.bars)]
    assert times[:78] == utc_opens()
    assert (times[78], times[-1]) == ("2025-01-14 00:00", "2025-01-14 02:25")
    assert found.zone == "America/New_York (--tz) and Asia/Tokyo (--tz)"
    # A file of one exchange has one clock, and is not asked about twice.
    assert "on the clocks" not in str(question(written(tmp_path, lines(new_york), "one.csv")))


def test_labels_at_the_close_on_the_clocks_of_several_exchanges_are_recognised(tmp_path: Path) -> None:
    new_york = [f"{time}" for time in five_minutes(OPEN + FIVE, CLOSE)]
    tokyo = [f"{time}" for time in five_minutes(datetime(2025, 1, 14, 12, 35), datetime(2025, 1, 14, 15, 30))]
    path = written(tmp_path, lines(tokyo, "7203.T") + lines(new_york).split("\n", 1)[1])
    answers = next(iter(question(path).values()))
    assert answers == {"tz": "exchange", "label": "close"}
    times = times_of(path, **answers)
    assert (times[0], times[36:]) == ("2025-01-14 03:30", utc_opens())


def test_times_that_fit_in_two_zones_are_ambiguous(tmp_path: Path) -> None:
    """15:00 lies within the session both as UTC and as New York time."""
    path = written(tmp_path, lines(["2025-01-14 15:00", "2025-01-14 15:05"]))
    assert refusal(path) == "its times name no zone, and they fit the sessions in more than one"
    assert question(path) == {
        "as UTC all 2 times fit the sessions of XNYS": {"tz": "UTC"},
        "as America/New_York all 2 times fit the sessions of XNYS": {"tz": "America/New_York"},
    }
    assert times_of(path, tz="UTC") == ["2025-01-14 15:00", "2025-01-14 15:05"]
    assert times_of(path, tz="America/New_York") == ["2025-01-14 20:00", "2025-01-14 20:05"]


def test_times_on_the_clock_of_another_part_of_the_world_are_ambiguous_and_its_zone_is_offered(tmp_path: Path) -> None:
    """As those of a trader in Berlin, whose broker writes the bars of a US stock on the clock of Berlin."""
    path = written(tmp_path, lines([f"{time + timedelta(hours=6)}" for time in five_minutes(OPEN, CLOSE - FIVE)]))
    asked = question(path)
    assert next(iter(asked.items())) == (
        "as Europe/Berlin all 78 times fit the sessions of XNYS",
        {"tz": "Europe/Berlin"},
    )
    assert times_of(path, tz="Europe/Berlin") == utc_opens()
    tokyo = written(tmp_path, lines([f"{time + timedelta(hours=14)}" for time in five_minutes(OPEN, CLOSE - FIVE)]))
    assert question(tokyo) == {"as Asia/Tokyo all 78 times fit the sessions of XNYS": {"tz": "Asia/Tokyo"}}


def test_futures_of_chicago_may_be_on_the_clock_of_new_york(tmp_path: Path) -> None:
    # Sunday to Tuesday: from 18:00 to 17:00 in New York, with the pause of an hour.
    times = [
        time
        for day in (12, 13)
        for time in five_minutes(datetime(2025, 1, day, 18), datetime(2025, 1, day + 1, 16, 55))
    ]
    path = written(tmp_path, lines([f"{time}" for time in times], "ES=F"))
    assert next(iter(question(path).items())) == (
        "as America/New_York all 552 times fit the sessions of CMES",
        {"tz": "America/New_York"},
    )
    assert times_of(path, tz="America/New_York")[0] == "2025-01-12 23:00"


def test_times_that_fit_nowhere_are_refused_without_a_reading(tmp_path: Path) -> None:
    path = written(tmp_path, lines([f"{time + timedelta(minutes=1)}" for time in five_minutes(OPEN, CLOSE - FIVE)]))
    assert refusal(path) == (
        "its times name no zone, and as UTC 78 of 78 lie outside the sessions, and they fit no other zone that was "
        "tried; `--tz` says what theirs is"
    )
    assert question(path) == {}


def spring(*left_out: datetime, step: timedelta = timedelta(hours=1)) -> list[str]:
    """Return times of the days around 9 March 2025, when clocks in America are put forward from 02:00 to 03:00."""
    times = five_minutes(datetime(2025, 3, 8), datetime(2025, 3, 10, 23), step)
    return [f"{time}" for time in times if time.replace(minute=0) not in left_out]


@pytest.mark.parametrize(("step", "timeframe"), [(timedelta(hours=1), "1h"), (FIVE, "5m")])
def test_an_hour_that_clocks_skip_in_spring_makes_times_of_crypto_ambiguous(
    tmp_path: Path, step: timedelta, timeframe: str
) -> None:
    path = written(tmp_path, lines(spring(datetime(2025, 3, 9, 2), step=step), "BTC-USD", timeframe))
    assert refusal(path) == (
        "its times name no zone, and an hour from 2025-03-09 02:00 on is missing, as when clocks are put forward"
    )
    asked = question(path)
    assert [each["tz"] for each in asked.values()] == [
        "America/New_York",
        "America/Chicago",
        "America/Los_Angeles",
        "UTC",
    ]
    assert times_of(path, tz="America/New_York")[0] == "2025-03-08 05:00"
    assert times_of(path, tz="UTC")[0] == "2025-03-08 00:00"


@pytest.mark.parametrize(
    "left_out",
    [
        (),
        (datetime(2025, 3, 9, 3),),
        (datetime(2025, 3, 9, 2), datetime(2025, 3, 9, 3)),
        tuple(datetime(2025, 3, 9, hour) for hour in (2, 5, 8, 11)),
    ],
)
def test_other_gaps_leave_times_of_crypto_in_utc(tmp_path: Path, left_out: tuple[datetime, ...]) -> None:
    path = written(tmp_path, lines(spring(*left_out), "BTC-USD", "1h"))
    assert times_of(path)[0] == "2025-03-08 00:00"


def test_names_that_mean_several_zones_are_ambiguous_and_each_zone_is_offered(tmp_path: Path) -> None:
    chicago = [f"{time - timedelta(hours=1)} CST" for time in five_minutes(OPEN, CLOSE - FIVE)]
    path = written(tmp_path, lines(chicago))
    assert refusal(path) == "its times name the zone CST, which is not the same everywhere"
    assert question(path) == {
        "as America/Chicago": {"tz": "America/Chicago"},
        "as Asia/Shanghai": {"tz": "Asia/Shanghai"},
    }
    assert times_of(path, tz="America/Chicago") == utc_opens()
    summer = written(tmp_path, lines(["2025-01-14 09:30 CST", "2025-07-14 09:30:00 CDT"], timeframe="1h"))
    assert question(summer) == {"as America/Chicago": {"tz": "America/Chicago"}}
    assert times_of(summer, tz="America/Chicago") == ["2025-01-14 15:30", "2025-07-14 14:30"]
    # Around the clock, too, nothing is taken as UTC.
    india = written(tmp_path, lines(["2025-01-14 05:30 AM IST", "2025-01-14 05:35 AM IST"], "BTC-USD"))
    assert next(iter(question(india).values())) == {"tz": "Asia/Kolkata"}
    assert times_of(india, tz="Asia/Kolkata") == ["2025-01-14 00:00", "2025-01-14 00:05"]


def test_times_of_london_in_winter_are_clear(tmp_path: Path) -> None:
    path = written(tmp_path, lines(["2025-01-14 08:00", "2025-01-14 08:05"], "VOD.L"))
    assert times_of(path) == ["2025-01-14 08:00", "2025-01-14 08:05"]


def test_times_with_a_zone_that_seem_to_be_closes_are_ambiguous(tmp_path: Path) -> None:
    path = written(tmp_path, lines([f"{time:%Y-%m-%dT%H:%M}-05:00" for time in five_minutes(OPEN + FIVE, CLOSE)]))
    assert refusal(path) == "its times seem to be those at which bars close, not open"
    asked = question(path)
    assert asked == {
        "labelled at the close 78 of 78 fit the sessions": {"label": "close"},
        "labelled at the open 77 of 78 fit": {"label": "open"},
    }
    assert times_of(path, label="close") == utc_opens()
    assert times_of(path, label="open")[0] == "2025-01-14 14:35"


def test_a_single_bar_at_the_end_of_a_session_makes_labels_ambiguous_if_none_is_at_its_begin(tmp_path: Path) -> None:
    """As in a file of a stock that does not trade in every minute."""

    def file(*days: tuple[datetime, datetime]) -> Path:
        return written(
            tmp_path, lines([f"{time:%Y-%m-%dT%H:%M}-05:00" for each in days for time in five_minutes(*each)])
        )

    day = timedelta(days=1)
    sparse = [
        (OPEN + 2 * FIVE, CLOSE - FIVE),
        (OPEN + day + FIVE, CLOSE + day),
        (OPEN + 2 * day + FIVE, CLOSE + 2 * day - 3 * FIVE),
    ]
    assert refusal(file(*sparse)) == "its times seem to be those at which bars close, not open"
    # With a bar at the open, one at the close is an auction or an error, and not a label.
    found = times_of(file((OPEN, CLOSE - FIVE), *sparse[1:]))
    assert found[0] == utc_opens()[0]


def test_an_ambiguous_label_stays_ambiguous_with_the_option_tz(tmp_path: Path) -> None:
    path = written(tmp_path, lines([f"{time}" for time in five_minutes(OPEN + FIVE, CLOSE)]))
    assert question(path, tz="America/New_York").keys() == {
        "labelled at the close 78 of 78 fit the sessions",
        "labelled at the open 77 of 78 fit",
    }


@pytest.mark.parametrize("fraction", ["", ".999"])
@pytest.mark.parametrize(("timeframe", "step"), [("5m", FIVE), ("1h", timedelta(hours=1))])
def test_times_in_the_last_second_of_a_bar_are_read_as_its_close(
    tmp_path: Path, timeframe: str, step: timedelta, fraction: str
) -> None:
    opens = [datetime(2025, 1, 14) + number * step for number in range(24)]
    ends = [f"{each + step - timedelta(seconds=1)}{fraction}" for each in opens]
    path = written(tmp_path, lines(ends, "BTC-USD", timeframe))
    found = understood(path)
    assert [row[2] for row in rows_of(found.bars)] == [f"{each:%Y-%m-%d %H:%M}" for each in opens]
    assert found.label == "at the close of a bar"
    assert "24 of its 24" in refusal(path, label="open")


def test_the_last_hour_of_a_session_labelled_at_the_close_is_half_an_hour_long(tmp_path: Path) -> None:
    """The grid of 1h opens at 09:30, so its last bar opens at 15:30 and closes at 16:00."""
    ends = ["10:30", "11:30", "12:30", "13:30", "14:30", "15:30", "16:00"]
    path = written(tmp_path, lines([f"2025-01-14T{end}:00-05:00" for end in ends], timeframe="1h"))
    opens = ["14:30", "15:30", "16:30", "17:30", "18:30", "19:30", "20:30"]
    assert times_of(path, label="close") == [f"2025-01-14 {each}" for each in opens]


def test_clock_hours_labelled_at_the_close_are_whole_hours(tmp_path: Path) -> None:
    ends = ["10:00", "11:00", "12:00", "13:00", "14:00", "15:00", "16:00"]
    path = written(tmp_path, lines([f"2025-01-14T{end}:00-05:00" for end in ends], timeframe="1h"))
    assert times_of(path, label="close") == [f"2025-01-14 {hour}:00" for hour in range(14, 21)]
    assert understood(path, label="close").label == "at the close of a bar (--label)"


def test_times_of_24_o_clock_show_that_all_times_are_closes(tmp_path: Path) -> None:
    """Around the clock, nothing else does: no bar opens at 24:00."""
    times = ["2025-01-14 22:00", "2025-01-14 23:00", "2025-01-14 24:00", "2025-01-15 01:00"]
    path = written(tmp_path, lines(times, "BTC-USD", "1h"))
    found = understood(path)
    assert [row[2] for row in rows_of(found.bars)] == [
        f"2025-01-{each}:00" for each in ("14 21", "14 22", "14 23", "15 00")
    ]
    assert found.label == "at the close of a bar (24:00 is among its times)"
    assert times_of(path, label="open")[0] == "2025-01-14 22:00"


@pytest.mark.parametrize(("symbol", "opens"), [("BTC-USD", "00:00"), ("KO", "14:30")])
def test_a_day_that_is_labelled_24_o_clock_is_that_day(tmp_path: Path, symbol: str, opens: str) -> None:
    path = written(tmp_path, lines(["2025-01-14 24:00", "2025-01-15 24:00"], symbol, "1d"))
    assert times_of(path) == [f"2025-01-14 {opens}", f"2025-01-15 {opens}"]


def test_times_of_crypto_without_a_zone_are_utc(tmp_path: Path) -> None:
    path = written(tmp_path, lines(["2025-01-14 03:00", "2025-01-14 03:05"], "BTC-USD"))
    found = understood(path)
    assert [row[2] for row in rows_of(found.bars)] == ["2025-01-14 03:00", "2025-01-14 03:05"]
    assert found.zone == "UTC (as crypto is written)"


@pytest.mark.parametrize(
    ("time", "zones"),
    [
        ("2024-10-27 02:00", ["Europe/Berlin"]),
        ("2024-10-27 01:30", ["Europe/London"]),
        ("2024-11-03 01:00", ["America/New_York", "America/Chicago", "America/Los_Angeles"]),
    ],
)
def test_times_of_crypto_in_an_hour_that_clocks_show_twice_are_ambiguous(
    tmp_path: Path, time: str, zones: list[str]
) -> None:
    path = written(tmp_path, lines([time, time], "BTC-USD"))
    assert refusal(path) == (
        f"its times name no zone, and {time} occurs twice with other prices, as when clocks are put back"
    )
    assert list(question(path).values()) == [{"tz": zone} for zone in [*zones, "UTC"]]
    assert times_of(path, tz="UTC") == [time, time]


def test_times_of_crypto_that_occur_twice_otherwise_are_utc(tmp_path: Path) -> None:
    other_hour = lines(["2024-10-27 02:00", "2024-10-27 02:00", "2024-10-28 02:00", "2024-10-28 02:00"], "BTC-USD")
    assert len(times_of(written(tmp_path, other_hour))) == 4
    same_row = f"{HEADER}\n" + "BTC-USD,5m,2024-10-27 02:00,10,11,9,10.5,1\n" * 2
    assert len(times_of(written(tmp_path, same_row))) == 2


def test_broker_server_times_are_ambiguous_when_no_session_shows_the_zone(tmp_path: Path) -> None:
    path = written(
        tmp_path, "2024.01.16,09:30,1.1,1.2,1.0,1.15,5\n2024.01.16,09:35,1.1,1.2,1.0,1.15,5\n", "EURUSD5.csv"
    )
    assert refusal(path).startswith("MetaTrader 4 writes times on the clock of the broker's server")
    asked = question(path)
    assert list(asked.values()) == [{"tz": "Europe/Athens"}, {"tz": "America/New_York"}, {"tz": "UTC"}]
    assert times_of(path, tz="Europe/Athens") == ["2024-01-16 07:30", "2024-01-16 07:35"]


def test_the_repeated_hour_is_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    """New York set its clocks back on 2024-11-03 at 02:00, so 01:30 occurred twice."""
    texts = ["2024-11-03 00:30", "2024-11-03 01:30", "2024-11-03 01:30", "2024-11-03 02:30"]
    path = written(tmp_path, lines(texts, "BTC-USD", "1h"))
    assert times_of(path, tz="America/New_York") == [
        *("2024-11-03 04:30", "2024-11-03 05:30", "2024-11-03 06:30", "2024-11-03 07:30"),
    ]


def test_the_repeated_hour_is_read_backwards_where_the_newest_bar_is_first(tmp_path: Path) -> None:
    """One file has a symbol with the newest bar first and a symbol with the oldest bar first."""
    texts = ["2024-11-03 02:30", "2024-11-03 01:30", "2024-11-03 01:30", "2024-11-03 00:30"]
    mixed = lines(texts, "BTC-USD", "1h") + "".join(f"ETH-USD,1h,{time},10,11,9,10.5,1\n" for time in texts[::-1])
    instants = ["2024-11-03 07:30", "2024-11-03 06:30", "2024-11-03 05:30", "2024-11-03 04:30"]
    assert times_of(written(tmp_path, mixed), tz="America/New_York") == [*instants, *instants[::-1]]


def test_the_repeated_hour_is_refused_in_unsorted_rows(tmp_path: Path) -> None:
    new_york = ZoneInfo("America/New_York")
    instants = [datetime(2024, 11, 3, 4, tzinfo=UTC) + number * FIVE for number in range(48)]
    texts = [f"{each.astimezone(new_york):%Y-%m-%d %H:%M}" for each in instants]
    ordered = written(tmp_path, lines(texts, "BTC-USD"), "ordered.csv")
    assert times_of(ordered, tz="America/New_York") == [f"{each:%Y-%m-%d %H:%M}" for each in instants]
    shuffled = written(tmp_path, lines(random.Random(1).sample(texts, len(texts)), "BTC-USD"), "shuffled.csv")
    assert refusal(shuffled, tz="America/New_York") == (
        "has two bars at 2024-11-03 01:00, which the clocks of America/New_York show twice, and its rows are in no order "
        "that tells which is the later one; sort them by time"
    )
    # Rows that are given twice do not matter.
    given = [*texts[:3], *texts[2:40], *texts[39:]]
    again = times_of(written(tmp_path, lines(given, "BTC-USD"), "again.csv"), tz="America/New_York", partial=True)
    assert again == [f"{each:%Y-%m-%d %H:%M}" for each in [*instants[:3], *instants[2:40], *instants[39:]]]
    # If no time occurs twice, rows may be in any order.
    once = random.Random(1).sample(texts[24:], 24)
    assert len(times_of(written(tmp_path, lines(once, "BTC-USD"), "once.csv"), tz="America/New_York")) == 24


def broker_hours(zone: str) -> list[str]:
    """Return two weeks of hours of foreign exchange, Sunday 17:00 to Friday 17:00 in New York, as times in `zone`."""
    starts = [datetime(2024, 2, day, 22, tzinfo=UTC) for day in (4, 11)]
    times = [start + timedelta(hours=number) for start in starts for number in range(120)]
    return [f"{time.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}" for time in times]


@pytest.mark.parametrize("zone", ["Europe/Athens", "America/New_York", "UTC"])
@pytest.mark.parametrize("head", ["time", "date"])
def test_the_zone_of_foreign_exchange_times_is_ambiguous_in_any_layout(tmp_path: Path, head: str, zone: str) -> None:
    text = f"{head},open,high,low,close,volume\n" + "".join(
        f"{time},1.1,1.2,1.0,1.1,5\n" for time in broker_hours(zone)
    )
    path = written(tmp_path, text, "GBPUSD_1h.csv")
    asked = question(path)
    assert next(iter(asked.items())) == (f"as {zone} all 240 times fit the sessions of 24/5", {"tz": zone})
    assert {"tz": "Europe/Athens"} in asked.values()
    assert times_of(path, tz=zone)[0] == "2024-02-04 22:00"


def summer(days: Sequence[int], zone: str) -> str:
    """Return 5m bars of whole sessions in June 2024 with times of New York, which the file states to be in `zone`."""
    starts = [datetime(2024, 6, day, 9, 30) for day in days]
    return lines(
        [f"{time:%Y-%m-%d %H:%M}{zone}" for start in starts for time in five_minutes(start, start + 77 * FIVE)]
    )


@pytest.mark.parametrize("zone", [" EST", "-05:00"])
def test_a_zone_without_summer_time_is_ambiguous_if_the_zone_of_the_exchange_fits_better(
    tmp_path: Path, zone: str
) -> None:
    path = written(tmp_path, summer((3, 4, 5), zone))
    assert (
        refusal(path) == "its times name a zone that has no summer time, and 36 of 234 lie outside the sessions in it"
    )
    asked = question(path)
    assert asked == {
        "as America/New_York all 234 times fit the sessions of XNYS": {"tz": "America/New_York"},
        "as the file says 198 of 234 fit": {"partial": ""},
    }
    assert times_of(path, tz="America/New_York")[:2] == ["2024-06-03 13:30", "2024-06-03 13:35"]
    assert times_of(path, partial=True, label="open")[:2] == ["2024-06-03 14:30", "2024-06-03 14:35"]


def test_a_zone_without_summer_time_is_accepted_if_its_times_fit_the_sessions(tmp_path: Path) -> None:
    """An open at 13:30 UTC is 08:30 in Eastern Standard Time. The option `tz` changes nothing."""
    starts = [datetime(2024, 6, day, 8, 30) for day in (3, 4)]
    times = [time for start in starts for time in five_minutes(start, start + 77 * FIVE)]
    path = written(tmp_path, lines([f"{time:%Y-%m-%d %H:%M} EST" for time in times]))
    for options in ({}, {"tz": "America/New_York"}):
        found = understood(path, **options)
        assert rows_of(found.bars)[0][2] == "2024-06-03 13:30"
        assert found.zone == "UTC (as the file says)"


def test_a_time_skipped_by_the_clocks_is_refused_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, lines(["2024-03-10 01:55", "2024-03-10 02:30"], "BTC-USD"))
    assert refusal(path, tz="America/New_York") == (
        "line 3: 2024-03-10 02:30:00 does not exist in America/New_York, whose clocks are put forward then "
        "(1 such line); another `--tz` is needed"
    )


# --- most of a file ---------------------------------------------------------------------------------------------------


def test_bars_mostly_in_extended_hours_are_ambiguous(tmp_path: Path) -> None:
    times = five_minutes(datetime(2025, 1, 14, 4), datetime(2025, 1, 14, 19, 55))
    path = written(tmp_path, lines([f"{time:%Y-%m-%dT%H:%M}-05:00" for time in times]))
    assert refusal(path) == (
        "114 of its 192 5m bars could not be stored: they lie outside the sessions of XNYS, such as 2025-01-14 09:00 UTC"
    )
    asked = question(path)
    assert asked == {
        "all of its times fit the sessions of XNYS extended": {"calendar": "XNYS extended"},
        "with `--partial` what fits is stored and the rest skipped": {"partial": ""},
    }
    assert len(times_of(path, calendar="XNYS extended")) == 192
    assert len(times_of(path, partial="yes")) == 192


@pytest.mark.broad
def test_times_of_another_exchange_are_ambiguous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_share, "TRIED_CALENDARS", ("XLON", "XTKS"))
    tokyo = [f"2025-01-14T{hour:02}:{minute:02}Z" for hour in (0, 1) for minute in range(0, 60, 5)]
    path = written(tmp_path, lines(tokyo, "ABC"))
    asked = question(path)
    assert asked["all of its times fit the sessions of XTKS"] == {"calendar": "XTKS"}
    assert len(times_of(path, calendar="XTKS")) == 24


def test_bars_in_the_future_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, lines(["2027-01-12T15:00Z", "2027-01-12T15:05Z"]))
    assert refusal(path) == (
        "2 of its 2 5m bars could not be stored: their times lie in the future, such as 2027-01-12 15:00 UTC"
    )


def test_a_file_whose_prices_are_not_numbers_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, f"{HEADER}\nKO,1d,2025-01-14,1x,2x,1x,2x,5\n")
    assert refusal(path).startswith("1 of its 1 1d bars could not be stored: missing value")


# --- days -------------------------------------------------------------------------------------------------------------

SESSION = "2025-01-14 14:30"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("2025-01-14", "the date"),
        ("2025-01-14T00:00:00Z", "the date"),
        ("2025-01-14T00:00:00-05:00", "the date"),
        ("2025-01-14T05:00:00Z", "midnight at the exchange"),
        ("2025-01-14T14:30:00Z", "the open of the session"),
        ("2025-01-14T16:00:00-05:00", "the close of the session"),
        ("2025-01-14 16:00:00", "the date; the time of day is not read"),
        ("2025-01-14 09:30:00", "the date; the time of day is not read"),
    ],
)
def test_every_usual_label_of_a_day_is_mapped_to_its_session(tmp_path: Path, text: str, label: str) -> None:
    found = understood(written(tmp_path, lines([text], timeframe="1d")))
    assert [row[2] for row in rows_of(found.bars)] == [SESSION]
    assert found.label == label


def test_days_of_exchanges_that_open_on_the_previous_evening_are_placed_at_that_open(tmp_path: Path) -> None:
    assert times_of(written(tmp_path, lines(["2025-01-14"], "BHP.AX", "1d"))) == ["2025-01-13 23:00"]
    assert times_of(written(tmp_path, lines(["2025-01-14"], "EURUSD=X", "1d"))) == ["2025-01-13 22:00"]


def test_days_labelled_after_their_close_are_ambiguous(tmp_path: Path) -> None:
    path = written(tmp_path, lines(["2025-01-13T22:00Z", "2025-01-14T22:00Z"], timeframe="1d"))
    assert list(question(path).values()) == [{"label": "close"}, {"label": "open"}]
    assert times_of(path, label="close") == ["2025-01-13 14:30", "2025-01-14 14:30"]
    assert times_of(path, label="open") == ["2025-01-13 22:00", "2025-01-14 22:00"]


def test_days_of_crypto_that_do_not_begin_at_midnight_utc_are_refused(tmp_path: Path) -> None:
    texts = ["2022-01-01T06:00:00Z", "2022-01-02T06:00:00Z"]
    assert refusal(written(tmp_path, lines(texts, "BTC-USD", "1d"))) == (
        "its days begin at 06:00 UTC, such as 2022-01-01 06:00, and those of 24/7 at 00:00: bars of both cannot be in one "
        "series; get days from 00:00 UTC, or ingest bars of a shorter timeframe"
    )


@pytest.mark.parametrize("text", ["2022-01-01", "2022-01-01T00:00:00Z", "2022-01-01 23:59:59.999", "1640995200000"])
def test_days_of_crypto_are_utc_days(tmp_path: Path, text: str) -> None:
    assert times_of(written(tmp_path, lines([text], "BTC-USD", "1d"))) == ["2022-01-01 00:00"]


@pytest.mark.broad
def test_days_of_another_exchange_are_ambiguous_and_its_calendar_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """London traded on these days of 2024. Six of them were holidays in New York."""
    monkeypatch.setattr(file_sessions, "TRIED_CALENDARS", ("XPAR", "XLON"))
    days = [date(2024, 1, 2) + timedelta(days=number) for number in range(360)]
    resting = {date(2024, *each) for each in ((3, 29), (4, 1), (5, 6), (5, 27), (8, 26), (12, 25), (12, 26))}
    london = [f"{day}" for day in days if day.weekday() < 5 and day not in resting]
    path = written(tmp_path, lines(london, "ABC", "1d"))
    assert refusal(path) == "6 of 251 days are no sessions of XNYS, such as 2024-01-15"
    asked = question(path)
    assert next(iter(asked.items())) == ("XLON has 251 of 251", {"calendar": "XLON"})
    assert len(times_of(path, calendar="XLON")) == 251


def test_a_day_missing_from_the_calendar_is_placed_at_the_usual_open(tmp_path: Path) -> None:
    """A vendor has bars on a Saturday in January and on the day that New York was closed by a hurricane."""
    days = ["2012-10-26", "2012-10-29", "2012-10-31", "2024-01-05", "2024-01-06", "2024-01-08"]
    assert times_of(written(tmp_path, lines(days, "ABC", "1d"))) == [
        "2012-10-26 13:30",
        "2012-10-29 13:30",
        "2012-10-31 13:30",
        "2024-01-05 14:30",
        "2024-01-06 14:30",
        "2024-01-08 14:30",
    ]


def test_days_that_include_weekends_are_ambiguous_and_the_calendar_24_7_is_offered(tmp_path: Path) -> None:
    days = [f"{date(2024, 1, 2) + timedelta(days=number)}" for number in range(60)]
    path = written(tmp_path, lines(days, "ABC", "1d"))
    assert refusal(path) == "18 of 60 days are no sessions of XNYS, 16 of them on a weekend, such as 2024-01-06"
    assert question(path) == {
        "24/7 has 60 of 60": {"calendar": "24/7"},
        "with `--partial` days without a session are skipped, or flagged if traded": {"partial": ""},
    }
    assert len(times_of(path, partial="yes")) == 60
    assert len(times_of(path, calendar="24/7")) == 60


def weekdays(first: date, count: int, step: int = 0) -> list[date]:
    """Return `count` dates, each `step` days from a day from Monday to Friday, the first of them from `first` on."""
    days = [first + timedelta(days=number) for number in range(2 * count)]
    return [day + timedelta(days=step) for day in days if day.weekday() < 5][:count]


@pytest.mark.parametrize(("symbol", "zone"), [("VOD.L", "Europe/London"), ("7203.T", "Asia/Tokyo")])
def test_midnights_at_the_exchange_as_utc_without_a_zone_are_ambiguous(tmp_path: Path, symbol: str, zone: str) -> None:
    """As pandas writes them: 23:00 of the day before in London's summer, 15:00 of the day before in Tokyo."""
    days = weekdays(date(2025, 6, 3), 8)
    midnights = [datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC) for day in days]
    path = written(tmp_path, lines([f"{each:%Y-%m-%d %H:%M:%S}" for each in midnights], symbol, "1d"))
    assert question(path) == {
        "as UTC they are midnight at the exchange, and 8 of 8 are sessions": {"tz": "UTC"},
        f"as {zone} 7 of 8 dates are sessions": {"tz": zone},
    }
    assert [each[:10] for each in times_of(path, tz="UTC")] == [f"{day}" for day in days]


def test_opens_on_the_evening_before_without_a_zone_are_ambiguous(tmp_path: Path) -> None:
    """Futures open at 17:00 Chicago on the day before their session."""
    evenings = weekdays(date(2025, 6, 2), 6, step=-1)
    path = written(tmp_path, lines([f"{day} 17:00" for day in evenings], "ES=F", "1d"))
    assert question(path) == {
        "as America/Chicago they are the opens of sessions, and 6 of 6 are sessions": {"tz": "America/Chicago"}
    }
    assert times_of(path, tz="America/Chicago") == [f"{day} 22:00" for day in evenings]


@pytest.mark.broad
@pytest.mark.parametrize(("symbol", "hour"), [("EURUSD=X", 21), ("KO", 13)])
@pytest.mark.parametrize(("step", "label", "which"), [(-1, "open", "the day before"), (1, "close", "the day after")])
def test_dates_beside_their_sessions_are_ambiguous(
    tmp_path: Path, symbol: str, hour: int, step: int, label: str, which: str
) -> None:
    """Days from Sunday to Thursday, or from Tuesday to Saturday: few of them have no session, and all are wrong."""
    sessions = weekdays(date(2025, 6, 2), 10)
    path = written(tmp_path, lines([f"{day + timedelta(days=step)}" for day in sessions], symbol, "1d"))
    assert refusal(path).endswith(f"; each day seems to be {which} its session")
    assert question(path)[f"as {which} its session they fit"] == {"label": label}
    assert not any("calendar" in each for each in question(path).values())
    opens = [day - timedelta(days=hour == 21) for day in sessions]
    assert [each[:13] for each in times_of(path, label=label)] == [f"{day} {hour}" for day in opens]


@pytest.mark.broad
def test_dates_with_sundays_of_a_market_that_opens_on_sunday_evening_are_other_days(tmp_path: Path) -> None:
    """A week of six days, the first of them an evening, is cut at midnight and not at 17:00 New York."""
    days = [date(2025, 6, 1) + timedelta(days=number) for number in range(13)]
    path = written(tmp_path, lines([f"{day}" for day in days if day.weekday() != 5], "EURUSD=X", "1d"))
    assert "days with a Sunday are cut at another hour" in refusal(path)
    assert list(question(path).values()) == [{"partial": ""}]


# --- timeframes -------------------------------------------------------------------------------------------------------


def test_a_timeframe_that_the_bars_contradict_is_ambiguous(tmp_path: Path) -> None:
    text = "ts,open,high,low,close\n" + "".join(f"2025-01-14T{hour}:30Z,1,2,1,2\n" for hour in range(14, 21))
    path = written(tmp_path, text, "KO_5m.csv")
    assert refusal(path) == "its bars are 1 hour apart, which 5m bars (the name of the file) are not"
    assert question(path) == {"as 1h bars they fit": {"timeframe": "1h"}}
    assert understood(path, timeframe="1h").bars["timeframe"].unique().to_list() == ["1h"]


def test_days_labelled_at_midnight_on_the_clocks_of_several_exchanges_are_those_days(tmp_path: Path) -> None:
    days = [f"2025-01-{day} 00:00" for day in (14, 15, 16)]
    text = lines(days, timeframe="1d") + lines(days, "7203.T", "1d").split("\n", 1)[1]
    opens = [f"2025-01-{day} {time}" for time in ("14:30", "00:00") for day in (14, 15, 16)]
    assert times_of(written(tmp_path, text), tz="exchange") == opens


def test_bars_of_an_unwatched_or_unknown_timeframe_are_refused(tmp_path: Path) -> None:
    minutes = "ts,open,high,low,close\n" + "".join(f"2025-01-14T15:{minute:02}Z,1,2,1,2\n" for minute in range(9))
    has = "has 1m bars of KO, which has 5m, 15m, 30m, 1h, 4h, 1d; say `--timeframe` if its bars are others"
    path = written(tmp_path, minutes, "KO.csv")
    assert refusal(path) == has
    group = 'provider = "file"\ntimeframes = ["1m", "5m", "15m", "30m", "1h", "4h", "1d"]\nsymbols = ["KO"]'
    asked = {"with 1m, in a group of their own": {"group": f'[[group]]\ncalendar = "XNYS"\n{group}'}}
    assert question(path) == asked
    source = read(path, ReadOptions())
    for each, answer in (
        (Instrument("KO", "XNYS extended", FROM_FILES), f'[[group]]\ncalendar = "XNYS"\nhours = "extended"\n{group}'),
        (Instrument("KO"), None),
    ):
        with pytest.raises(BarFileError) as caught:
            understand(source, {"KO": each, "SPY": Instrument("SPY")}, {}, ReadOptions(), NOW)
        if answer is None:
            assert str(caught.value) == f'{path}: {has}, or add "1m" to `timeframes` in the watchlist'
        else:
            assert isinstance(caught.value, AmbiguousBarFile)
            assert caught.value.readings[0].answers == (("group", answer),)
    seconds = "ts,open,high,low,close\n" + "".join(f"2025-01-14T15:00:{second}Z,1,2,1,2\n" for second in range(10, 20))
    assert refusal(written(tmp_path, seconds, "KO.csv")) == (
        "its bars are 1 second apart; timeframes are 1m, 3m, 5m, 15m, 30m, 45m, 1h, 2h, 4h, 1d, or others such as 10m "
        "and 6h"
    )
    weeks = "ts,open,high,low,close\n" + "".join(
        f"{date(2025, 1, 6) + timedelta(days=7 * week)},1,2,1,2\n" for week in range(8)
    )
    assert refusal(written(tmp_path, weeks, "KO_1d.csv")) == (
        "its bars are 7 days apart, which 1d bars (the name of the file) are not; weeks and months are rolled up from "
        "1d bars here, so ingest those"
    )


def test_the_timeframe_is_derived_from_the_distance_of_bars_if_nothing_states_it(tmp_path: Path) -> None:
    text = "ts,open,high,low,close\n" + "".join(f"2025-01-14T15:{minute}Z,1,2,1,2\n" for minute in ("00", "15", "30"))
    found = understood(written(tmp_path, text, "KO.csv"))
    assert found.bars["timeframe"].unique().to_list() == ["15m"]
    assert found.source.keys.timeframe_from == "the distance of its bars"


def test_a_missing_symbol_or_timeframe_must_be_given(tmp_path: Path) -> None:
    path = written(tmp_path, "ts,open,high,low,close\n2025-01-14T15:00Z,1,2,1,2\n", "bars.csv")
    assert list(question(path).values()) == [{"symbol": "SYMBOL"}]
    assert list(question(path, symbol="KO").values()) == [{"timeframe": "TIMEFRAME"}]
    assert times_of(path, symbol="KO", timeframe="5m") == ["2025-01-14 15:00"]


def test_the_option_symbol_renames_only_a_file_with_one_symbol(tmp_path: Path) -> None:
    path = written(tmp_path, lines(["2025-01-14T15:00Z"], "KO.US"))
    found = understood(path, symbol="KO")
    assert found.bars["symbol"].to_list() == ["KO"]
    assert found.source.keys.symbol_from == "--symbol; the file says KO.US"
    two = lines(["2025-01-14T15:00Z"]) + "PEP,5m,2025-01-14T15:00Z,1,2,1,2,5\n"
    assert refusal(written(tmp_path, two), symbol="KO") == "`--symbol KO` cannot be: it holds 2 symbols in a column"


# --- where a decision turns -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inside", "is_taken"), [(19, True), (16, False)])
def test_times_are_taken_as_utc_when_95_percent_of_them_fit(tmp_path: Path, inside: int, is_taken: bool) -> None:
    """The times from 16:00 on are in the session as UTC, and after it in New York. 13:00 is before it as UTC."""
    first = datetime(2025, 1, 14, 16)
    path = written(
        tmp_path, lines(["2025-01-14 13:00", *(f"{each}" for each in five_minutes(first, first + (inside - 1) * FIVE))])
    )
    if is_taken:
        assert times_of(path)[:2] == ["2025-01-14 13:00", "2025-01-14 16:00"]
    else:
        assert refusal(path) == "its times name no zone, and as UTC 1 of 17 lie outside the sessions"
        assert question(path) == {
            "as America/Sao_Paulo all 17 times fit the sessions of XNYS": {"tz": "America/Sao_Paulo"},
            "as America/New_York, labelled at the close of each bar, 2 of 17 times fit the sessions of XNYS": {
                "tz": "America/New_York",
                "label": "close",
            },
        }


def test_times_of_crypto_that_name_their_zone_are_as_the_file_says(tmp_path: Path) -> None:
    found = understood(written(tmp_path, lines(["2025-01-14T03:00Z", "2025-01-14T03:05Z"], "BTC-USD")))
    assert found.zone == "UTC (as the file says)"


@pytest.mark.parametrize("head", ["ts,open,high,low,close", "time,open,high,low,close"])
def test_closes_of_foreign_exchange_are_ambiguous_by_the_end_of_the_week(tmp_path: Path, head: str) -> None:
    """Its week is from Sunday to Friday 17:00 New York, which is 22:00 UTC in winter, without a pause."""
    closes = [datetime(2025, 1, 12, 23) + timedelta(hours=number) for number in range(120)]
    text = "".join(f"{each:%Y-%m-%dT%H:%M}Z,1.1,1.2,1.0,1.1\n" for each in closes)
    path = written(tmp_path, f"{head}\n{text}", "EURUSD_1h.csv")
    assert list(question(path).values()) == [{"label": "close"}, {"label": "open"}]
    assert times_of(path, label="close")[0] == "2025-01-12 22:00"
    opens = "".join(
        f"{each:%Y-%m-%dT%H:%M}Z,1.1,1.2,1.0,1.1\n" for each in (closes[0] - timedelta(hours=1), *closes[:-1])
    )
    assert times_of(written(tmp_path, f"{head}\n{opens}", "EURUSD_1h.csv"))[0] == "2025-01-12 22:00"


def test_one_time_in_the_last_second_of_a_minute_does_not_make_all_times_closes(tmp_path: Path) -> None:
    path = written(tmp_path, lines(["2025-01-14T03:00:00Z", "2025-01-14T03:05:00Z", "2025-01-14T03:09:59Z"], "BTC-USD"))
    found = understood(path)
    assert [row[2] for row in rows_of(found.bars)] == ["2025-01-14 03:00", "2025-01-14 03:05", "2025-01-14 03:09"]
    assert found.label == "at the open of a bar"


def test_times_of_the_exchange_that_claim_to_be_utc_are_not_said_to_lack_summer_time(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, summer((3, 4, 5), "Z"))).startswith(
        "144 of its 234 5m bars could not be stored: they lie outside the sessions of XNYS"
    )


@pytest.mark.parametrize(("days", "is_asked"), [((3, 4), True), ((3, 4, 5), False)])
def test_a_zone_without_summer_time_is_ambiguous_when_one_time_in_two_days_contradicts_it(
    tmp_path: Path, days: Sequence[int], is_asked: bool
) -> None:
    """15:00 Eastern Standard Time is the close in June, and 10:00 is in the session with and without summer time."""
    times = [f"2024-06-0{day} {clock} EST" for day in days for clock in ("10:00", "11:00")]
    path = written(tmp_path, lines([*times, f"2024-06-0{days[-1]} 15:00 EST"]))
    if is_asked:
        assert {"tz": "America/New_York"} in question(path, label="open").values()
    else:
        assert times_of(path, label="open")[-1] == "2024-06-05 20:00"


@pytest.mark.parametrize(("days", "is_asked"), [((14, 15), True), ((14, 15, 16), False)])
def test_a_label_is_ambiguous_when_one_bar_in_two_days_contradicts_it(
    tmp_path: Path, days: Sequence[int], is_asked: bool
) -> None:
    """The last two days have a time at the close of the session, and the first one has one at the open."""
    clocks = {day: ["10:00", "11:00"] for day in days}
    clocks[days[0]].insert(0, "09:30")
    for day in days[-2:]:
        clocks[day].append("16:00")
    path = written(tmp_path, lines([f"2025-01-{day}T{clock}-05:00" for day in days for clock in clocks[day]]))
    if is_asked:
        assert list(question(path).values()) == [{"label": "close"}, {"label": "open"}]
    else:
        assert understood(path).label == "at the open of a bar"


def test_a_repeated_hour_alone_is_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, lines(["2024-11-03 01:30", "2024-11-03 01:30"], "BTC-USD", "1h"))
    assert times_of(path, tz="America/New_York") == ["2024-11-03 05:30", "2024-11-03 06:30"]


def test_series_that_follow_one_another_have_each_an_order_of_their_own(tmp_path: Path) -> None:
    clocks = ("00:30", "01:00", "01:30", "01:00", "01:30", "02:00")
    texts = [f"2024-11-03 {clock}" for clock in clocks]
    text = lines(texts, "BTC-USD", "30m") + "".join(f"ETH-USD,30m,{time},10,11,9,10.5,1\n" for time in texts)
    instants = [f"2024-11-03 {clock}" for clock in ("04:30", "05:00", "05:30", "06:00", "06:30", "07:00")]
    assert times_of(written(tmp_path, text), tz="America/New_York") == instants * 2


@pytest.mark.parametrize(("dates", "label"), [(19, "the date"), (16, "the date; the time of day is not read")])
def test_days_are_dates_when_95_percent_have_no_time_of_day(tmp_path: Path, dates: int, label: str) -> None:
    days = [date(2025, 3, 3) + timedelta(days=number) for number in range(28)]
    texts = [f"{day}" for day in days if day.weekday() < 5][:dates]
    assert understood(written(tmp_path, lines([*texts, "2025-03-31 16:00"], timeframe="1d"))).label == label


def test_days_of_several_calendars_name_the_sessions_of_each(tmp_path: Path) -> None:
    text = lines(["2025-01-14"], timeframe="1d") + "VOD.L,1d,2025-01-14,10,11,9,10.5,1\n"
    found = understood(written(tmp_path, text))
    assert [row[2] for row in rows_of(found.bars)] == ["2025-01-14 14:30", "2025-01-14 08:00"]
    assert (found.zone, found.label) == ("the sessions of XNYS and the sessions of XLON", "the date")


def test_days_and_times_of_several_calendars_stay_in_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [
        ("VOD.L", "1d", "2025-01-14", "2025-01-14 08:00"),
        ("KO", "1d", "2025-01-14", "2025-01-14 14:30"),
        ("KO", "5m", "2025-01-14 14:40:00Z", "2025-01-14 14:40"),
        ("VOD.L", "1d", "2025-01-15", "2025-01-15 08:00"),
        ("KO", "5m", "2025-01-14 14:35:00Z", "2025-01-14 14:35"),
        ("KO", "1d", "2025-01-15", "2025-01-15 14:30"),
    ]
    text = "".join(f"\n{symbol},{timeframe},{time},10,11,9,10.5,1" for symbol, timeframe, time, _ in rows)
    found = rows_of(understood(written(tmp_path, HEADER + text)).bars)
    assert [each[:3] for each in found] == [(symbol, timeframe, ts) for symbol, timeframe, _, ts in rows]


def test_days_of_foreign_exchange_with_a_time_of_day_need_a_zone(tmp_path: Path) -> None:
    path = written(tmp_path, lines(["2025-01-13 22:00", "2025-01-14 22:00"], "EURUSD=X", "1d"))
    assert refusal(path) == (
        "its days are labelled 22:00 without a zone, which does not say when they begin; give `--tz`"
    )
    assert times_of(path, tz="UTC") == ["2025-01-13 22:00", "2025-01-14 22:00"]
    assert times_of(path, tz="UTC", label="close") == ["2025-01-12 22:00", "2025-01-13 22:00"]


@pytest.mark.parametrize("text", ["2022-01-02 23:59:58", "2022-01-02 06:00"])
def test_a_day_of_crypto_that_begins_at_another_hour_is_named(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, lines(["2022-01-01", text], "BTC-USD", "1d"))
    assert refusal(path).startswith(f"its days begin at {text[11:16]} UTC, such as {text[:16]}, ")


def test_a_day_of_crypto_in_its_last_second_but_one_is_refused(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, lines(["2022-01-02 23:59:58"], "BTC-USD", "1d"))).startswith(
        "its days begin at 23:59 UTC"
    )


def test_one_day_in_50_may_be_missing_in_the_calendar(tmp_path: Path) -> None:
    """245 sessions of New York and five Saturdays."""
    resting = {
        date(2024, *each) for each in ((1, 1), (1, 15), (2, 19), (3, 29), (5, 27), (6, 19), (7, 4), (9, 2), (11, 28))
    }
    days = [date(2024, 1, 1) + timedelta(days=number) for number in range(366)]
    sessions = [day for day in days if day.weekday() < 5 and day not in resting][:245]
    saturdays = [day for day in days if day.weekday() == 5][:5]
    path = written(tmp_path, lines([f"{day}" for day in sorted([*sessions, *saturdays])], "ABC", "1d"))
    assert len(times_of(path)) == 250


def test_hours_that_are_labelled_at_the_close_fit_where_the_last_one_overlaps_the_session(tmp_path: Path) -> None:
    """London trades from 08:00 to 16:30, so the bar of 16:00 to 17:00 overlaps its session, and one of 17:00 does not."""
    path = written(tmp_path, lines([f"2025-01-14T{hour:02}:00Z" for hour in range(9, 18)], "VOD.L", "1h"))
    assert question(path) == {
        "labelled at the close 9 of 9 fit the sessions": {"label": "close"},
        "labelled at the open 8 of 9 fit": {"label": "open"},
    }


def test_only_calendars_that_have_nearly_all_days_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokyo rests on three of these days, London on one, and nobody knows the last."""
    monkeypatch.setattr(file_sessions, "TRIED_CALENDARS", ("XTKS", "XLON", "XNYS", "XXXX"))
    days = [date(2024, 4, 22) + timedelta(days=number) for number in range(19)]
    found = file_sessions.better_calendars([day for day in days if day.weekday() < 5], {"XLON"})
    assert found == [file_sessions.Fit("XNYS", 15, 15)]


@pytest.mark.parametrize(
    ("inside", "evidence"),
    [
        (19, "95 of 100 of its times fit the sessions of XTKS"),
        (16, "all of its times fit the sessions of 24/7"),
    ],
)
def test_a_calendar_is_named_when_95_percent_of_the_times_fit_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: int, evidence: str
) -> None:
    """Tokyo opens at midnight UTC and has closed by noon."""
    monkeypatch.setattr(file_share, "TRIED_CALENDARS", ("XTKS",))
    tokyo = [datetime(2025, 1, 14) + number * FIVE for number in range(inside)]
    path = written(tmp_path, lines([f"{time:%Y-%m-%dT%H:%M}Z" for time in [*tokyo, datetime(2025, 1, 14, 12)]], "ABC"))
    assert list(question(path)) == [evidence]


def test_a_file_of_which_half_can_be_stored_is_taken(tmp_path: Path) -> None:
    assert len(times_of(written(tmp_path, lines(["2025-01-14T13:00Z", "2025-01-14T15:00Z"])))) == 2
    # Bars that cannot be true are no bars of another instrument.
    sound = lines([f"2025-01-14T15:{minute}Z" for minute in ("00", "05", "10")])
    wrong = "".join(f"KO,5m,2025-01-14T16:{minute}Z,0,0,0,0,5\n" for minute in ("00", "05", "10"))
    assert len(times_of(written(tmp_path, sound + wrong))) == 6


def test_two_times_with_several_prices_may_be_corrections(tmp_path: Path) -> None:
    twice = lines(["2025-01-14T15:00Z", "2025-01-14T15:05Z"]) + "".join(
        f"KO,5m,2025-01-14T15:{minute}Z,20,21,19,20.5,5\n" for minute in ("00", "05")
    )
    assert len(times_of(written(tmp_path, twice))) == 4


@pytest.mark.parametrize(("times", "is_taken"), [(6, False), (7, True)])
def test_a_file_in_which_half_of_the_times_have_several_prices_is_ambiguous(
    tmp_path: Path, times: int, is_taken: bool
) -> None:
    texts = [f"2025-01-14T15:{5 * number:02}Z" for number in range(times)]
    others = "".join(f"KO,5m,{text},20,21,19,20.5,5\n" for text in texts[:3])
    path = written(tmp_path, lines(texts) + others)
    if is_taken:
        assert len(times_of(path)) == 10
    else:
        assert refusal(path).startswith("3 of its 6 5m times have several rows with different prices")


def test_rows_that_repeat_a_bar_count_as_one(tmp_path: Path) -> None:
    bars = lines(["2025-01-14T15:00Z", "2025-01-14T15:05Z"])
    assert len(times_of(written(tmp_path, bars + bars.removeprefix(HEADER + "\n") * 2))) == 6


def test_a_timeframe_of_which_no_row_has_a_time_is_refused(tmp_path: Path) -> None:
    """An export may have an empty row for a series without bars."""
    bars = lines(["2025-01-14T15:00Z", "2025-01-14T15:05Z"])
    assert refusal(written(tmp_path, f"{bars}KO,1h,,,,,,\nKO,5m,2025-01-14T15:10Z,10,11,9,10.5,5\n")) == (
        "1 of its 1 1h bars could not be stored: missing value"
    )


def test_the_first_by_name_of_two_equally_common_reasons_is_given(tmp_path: Path) -> None:
    path = written(tmp_path, lines(["2025-01-14T13:00Z", "2027-01-12T15:00Z"]))
    assert refusal(path).startswith("1 of its 2 5m bars could not be stored: their times lie in the future")


def test_a_file_without_a_storable_bar_is_refused_without_a_question(tmp_path: Path) -> None:
    with pytest.raises(BarFileError) as caught:
        understood(written(tmp_path, lines(["2027-01-12T15:00Z"])))
    assert caught.type is BarFileError
