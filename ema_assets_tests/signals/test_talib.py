"""Signals equal TA-Lib at every bar where it has a value."""

import math
import statistics
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_assets.signals.declaration import Params
from ema_assets_tests.market.series import random_walk
from ema_assets_tests.signals.harness import SIGNALS, bars_from, histories, inputs_of, together, whole

talib = pytest.importorskip("talib")

STOCK = random_walk(400, seed=7)
TINY = random_walk(300, seed=11, price=1.2e-8, volatility=0.05)
# A halt, an overnight gap, an unadjusted split, and a coarse tick with many equal neighbours.
CLOSES: dict[str, list[float]] = {
    "a stock": STOCK,
    "tiny prices": TINY,
    "huge prices": random_walk(300, seed=12, price=4e11),
    "prices in cents": [round(close, 2) for close in random_walk(400, seed=13, price=3.0)],
    "a standstill from the first bar": [42.42] * 120,
    "a standstill in the middle": [*STOCK[:90], *[STOCK[89]] * 70, *STOCK[90:]],
    "a jump up": [*STOCK[:150], *(close * 1.4 for close in STOCK[150:])],
    "a split": [*STOCK[:150], *(close / 20 for close in STOCK[150:])],
    "a coarse tick": [max(round(close * 4 / 100) * 25.0, 25.0) for close in STOCK],
    "only up": [100 * 1.01**n for n in range(120)],
    "only down": [100 * 0.99**n for n in range(120)],
    "one bar": [1.0],
    "as long as the slowest": random_walk(34, seed=14),
}
series = pytest.mark.parametrize("closes", [pytest.param(each, id=name) for name, each in CLOSES.items()])

Arrays = Sequence[np.ndarray]


def theirs(bars: pl.DataFrame, function: Callable[..., object], *columns: str, **parameters: object) -> list[Arrays]:
    values = function(*(bars[name].to_numpy() for name in columns), **parameters)
    return list(values) if isinstance(values, tuple | list) else [values]  # type: ignore[list-item]


def of_talib(name: str, bars: pl.DataFrame, params: Params) -> dict[str, Arrays]:
    if name == "ema_signals":
        return {f"ema_{span}": theirs(bars, talib.EMA, "close", timeperiod=span)[0] for span in (9, 30)}
    if name == "rsi":
        return {"rsi": theirs(bars, talib.RSI, "close", timeperiod=params["span"])[0]}
    if name == "atr":
        return {"atr": theirs(bars, talib.ATR, "high", "low", "close", timeperiod=params["span"])[0]}
    if name == "wma":
        return {"wma_30": theirs(bars, talib.WMA, "close", timeperiod=30)[0]}
    if name == "macd":
        spans = {f"{each}period": params[each] for each in ("fast", "slow", "signal")}
        return dict(zip(("macd", "macd_signal", "macd_hist"), theirs(bars, talib.MACD, "close", **spans), strict=True))
    assert name == "bollinger"
    bands = {"timeperiod": params["span"], "nbdevup": params["deviations"], "nbdevdn": params["deviations"]}
    return dict(zip(("bb_upper", "bb_middle", "bb_lower"), theirs(bars, talib.BBANDS, "close", **bands), strict=True))


NAMES = ("ema_signals", "rsi", "atr", "wma", "macd", "bollinger")
PARAMS: dict[str, list[Params]] = {
    "rsi": [{"span": 2}, {"span": 9}],
    "atr": [{"span": 2}, {"span": 21}],
    "macd": [{"fast": 5, "slow": 35, "signal": 5}, {"fast": 2, "slow": 3, "signal": 2}],
    "bollinger": [{"span": 2, "deviations": 1.0}, {"span": 50, "deviations": 2.5}],
}
each_with_params = pytest.mark.parametrize(
    ("name", "params"),
    [
        pytest.param(name, params, id=f"{name} {SIGNALS[name].code_version(params)}")
        for name in NAMES
        for params in [SIGNALS[name].defaults, *PARAMS.get(name, [])]
    ],
)


def assert_equal_where_talib_has_a_value(name: str, params: Params, bars: pl.DataFrame) -> None:
    found = whole(SIGNALS[name], params, inputs_of(SIGNALS[name], bars))
    for column, expected in of_talib(name, bars, params).items():
        values = found[column].to_list()
        for bar, (value, other) in enumerate(zip(values, expected.tolist(), strict=True)):  # type: ignore[attr-defined]
            if math.isnan(other):
                # TA-Lib gives no MACD before its signal line begins.
                assert value is None or column == "macd", (column, bar)
                continue
            assert value is not None, (column, bar)
            lost = lost_by_talib(column, params, bars, found, bar)
            assert math.isclose(value, other, rel_tol=1e-9, abs_tol=lost), (column, bar, value, other)


def lost_by_talib(column: str, params: Params, bars: pl.DataFrame, found: pl.DataFrame, bar: int) -> float:
    """The possible error of TA-Lib where it subtracts nearly equal numbers."""
    largest = max(bars["close"][: bar + 1])
    if column in ("bb_upper", "bb_lower"):
        # TA-Lib computes the variance as a difference of running sums over all closes so far. The largest square limits
        # the precision of these sums.
        deviation = (found["bb_upper"][bar] - found["bb_middle"][bar]) / params["deviations"]
        return 1e-14 * largest * min(largest / deviation if deviation else math.inf, 1e7) * params["deviations"]
    return 1e-14 * largest if column.startswith(("macd", "bb_")) else 0.0


@each_with_params
@series
def test_signals_equal_every_value_of_talib(name: str, params: Params, closes: list[float]) -> None:
    assert_equal_where_talib_has_a_value(name, params, together({"AAPL": bars_from(closes, seed=1)}))


@pytest.mark.broad
@pytest.mark.parametrize("name", NAMES)
@given(bars=histories(most=200))
def test_signals_equal_every_value_of_talib_for_drawn_bars(name: str, bars: pl.DataFrame) -> None:
    for alone in bars.partition_by("symbol"):
        assert_equal_where_talib_has_a_value(name, SIGNALS[name].defaults, alone)


@pytest.mark.broad
@given(bars=histories(most=200))
def test_bollinger_bands_equal_those_of_exact_arithmetic(bars: pl.DataFrame) -> None:
    """TA-Lib loses digits here. `statistics` computes with fractions."""
    for alone in bars.partition_by("symbol"):
        found = whole(SIGNALS["bollinger"], SIGNALS["bollinger"].defaults, inputs_of(SIGNALS["bollinger"], alone))
        closes = alone["close"].to_list()
        for bar in range(19, alone.height):
            window = closes[bar - 19 : bar + 1]
            mean, width = statistics.mean(map(Fraction, window)), 2 * Fraction(statistics.pstdev(window))
            for column, exact in (("bb_upper", mean + width), ("bb_middle", mean), ("bb_lower", mean - width)):
                value = found[column][bar]
                assert math.isclose(value, exact, rel_tol=1e-9, abs_tol=1e-14 * max(window)), (column, bar, value)


@given(st.integers(26, 33))
def test_macd_has_values_before_its_signal_line_begins(bars: int) -> None:
    found = whole(
        SIGNALS["macd"],
        SIGNALS["macd"].defaults,
        inputs_of(SIGNALS["macd"], together({"AAPL": bars_from(STOCK[:bars], 1)})),
    )
    assert found["macd"].null_count() == 25
    assert found["macd_signal"].null_count() == found["macd_hist"].null_count() == bars
