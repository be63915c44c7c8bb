"""What single signals do at their edges, where no library says."""

import polars as pl
import pytest

from ema_assets_tests.signals.harness import SIGNALS, bars_from, inputs_of, together, whole


def computed(name: str, closes: list[float], **params: float) -> pl.DataFrame:
    signal = SIGNALS[name]
    bars = together({"AAPL": bars_from(closes, seed=1)})
    return whole(signal, {**signal.defaults, **params}, inputs_of(signal, bars))


def test_macd_refuses_a_fast_span_that_is_not_the_shorter_one() -> None:
    signal = SIGNALS["macd"]
    assert signal.check(signal.defaults) is None
    assert signal.check({**signal.defaults, "fast": 26}) == (
        "`fast` must be less than `slow`, received fast = 26, slow = 26"
    )


def test_the_rsi_of_what_only_rises_is_100_of_what_only_falls_0_and_of_a_standstill_0() -> None:
    assert computed("rsi", [100.0 + n for n in range(20)])["rsi"].to_list() == [None] * 14 + [100.0] * 6
    assert computed("rsi", [100.0 - n for n in range(20)])["rsi"].to_list() == [None] * 14 + [0.0] * 6
    assert computed("rsi", [100.0] * 20)["rsi"].to_list() == [None] * 14 + [0.0] * 6


def test_the_true_range_reaches_to_the_close_before() -> None:
    closes = [100.0, 100.0, 130.0]
    bars = together({"AAPL": bars_from(closes, seed=1)}).with_columns(
        high=pl.Series([101.0, 102.0, 131.0]), low=pl.Series([99.0, 98.0, 129.0])
    )
    found = whole(SIGNALS["atr"], {"span": 1}, inputs_of(SIGNALS["atr"], bars))
    assert found["atr"].to_list() == [None, 4.0, 31.0]
    assert found["atr_pct"].to_list() == [None, 4.0, pytest.approx(3100 / 130)]


def test_bands_without_width_lie_on_the_price_and_tell_no_place_within_them() -> None:
    last = computed("bollinger", [42.42] * 25).tail(1).to_dicts()[0]
    assert (last["bb_lower"], last["bb_middle"], last["bb_upper"]) == (42.42, 42.42, 42.42)
    assert (last["bb_percent_b"], last["bb_bandwidth"]) == (None, 0.0)


def test_a_close_on_the_upper_band_is_at_one() -> None:
    # Two closes: the population's deviation is half of their distance, so with one deviation the bands are the closes.
    found = computed("bollinger", [100.0, 110.0, 104.0], span=2, deviations=1.0)
    assert found["bb_percent_b"].to_list() == [None, 1.0, 0.0]
    assert found["bb_upper"].to_list() == [None, 110.0, 110.0]
    assert found["bb_bandwidth"].to_list() == [None, pytest.approx(10 / 105), pytest.approx(6 / 107)]


def test_the_weighted_average_of_a_standstill_is_the_price_and_of_a_line_lies_a_third_of_its_window_back() -> None:
    assert set(computed("wma", [42.42] * 40)["wma_30"][29:]) == {42.42}
    line = computed("wma", [100.0 + n for n in range(40)])["wma_30"]
    assert line[29:].to_list() == pytest.approx([100.0 + n - 29 / 3 for n in range(29, 40)])
