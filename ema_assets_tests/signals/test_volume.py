"""VWAP and relative volume equal a plain computation, and small examples bar by bar."""

import math
from datetime import datetime
from statistics import fmean

import polars as pl
import pytest
from hypothesis import given

from ema_assets_tests.signals.harness import SIGNALS, histories, inputs_of, walks, whole


def computed(name: str, bars: pl.DataFrame) -> pl.DataFrame:
    return whole(SIGNALS[name], SIGNALS[name].defaults, inputs_of(SIGNALS[name], bars))


def vwap_of(bars: list[dict[str, float]], sessions: list[datetime]) -> list[float | None]:
    result: list[float | None] = []
    for number, session in enumerate(sessions):
        mine = [bar for bar, other in zip(bars[: number + 1], sessions, strict=False) if other == session]
        volume = math.fsum(bar["volume"] for bar in mine)
        value = math.fsum((bar["high"] + bar["low"] + bar["close"]) / 3 * bar["volume"] for bar in mine)
        result.append(value / volume if volume else None)
    return result


def assert_close(found: list[float | None], expected: list[float | None]) -> None:
    assert [value is None for value in found] == [value is None for value in expected]
    for one, other in zip(found, expected, strict=True):
        if one is not None and other is not None:
            assert math.isclose(one, other, rel_tol=1e-9), (one, other)


@given(histories())
def test_vwap_is_the_volume_weighted_mean_of_the_typical_prices_of_the_session(bars: pl.DataFrame) -> None:
    found = computed("vwap", bars)
    for mine in bars.partition_by("symbol"):
        expected = vwap_of(mine.to_dicts(), mine["session"].to_list())
        assert_close(found.filter(symbol=mine["symbol"][0])["vwap"].to_list(), expected)


@given(histories())
def test_relative_volume_is_the_volume_divided_by_the_mean_of_the_previous_twenty_bars(bars: pl.DataFrame) -> None:
    found = computed("relative_volume", bars)
    for mine in bars.partition_by("symbol"):
        volumes = mine["volume"].to_list()
        usual = [fmean(volumes[bar - 20 : bar]) if bar >= 20 else 0.0 for bar in range(len(volumes))]
        expected = [volume / mean if mean else None for volume, mean in zip(volumes, usual, strict=True)]
        assert_close(found.filter(symbol=mine["symbol"][0])["relative_volume"].to_list(), expected)


def test_a_constant_volume_has_a_relative_volume_of_exactly_one() -> None:
    bars = walks(30, symbols=1).with_columns(volume=pl.lit(333.0))
    assert set(computed("relative_volume", bars)["relative_volume"][20:]) == {1.0}


def test_bars_with_an_unknown_volume_are_not_in_the_mean_of_relative_volume() -> None:
    bars = walks(30, symbols=1).with_columns(
        volume=pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.int_range(pl.len()).cast(pl.Float64))
    )
    volumes = bars["volume"].to_list()
    usual = [fmean(each for each in volumes[bar - 20 : bar] if each is not None) for bar in range(20, 30)]
    expected = [None if volume is None else volume / mean for volume, mean in zip(volumes[20:], usual, strict=True)]
    assert_close(computed("relative_volume", bars)["relative_volume"][20:].to_list(), expected)
    unknown = bars.with_columns(volume=pl.when(pl.int_range(pl.len()) == 29).then(5.0))
    assert computed("relative_volume", unknown)["relative_volume"][29] is None


def test_each_session_restarts_vwap_with_the_typical_price_of_its_first_bar() -> None:
    bars = walks(60, symbols=2).with_columns(volume=pl.lit(7.0))
    found = computed("vwap", bars)
    firsts = bars.select(pl.struct("symbol", "session").is_first_distinct()).to_series()
    typical = bars.select((pl.col("high") + pl.col("low") + pl.col("close")) / 3).to_series()
    assert 4 <= firsts.sum() < 10
    assert found.filter(firsts)["session_volume"].unique().to_list() == [7.0]
    assert found.filter(firsts)["vwap"].to_list() == pytest.approx(typical.filter(firsts).to_list(), rel=1e-12)


def test_vwap_is_null_until_the_first_volume_of_the_session_and_stays_without_volume() -> None:
    bars = walks(6, symbols=1).with_columns(
        volume=pl.Series([5.0, 0.0, 0.0, 0.0, 3.0, 0.0]), session=pl.col("ts").gather([0, 0, 2, 2, 2, 2])
    )
    vwap = computed("vwap", bars)["vwap"].to_list()
    assert [value is None for value in vwap] == [False, False, True, True, False, False]
    assert vwap[0] == vwap[1]
    assert vwap[4] == vwap[5]
