"""The loops of signals give the same bits in Python and in machine code."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.market import rollups
from ema_assets.model.kernels import Kernel
from ema_assets.refresh.warm_up import warm_up
from ema_assets.signals import ema_trend as trends
from ema_assets.signals import recurrence
from ema_assets.signals.ema_signals import ema_signals
from ema_assets.signals.recurrence import Average, averaged, ema, wilder
from ema_assets.strategies.simulator import simulation

AVERAGES = [ema("ema_3", "close", 3), wilder("wilder_5", "close", 5, 1), Average("first", "close", 0.2, 1)]
CARRIED = pl.DataFrame({"symbol": ["B", "Z"], "ema_3": [99.7, 1.0], "wilder_5": [100.1, 1.0], "first": [0.3, 1.0]})
FRESH = pl.DataFrame(schema={"symbol": pl.String, "ema_9": pl.Float64, "ema_30": pl.Float64, "bar_number": pl.Int64})
NO_TREND = pl.DataFrame(schema={"symbol": pl.String, "trend": pl.String, "bars_since_cross": pl.Int64})
KERNELS = (rollups.GATHER, recurrence.AVERAGE, trends.TREND, simulation.TRADE)


def closes(seed: int, length: int) -> pl.DataFrame:
    """The closes of three series. The first closes of the last series are null."""
    random = np.random.default_rng(seed)
    values = pl.Series("close", np.round(100 + np.cumsum(random.normal(0, 1, 3 * length)), 2))
    rows = pl.DataFrame({"symbol": [name for name in "ABC" for _ in range(length)]}).with_columns(values)
    number = pl.int_range(pl.len()).over("symbol")
    return rows.with_columns(ts=number, close=pl.when((pl.col("symbol") != "C") | (number > length // 3)).then("close"))


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_machine_code_gives_the_same_bits_as_python(seed: int, length: int) -> None:
    bars = closes(seed, length)
    results = []
    for is_worth_it in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Kernel, "is_worth_it", lambda *_, answer=is_worth_it: answer)
            signals = ema_signals(bars, FRESH)
            results.append((averaged(bars, CARRIED, AVERAGES), signals, trends.ema_trend(signals, NO_TREND)))
    for one, other in zip(*results, strict=True):
        assert_frame_equal(one, other, check_exact=True)


def test_an_average_starts_with_a_mean_or_continues_from_a_carried_value() -> None:
    bars = pl.DataFrame({"symbol": ["A"] * 4 + ["B"] * 2, "close": [1.0, 2.0, 6.0, 4.0, 3.0, 5.0]})
    found = averaged(bars, pl.DataFrame({"symbol": ["B"], "mean": [7.0]}), [Average("mean", "close", 0.5, 2, 1)])
    assert found["mean"].to_list() == [None, None, 4.0, 4.0, 5.0, 5.0]


def test_warming_up_compiles_the_machine_code_that_bars_of_any_length_use() -> None:
    warm_up()
    assert all(kernel.is_worth_it(1) for kernel in KERNELS)
    for length in (1, 40):
        signals = ema_signals(closes(7, length), FRESH)
        trends.ema_trend(signals, NO_TREND)
        averaged(closes(7, length), CARRIED, AVERAGES)
    assert [len(kernel.machine_code.signatures) for kernel in KERNELS] == [1, 1, 1, 1]  # type: ignore[attr-defined]
