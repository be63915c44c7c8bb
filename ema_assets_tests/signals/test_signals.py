"""Edge cases of single signals that no library defines."""

import polars as pl
import pytest

from ema_assets_tests.signals.harness import SIGNALS, bars_from, inputs_of, together, whole


def computed(name: str, closes: list[float], **params: float) -> pl.DataFrame:
    signal = SIGNALS[name]
    bars = together({"AAPL": bars_from(closes, seed=1)})
    return whole(signal, {**signal.defaults, **params}, inputs_of(signal, bars))


def test_macd_refuses_a_fast_span_that_is_not_shorter_than_the_slow_span() -> None:
    signal = SIGNALS["macd"]
    assert signal.check(signal.defaults) is None
    assert signal.check({**signal.defaults, "fast": 26}) == (
        "`fast` must be less than `slow`, received fast = 26, slow = 26"
    )


def test_the_rsi_is_100_for_rising_prices_and_0_for_falling_or_constant_prices() -> None:
    assert computed("rsi", [100.0 + n for n in range(20)])["rsi"].to_list() == [None] * 14 + [100.0] * 6
    assert computed("rsi", [100.0 - n for n in range(20)])["rsi"].to_list() == [None] * 14 + [0.0] * 6
    assert computed("rsi", [100.0] * 20)["rsi"].to_list() == [None] * 14 + [0.0] * 6


def test_the_true_range_includes_the_previous_close() -> None:
    closes = [100.0, 100.0, 130.0]
    bars = together({"AAPL": bars_from(closes, seed=1)}).with_columns(
        high=pl.Series([101.0, 102.0, 131.0]), low=pl.Series([99.0, 98.0, 129.0])
    )
    found = whole(SIGNALS["atr"], {"span": 1}, inputs_of(SIGNALS["atr"], bars))
    assert found["atr"].to_list() == [None, 4.0, 31.0]
    assert found["atr_pct"].to_list() == [None, 4.0, pytest.approx(3100 / 130)]


def test_bands_without_width_equal_the_price_and_have_no_percent_b() -> None:
    last = computed("bollinger", [42.42] * 25).tail(1).to_dicts()[0]
    assert (last["bb_lower"], last["bb_middle"], last["bb_upper"]) == (42.42, 42.42, 42.42)
    assert (last["bb_percent_b"], last["bb_bandwidth"]) == (None, 0.0)


def test_a_close_on_the_upper_band_has_a_percent_b_of_one() -> None:
    # The deviation of two closes is half of their distance, so with one deviation the bands are the closes.
    found = computed("bollinger", [100.0, 110.0, 104.0], span=2, deviations=1.0)
    assert found["bb_percent_b"].to_list() == [None, 1.0, 0.0]
    assert found["bb_upper"].to_list() == [None, 110.0, 110.0]
    assert found["bb_bandwidth"].to_list() == [None, pytest.approx(10 / 105), pytest.approx(6 / 107)]


def test_the_wma_of_constant_prices_is_the_price_and_that_of_a_line_lags_a_third_of_its_window() -> None:
    assert set(computed("wma", [42.42] * 40)["wma_30"][29:]) == {42.42}
    line = computed("wma", [100.0 + n for n in range(40)])["wma_30"]
    assert line[29:].to_list() == pytest.approx([100.0 + n - 29 / 3 for n in range(29, 40)])
