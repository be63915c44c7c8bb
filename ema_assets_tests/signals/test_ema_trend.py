"""Trend, crossovers and spread equal a row-by-row reference."""

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.signals.ema_trend import ema_trend
from ema_assets_tests.market import reference
from ema_assets_tests.market.series import bars_of, cut

NOTHING = pl.DataFrame(schema={"symbol": pl.String(), "trend": pl.String(), "bars_since_cross": pl.Int64()})

# Few values, so that equal EMAs and flips happen in nearly every example.
VALUE = st.sampled_from([1.0, 2.0, 3.0])


def signals_of(pairs: dict[str, list[tuple[float | None, float | None]]]) -> pl.DataFrame:
    frame = bars_of({symbol: [1.0] * len(rows) for symbol, rows in pairs.items()})
    ordered = [pair for symbol in sorted(pairs) for pair in pairs[symbol]]
    return frame.select(
        "symbol",
        "ts",
        pl.Series("ema_9", [fast for fast, _ in ordered], dtype=pl.Float64),
        pl.Series("ema_30", [slow for _, slow in ordered], dtype=pl.Float64),
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("symbol").alias("bar_number"),
    )


@st.composite
def ema_pairs(draw: st.DrawFn) -> list[tuple[float | None, float | None]]:
    """A warm-up without a slow EMA, which may also lack a fast EMA, and then pairs."""
    warming_up: list[tuple[float | None, float | None]] = [(None, None)] * draw(st.integers(0, 3))
    warming_up += [(fast, None) for fast in draw(st.lists(VALUE, max_size=3))]
    return [*warming_up, *draw(st.lists(st.tuples(VALUE, VALUE), max_size=25))]


SERIES = st.dictionaries(st.sampled_from(["AAPL", "MSFT", "BTC-USD"]), ema_pairs(), min_size=1)


@given(SERIES)
def test_trend_crossover_and_bars_since_cross_equal_the_reference(
    pairs: dict[str, list[tuple[float | None, float | None]]],
) -> None:
    found = ema_trend(signals_of(pairs), NOTHING)
    for symbol, rows in pairs.items():
        mine = found.filter(symbol=symbol)
        assert mine.select("trend", "crossover", "bars_since_cross").rows() == reference.trend(
            [fast for fast, _ in rows], [slow for _, slow in rows]
        )
        for spread, (fast, slow) in zip(mine["spread_pct"], rows, strict=True):
            if fast is None or slow is None:
                assert spread is None
            else:
                assert math.isclose(spread, 100 * (fast - slow) / slow, rel_tol=1e-12)


@pytest.mark.broad
@given(SERIES, st.data())
def test_increments_give_the_same_rows_as_one_computation(
    pairs: dict[str, list[tuple[float | None, float | None]]], data: st.DataObject
) -> None:
    signals = signals_of(pairs)
    points = {symbol: sorted(data.draw(st.lists(st.integers(0, 30), max_size=4))) for symbol in pairs}
    carried, parts = NOTHING, []
    for part in cut(signals, points):
        parts.append(ema_trend(part, carried))
        rows = pl.concat([carried, parts[-1].select(NOTHING.columns)])
        carried = rows.group_by("symbol", maintain_order=True).last()
    assert_frame_equal(pl.concat(parts).sort("symbol", "ts"), ema_trend(signals, NOTHING), check_exact=True)


@pytest.mark.parametrize(
    ("pairs", "trend", "crossover", "since"),
    [
        pytest.param([(2, 1)], ["up"], [None], [None], id="the first trend is no flip"),
        pytest.param([(1, 1)], [None], [None], [None], id="equal from the start is no trend"),
        pytest.param(
            [(1, 1), (2, 1)], [None, "up"], [None, None], [None, None], id="equal, then up is the first trend"
        ),
        pytest.param([(2, 1), (1, 1)], ["up", "up"], [None, None], [None, None], id="equal goes on as before"),
        pytest.param([(2, 1), (1, 1), (2, 1)], ["up"] * 3, [None] * 3, [None] * 3, id="touching is no crossover"),
        pytest.param(
            [(2, 1), (1, 1), (1, 2), (1, 2), (3, 2)],
            ["up", "up", "down", "down", "up"],
            [None, None, "bearish", None, "bullish"],
            [None, None, 0, 1, 0],
            id="flips are counted from",
        ),
        pytest.param([(None, None), (2, None), (2, 3)], [None, None, "down"], [None] * 3, [None] * 3, id="warming up"),
    ],
)
def test_each_kind_of_bar_has_the_right_trend_and_crossover(
    pairs: list[tuple[float | None, float | None]],
    trend: list[str | None],
    crossover: list[str | None],
    since: list[int | None],
) -> None:
    found = ema_trend(signals_of({"AAPL": pairs}), NOTHING)
    assert found["trend"].to_list() == trend
    assert found["crossover"].to_list() == crossover
    assert found["bars_since_cross"].to_list() == since


def test_a_carried_trend_makes_the_first_opposite_trend_a_crossover() -> None:
    carried = NOTHING.vstack(pl.DataFrame({"symbol": ["AAPL"], "trend": ["down"], "bars_since_cross": [7]}))
    found = ema_trend(signals_of({"AAPL": [(1, 1), (2, 1)], "MSFT": [(1, 1), (2, 1)]}), carried)
    assert found.select("symbol", "trend", "crossover", "bars_since_cross").rows() == [
        ("AAPL", "down", None, 8),
        ("AAPL", "up", "bullish", 0),
        ("MSFT", None, None, None),
        ("MSFT", "up", None, None),
    ]
