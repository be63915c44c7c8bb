"""Tests of the validation of bars: which are accepted, which are rejected and which are skipped."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from ema_assets.market import repair
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.market.validation import (
    ANOTHER_DAY,
    NOT_CLOSED,
    NOT_IN_CALENDAR,
    OFF_GRID,
    OUTSIDE_SESSION,
    Validated,
    validate,
)
from ema_assets.model.schemas import BAR_SCHEMA, FLAG_SCHEMA
from ema_assets.model.timeframes import Timeframe
from ema_assets_tests.timeframes import D1, H1, M5, ORDER

NAN, INFINITE = float("nan"), float("inf")
SOUND = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 100.0}
CALENDARS = {"AAPL": "XNYS", "HK": "XHKG", "TOKYO": "XTKS", "SYDNEY": "XASX", "BTC-USD": "24/7"}
SESSIONS = pl.concat(
    exchange_sessions(calendar, date(2026, 11, 16), date(2026, 12, 4)) for calendar in CALENDARS.values()
)
LATER = datetime(2026, 12, 24, tzinfo=UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def bar(ts: str | datetime | None, symbol: str = "AAPL", timeframe: str = "5m", **values: Any) -> pl.DataFrame:
    moment = utc(ts) if isinstance(ts, str) else ts
    row = {"symbol": symbol, "timeframe": timeframe, "ts": moment, **SOUND, **values}
    return pl.DataFrame([row], schema=BAR_SCHEMA)


def validated(
    *frames: pl.DataFrame, timeframe: Timeframe = M5, closed_by: datetime = LATER, sessions: pl.DataFrame = SESSIONS
) -> Validated:
    instruments = pl.DataFrame(
        {"symbol": list(CALENDARS), "calendar": list(CALENDARS.values()), "allow_negative": [False] * len(CALENDARS)}
    )
    result = validate(pl.concat(frames), timeframe, instruments, sessions, closed_by)
    assert result.accepted.schema == pl.Schema({**BAR_SCHEMA, "ts_end": BAR_SCHEMA["ts"]})
    assert result.rejected.schema == pl.Schema({**BAR_SCHEMA, "reason": pl.String()})
    assert result.flags.schema == FLAG_SCHEMA
    assert result.skipped.schema == pl.Schema({**BAR_SCHEMA, "reason": pl.String()})
    assert result.accepted.height + result.rejected.height + result.skipped.height == sum(f.height for f in frames)
    return result


def test_the_last_valid_bar_of_those_with_the_same_time_is_kept() -> None:
    found = validated(
        bar("2026-11-25 15:00", close=9.5),
        bar("2026-11-25 15:00", close=9.6),
        bar("2026-11-25 15:00", close=NAN),
        bar("2026-11-25 15:00", symbol="BTC-USD"),
    )
    assert found.accepted.select("symbol", "close").rows() == [("AAPL", 9.6), ("BTC-USD", 11.0)]
    assert sorted(found.rejected.select("reason", "close").rows()) == [
        (repair.DUPLICATE, 9.5),
        (repair.NOT_FINITE, pytest.approx(NAN, nan_ok=True)),
    ]


@pytest.mark.parametrize(
    ("symbol", "ts"),
    [
        ("AAPL", "2026-11-25 14:25"),
        ("AAPL", "2026-11-25 21:00"),
        ("AAPL", "2026-11-25 15:02"),
        ("AAPL", "2026-11-25 15:00:01"),
        ("AAPL", "2026-11-26 15:00"),
        ("AAPL", "2026-11-27 18:00"),
        ("AAPL", "2026-11-28 15:00"),
        ("HK", "2026-11-25 04:00"),
        ("HK", "2026-11-25 04:55"),
        ("BTC-USD", "2026-11-28 15:02:30"),
        ("UNKNOWN", "2026-11-25 15:00"),
    ],
)
def test_a_bar_off_the_grid_of_its_calendar_is_skipped(symbol: str, ts: str) -> None:
    found = validated(bar(ts, symbol, volume=0.0))
    assert (found.skipped.height, found.rejected.height) == (1, 0)


@pytest.mark.parametrize(
    ("symbol", "ts", "end"),
    [
        ("AAPL", "2026-11-25 14:30", "2026-11-25 14:35"),
        ("AAPL", "2026-11-25 20:55", "2026-11-25 21:00"),
        ("AAPL", "2026-11-27 17:55", "2026-11-27 18:00"),
        ("HK", "2026-11-25 03:55", "2026-11-25 04:00"),
        ("HK", "2026-11-25 05:00", "2026-11-25 05:05"),
        ("BTC-USD", "2026-11-28 23:55", "2026-11-29 00:00"),
    ],
)
def test_a_bar_on_the_grid_is_accepted_once_it_has_closed(symbol: str, ts: str, end: str) -> None:
    assert validated(bar(ts, symbol), closed_by=utc(end)).accepted["ts_end"].to_list() == [utc(end)]
    early = validated(bar(ts, symbol), closed_by=utc(end) - timedelta(seconds=1))
    assert (early.accepted.height, early.skipped.height) == (0, 1)


# The label of a daily bar, and the open of the session that it is mapped to.
LABELS = [
    pytest.param("AAPL", "2026-11-25 00:00", "2026-11-25 14:30", id="midnight UTC"),
    pytest.param("AAPL", "2026-11-25 05:00", "2026-11-25 14:30", id="midnight in New York"),
    pytest.param("AAPL", "2026-11-25 14:30", "2026-11-25 14:30", id="open in New York"),
    pytest.param("AAPL", "2026-11-30 00:00", "2026-11-30 14:30", id="a Monday, midnight UTC"),
    pytest.param("AAPL", "2026-11-27 05:00", "2026-11-27 14:30", id="a half day, midnight in New York"),
    pytest.param("HK", "2026-11-25 00:00", "2026-11-25 01:30", id="Hong Kong, midnight UTC"),
    pytest.param("HK", "2026-11-24 16:00", "2026-11-25 01:30", id="midnight in Hong Kong"),
    pytest.param("HK", "2026-11-25 01:30", "2026-11-25 01:30", id="open in Hong Kong"),
    pytest.param("HK", "2026-11-29 16:00", "2026-11-30 01:30", id="Monday, midnight in Hong Kong"),
    pytest.param("TOKYO", "2026-11-25 00:00", "2026-11-25 00:00", id="Tokyo, midnight UTC is the open"),
    pytest.param("TOKYO", "2026-11-24 15:00", "2026-11-25 00:00", id="midnight in Tokyo"),
    pytest.param("TOKYO", "2026-11-29 15:00", "2026-11-30 00:00", id="Monday, midnight in Tokyo"),
    pytest.param("SYDNEY", "2026-11-25 00:00", "2026-11-24 23:00", id="Sydney, midnight UTC is inside the session"),
    pytest.param("SYDNEY", "2026-11-24 13:00", "2026-11-24 23:00", id="midnight in Sydney"),
    pytest.param("SYDNEY", "2026-11-24 23:00", "2026-11-24 23:00", id="open in Sydney"),
    pytest.param("BTC-USD", "2026-11-28 00:00", "2026-11-28 00:00", id="24/7"),
]


@pytest.mark.parametrize(("symbol", "label", "opens"), LABELS)
def test_a_daily_bar_is_placed_at_the_open_of_its_session(symbol: str, label: str, opens: str) -> None:
    found = validated(bar(label, symbol, "1d"), timeframe=D1)
    assert found.accepted["ts"].to_list() == [utc(opens)]
    closes = SESSIONS.filter(calendar=CALENDARS[symbol], open=utc(opens))["close"].item()
    assert found.accepted["ts_end"].to_list() == [closes]
    assert validated(
        bar(label, symbol, "1d"), timeframe=D1, closed_by=closes - timedelta(seconds=1)
    ).accepted.is_empty()


@pytest.mark.parametrize(
    ("symbol", "label"),
    [
        pytest.param("AAPL", "2026-11-28 00:00", id="Saturday, midnight UTC"),
        pytest.param("AAPL", "2026-11-29 00:00", id="Sunday, midnight UTC"),
        pytest.param("AAPL", "2026-11-29 05:00", id="Sunday, midnight in New York"),
        pytest.param("AAPL", "2026-11-26 05:00", id="Thanksgiving, midnight in New York"),
        pytest.param("AAPL", "2026-11-26 00:00", id="Thanksgiving, midnight UTC"),
        pytest.param("HK", "2026-11-28 16:00", id="Sunday, midnight in Hong Kong"),
        pytest.param("HK", "2026-11-29 00:00", id="Sunday, midnight UTC in Hong Kong"),
        pytest.param("TOKYO", "2026-11-23 00:00", id="Labour Thanksgiving Day in Tokyo"),
        pytest.param("TOKYO", "2026-11-28 15:00", id="Sunday, midnight in Tokyo"),
        pytest.param("TOKYO", "2026-11-29 00:00", id="Sunday, midnight UTC in Tokyo"),
        pytest.param("SYDNEY", "2026-11-29 00:00", id="Sunday, midnight UTC in Sydney"),
    ],
)
def test_a_daily_bar_of_a_day_without_a_session_is_skipped_when_its_volume_is_zero(symbol: str, label: str) -> None:
    found = validated(bar(label, symbol, "1d", volume=0.0), timeframe=D1)
    assert (found.skipped.height, found.rejected.height) == (1, 0)


# A traded day missing from the calendar: its label, and its open and close, derived from the session before it.
UNLISTED = [
    pytest.param("AAPL", "2026-11-28 00:00", "2026-11-28 14:30", "2026-11-28 18:00", id="a Saturday after a half day"),
    pytest.param("AAPL", "2026-11-29 05:00", "2026-11-29 14:30", "2026-11-29 18:00", id="a Sunday"),
    pytest.param("AAPL", "2026-11-26 14:30", "2026-11-26 14:30", "2026-11-26 21:00", id="Thanksgiving"),
    pytest.param("HK", "2026-11-28 16:00", "2026-11-29 01:30", "2026-11-29 08:00", id="a Sunday in Hong Kong"),
    pytest.param("TOKYO", "2026-11-23 00:00", "2026-11-23 00:00", "2026-11-23 06:30", id="a holiday in Tokyo"),
]


@pytest.mark.parametrize(("symbol", "label", "opens", "closes"), UNLISTED)
@pytest.mark.parametrize("volume", [100.0, None])
def test_a_daily_bar_on_a_day_missing_from_the_calendar_is_kept_and_flagged(
    symbol: str, label: str, opens: str, closes: str, volume: float | None
) -> None:
    found = validated(bar(label, symbol, "1d", volume=volume), timeframe=D1)
    assert found.accepted.select("ts", "ts_end").rows() == [(utc(opens), utc(closes))]
    assert found.flags.rows() == [
        (symbol, "1d", utc(opens), NOT_IN_CALENDAR, f"{CALENDARS[symbol]} has no session on that day")
    ]
    before = validated(bar(label, symbol, "1d"), timeframe=D1, closed_by=utc(closes) - timedelta(seconds=1))
    assert (before.accepted.height, before.flags.height, before.skipped.height) == (0, 0, 1)


def test_bars_on_a_day_missing_from_the_calendar_are_kept_at_the_end_of_long_holidays() -> None:
    closed = SESSIONS.filter(~pl.col("session").is_between(date(2026, 11, 20), date(2026, 12, 1)))
    found = validated(bar("2026-12-01 15:00"), sessions=closed)
    assert found.flags["reason"].to_list() == [NOT_IN_CALENDAR]


def test_bars_in_the_usual_hours_of_a_day_missing_from_the_calendar_are_kept_and_flagged() -> None:
    inside = [bar(f"2026-11-26 {time}") for time in ("14:30", "20:55")]
    found = validated(*inside, bar("2026-11-26 14:25"), bar("2026-11-26 15:00", volume=0.0))
    assert found.accepted.select("ts", "ts_end").rows() == [
        (utc("2026-11-26 14:30"), utc("2026-11-26 14:35")),
        (utc("2026-11-26 20:55"), utc("2026-11-26 21:00")),
    ]
    assert found.flags["ts"].to_list() == found.accepted["ts"].to_list()
    assert found.skipped["reason"].to_list() == [OUTSIDE_SESSION, OUTSIDE_SESSION]


@pytest.mark.parametrize("hour", [1, 6, 23])
def test_a_crypto_day_that_does_not_begin_at_midnight_utc_is_skipped(hour: int) -> None:
    found = validated(
        bar(f"2026-11-27 {hour:02}:00", "BTC-USD", "1d"), bar("2026-11-28 00:00", "BTC-USD", "1d"), timeframe=D1
    )
    assert found.accepted["ts"].to_list() == [utc("2026-11-28 00:00")]
    assert found.skipped.select("ts", "reason").rows() == [(utc(f"2026-11-27 {hour:02}:00"), ANOTHER_DAY)]


def test_a_repair_is_flagged_at_the_stored_time_of_the_bar() -> None:
    found = validated(bar("2026-11-25 00:00", timeframe="1d", close=8.95), timeframe=D1)
    assert found.accepted.select("low", "close").rows() == [(8.95, 8.95)]
    assert found.flags.select("ts", "reason", "detail").rows() == [
        (utc("2026-11-25 14:30"), repair.REPAIRED, "low 9.0 became 8.95")
    ]


def test_two_labels_of_one_session_give_one_bar_and_the_later_label_wins() -> None:
    labels = [
        bar("2026-11-25 14:30", timeframe="1d", close=9.7),
        bar("2026-11-25 00:00", timeframe="1d", close=9.6),
    ]
    found = validated(*labels, timeframe=D1)
    assert found.accepted["close"].to_list() == [9.7]
    assert found.rejected.select("close", "reason").rows() == [(9.6, repair.DUPLICATE)]
    early = validated(*labels, timeframe=D1, closed_by=utc("2026-11-25 20:59"))
    assert (early.skipped["close"].to_list(), early.rejected["close"].to_list()) == ([9.7], [9.6])


def test_what_is_wrong_with_one_bar_of_an_answer_does_not_affect_the_others() -> None:
    found = validated(
        bar("2026-11-16 15:00"),
        bar("2026-11-25 15:00", close=8.95),
        bar("2026-11-25 15:02"),
        bar("2026-11-25 15:05", close=NAN),
        bar("2026-12-03 15:00"),
        bar("2026-12-03 15:05"),
        closed_by=utc("2026-12-03 15:05"),
    )
    assert found.accepted["ts"].to_list() == [
        utc("2026-11-16 15:00"),
        utc("2026-11-25 15:00"),
        utc("2026-12-03 15:00"),
    ]
    assert found.flags.select("ts", "reason").rows() == [(utc("2026-11-25 15:00"), repair.REPAIRED)]
    assert found.rejected["ts"].to_list() == [utc("2026-11-25 15:05")]
    assert found.skipped.select("ts", "reason").rows() == [
        (utc("2026-11-25 15:02"), OFF_GRID),
        (utc("2026-12-03 15:05"), NOT_CLOSED),
    ]


@pytest.mark.parametrize(
    ("symbol", "ts", "end"),
    [
        pytest.param("AAPL", "2026-11-25 14:00", "2026-11-25 15:00", id="the hour that holds the open"),
        pytest.param("AAPL", "2026-11-25 14:30", "2026-11-25 15:30", id="anchored to the open"),
        pytest.param("AAPL", "2026-11-25 20:30", "2026-11-25 21:00", id="cut at the close"),
        pytest.param("HK", "2026-11-25 03:30", "2026-11-25 04:00", id="cut at lunch"),
        pytest.param("HK", "2026-11-25 04:00", None, id="lunch"),
        pytest.param("AAPL", "2026-11-25 21:00", None, id="after hours"),
        pytest.param("AAPL", "2026-11-25 13:30", None, id="ends at the open"),
        pytest.param("AAPL", "2026-11-26 15:00", None, id="holiday"),
    ],
)
def test_hours_of_a_file_need_only_overlap_the_session(symbol: str, ts: str, end: str | None) -> None:
    found = validated(bar(ts, symbol, "1h", volume=0.0), timeframe=H1)
    if end is None:
        assert found.skipped.height == 1
    else:
        assert found.accepted.select("ts", "ts_end").rows() == [(utc(ts), utc(end))]
        assert validated(bar(ts, symbol, "1h"), timeframe=H1, closed_by=utc(ts)).accepted.is_empty()


def test_hours_that_do_not_begin_at_a_full_minute_are_skipped() -> None:
    found = validated(
        bar("2026-11-25 14:59:59", "BTC-USD", "1h"), bar("2026-11-25 16:20", "BTC-USD", "1h"), timeframe=H1
    )
    assert found.accepted["ts"].to_list() == [utc("2026-11-25 16:20")]
    assert found.skipped.select("ts", "reason").rows() == [(utc("2026-11-25 14:59:59"), OFF_GRID)]


def test_accepted_bars_are_sorted_by_symbol_and_time() -> None:
    found = validated(bar("2026-11-25 15:05", "BTC-USD"), bar("2026-11-25 15:05"), bar("2026-11-25 15:00"))
    assert found.accepted.select("symbol", "ts").rows() == sorted(found.accepted.select("symbol", "ts").rows())


def test_an_empty_frame_gives_no_accepted_bars() -> None:
    for timeframe in ORDER:
        found = validated(bar("2026-11-25 15:05").clear(), timeframe=timeframe)
        assert (found.accepted.height, found.skipped.height, found.rejected.height) == (0, 0, 0)


def test_bars_without_a_time_are_rejected_also_if_there_are_no_others() -> None:
    for timeframe in ORDER:
        found = validated(bar(None, timeframe=timeframe.key), bar(None, close=None), timeframe=timeframe)
        assert found.rejected["reason"].to_list() == [repair.MISSING_VALUE] * 2
