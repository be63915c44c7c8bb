"""Tests of timeframes: their keys, the source of their bars, and when these close."""

import copy
import pickle
from datetime import timedelta

import pytest

from ema_assets.model.errors import InvalidKeyError
from ema_assets.model.symbols import Instrument, parse_timeframe
from ema_assets.model.timeframes import DEFAULT, FETCHED, USUAL, by_key, lasting, with_bases
from ema_assets_tests.timeframes import D1, H1, M1, M5, MO1, W1


@pytest.mark.parametrize(
    ("key", "minutes", "base", "cron"),
    [
        ("1m", 1, "1m", "*/1 * * * *"),
        ("3m", 3, "1m", "*/3 * * * *"),
        ("5m", 5, "5m", "*/5 * * * *"),
        ("7m", 7, "1m", "*/1 * * * *"),
        ("10m", 10, "5m", "*/5 * * * *"),
        ("45m", 45, "5m", "*/15 * * * *"),
        ("90m", 90, "5m", "*/15 * * * *"),
        ("2h", 120, "5m", "*/15 * * * *"),
        ("23h", 1380, "5m", "*/15 * * * *"),
        ("1d", 1440, "1d", "*/15 * * * *"),
        ("1w", 7 * 1440, "1d", "*/15 * * * *"),
        ("1M", 31 * 1440, "1d", "*/15 * * * *"),
        ("3M", 92 * 1440, "1d", "*/15 * * * *"),
        ("12M", 366 * 1440, "1d", "*/15 * * * *"),
    ],
)
def test_length_base_and_cron_follow_from_the_key_of_a_timeframe(key: str, minutes: int, base: str, cron: str) -> None:
    timeframe = by_key(key)
    assert (timeframe.minutes, timeframe.base.key, timeframe.cron) == (minutes, base, cron)
    assert timeframe.is_fetched == (key == base)
    assert by_key(key) is timeframe
    assert copy.deepcopy(timeframe) is timeframe
    assert pickle.loads(pickle.dumps(timeframe)) is timeframe


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        *dict.fromkeys(("", "m", "0m", "5", "5M", "2d", "7d", "2w", "2M", "01m", "5 m", "25h"), "").items(),
        ("60m", "; did you mean `1h`?"),
        ("120m", "; did you mean `2h`?"),
        ("1440m", "; did you mean `1d`?"),
        ("24h", "; did you mean `1d`?"),
        ("1D", "; did you mean `1d`?"),
        ("D", "; did you mean `1d`?"),
        ("daily", "; did you mean `1d`?"),
        ("5min", "; did you mean `5m`?"),
        ("60 minutes", "; did you mean `1h`?"),
        ("4H", "; did you mean `4h`?"),
        ("1week", "; did you mean `1w`?"),
        ("3mo", "; did you mean `3M`?"),
        ("2D", ""),
        ("90d", ""),
    ],
)
def test_other_keys_are_refused_with_the_allowed_ones_and_a_suggestion(key: str, hint: str) -> None:
    with pytest.raises(KeyError):
        by_key(key)
    with pytest.raises(InvalidKeyError) as caught:
        parse_timeframe(key)
    assert str(caught.value) == (
        "`timeframe` must be one of 1m, 3m, 5m, 15m, 30m, 45m, 1h, 2h, 4h, 1d, 1w, 1M, 3M, 12M, or any other number of "
        f"minutes or hours below a day, such as 90m, received {key!r}{hint}"
    )


def test_shorter_timeframes_come_first_and_have_a_lower_rank() -> None:
    assert [each.key for each in sorted({*USUAL, by_key("10m"), by_key("3M")})] == [
        "1m", "3m", "5m", "10m", "15m", "30m", "45m", "1h", "2h", "4h", "1d", "1w", "1M", "3M",
    ]  # fmt: skip
    ranks = [each.rank for each in USUAL]
    assert ranks == list(range(len(USUAL)))
    assert M5.rank < by_key("10m").rank <= by_key("15m").rank
    assert by_key("3M").rank == len(USUAL)


def test_three_timeframes_are_fetched_and_those_of_up_to_five_minutes_are_live() -> None:
    assert FETCHED == (M1, M5, D1)
    assert [each.key for each in USUAL if each.is_live] == ["1m", "3m", "5m"]
    with pytest.raises(ValueError, match="must be a fetched one, received 1w, which is rolled up"):
        _ = W1.fetched
    with pytest.raises(ValueError, match="must be a rolled-up one, received 5m, which is fetched"):
        _ = M5.source


def test_an_hour_is_intraday_a_day_is_a_session_and_a_week_is_a_period() -> None:
    assert [(each.is_intraday, each.is_session, each.period) for each in (H1, D1, W1, MO1)] == [
        (True, False, None), (False, True, None), (False, False, "week"), (False, False, "month"),
    ]  # fmt: skip


def test_names_of_tables_have_no_capital_letters() -> None:
    assert [each.sql_name for each in (M1, MO1, by_key("12M"), H1)] == ["1m", "1mo", "12mo", "1h"]


def test_a_length_of_up_to_a_day_gives_a_timeframe() -> None:
    lengths = [timedelta(minutes=1), timedelta(minutes=90), timedelta(hours=2), timedelta(days=1)]
    assert [str(lasting(each)) for each in lengths] == ["1m", "90m", "2h", "1d"]
    assert [lasting(each) for each in (timedelta(seconds=90), timedelta(0), timedelta(days=7))] == [None] * 3


def test_an_instrument_keeps_the_bars_that_its_timeframes_are_rolled_up_from() -> None:
    assert with_bases([H1, W1]) == (M5, H1, D1, W1)
    hours = Instrument("AAPL", timeframes=(H1, W1))
    assert hours.with_bars == (M5, H1, D1, W1)
    assert hours.bars_only == (M5, D1)
    assert Instrument("AAPL").with_bars == DEFAULT
    assert Instrument("AAPL").bars_only == ()
