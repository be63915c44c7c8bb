"""Tests of the time of the market, which is that of the machine or of a virtual clock."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_assets.config.settings import Settings
from ema_assets.model import clock
from ema_assets.model.errors import ConfigurationError
from ema_assets.refresh.clients import open_provider

START = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
SINCE = datetime(2026, 11, 24, 20, 0, tzinfo=UTC)
FAST = {"EMA_CLOCK": "2026-11-20T14:30Z x60 until 2026-11-20T16:30Z since 2026-11-24T20:00Z"}


def test_without_the_variable_the_time_is_that_of_the_machine() -> None:
    before = datetime.now(UTC)
    for env in ({}, {"EMA_CLOCK": " "}):
        assert before <= clock.now(env) <= datetime.now(UTC)
        assert clock.at(SINCE, env) == clock.instant_of(SINCE, env) == SINCE


def test_a_virtual_clock_runs_fast_until_its_limit_and_then_at_normal_speed() -> None:
    assert clock.at(SINCE, FAST) == START
    assert clock.at(SINCE + timedelta(seconds=5), FAST) == START + timedelta(minutes=5)
    assert clock.at(SINCE + timedelta(minutes=2), FAST) == START + timedelta(hours=2)
    assert clock.at(SINCE + timedelta(minutes=3), FAST) == START + timedelta(hours=2, minutes=1)


def test_two_processes_that_read_the_same_variable_agree() -> None:
    text = clock.started("2026-11-20T14:30+01:00 x12.5")
    assert clock.started(text) == text == str(clock.parse(text))
    started = clock.instant_of(datetime(2026, 11, 20, 13, 30, tzinfo=UTC), {"EMA_CLOCK": text})
    later = clock.at(started + timedelta(seconds=4), {"EMA_CLOCK": text})
    assert later == datetime(2026, 11, 20, 13, 30, 50, tzinfo=UTC)


@given(st.timedeltas(timedelta(days=-2), timedelta(days=2)))
def test_a_moment_can_be_converted_to_an_instant_and_back(since_start: timedelta) -> None:
    moment = START + since_start
    again = clock.at(clock.instant_of(moment, FAST), FAST)
    assert abs(again - moment) <= timedelta(microseconds=60)


@pytest.mark.parametrize(
    "text",
    [
        "soon",
        "2026-11-20T14:30 x60",
        "2026-11-20T14:30Z x0.5",
        "2026-11-20T14:30Z x3601",
        "2026-11-20T14:30Z 60",
        "2026-11-20T14:30Z x60 until 2026-11-20T14:00Z",
        "2026-11-20T14:30Z x60 since yesterday",
    ],
)
def test_an_invalid_clock_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError, match="`EMA_CLOCK` must be a time with its zone.*such as 2026.*received"):
        Settings.from_env({"EMA_CLOCK": text})


def test_a_clock_without_a_start_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"must say `since` when.*EMA_CLOCK='2026-11-20T14:30:00Z x60 since"):
        clock.now({"EMA_CLOCK": "2026-11-20T14:30Z x60"})


def test_a_virtual_clock_is_refused_for_real_prices() -> None:
    with pytest.raises(ConfigurationError, match="`EMA_CLOCK` is for synthetic prices only, and yahoo"):
        Settings.from_env({**FAST, "EMA_PROVIDER": "yahoo"})
    settings = Settings.from_env({**FAST, "EMA_SANDBOX_URL": "http://127.0.0.1:1"})
    assert open_provider(settings).name == "sandbox"
    with pytest.raises(ConfigurationError, match="and binance is a provider"):
        open_provider(settings, "binance")
