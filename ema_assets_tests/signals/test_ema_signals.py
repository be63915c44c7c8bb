"""EMA columns equal those of TA-Lib, of a row-by-row reference, and of a computation in increments."""

import csv
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.signals import ema_signals as product
from ema_assets.signals.ema_signals import CONVERGED_AFTER_BARS, SPANS, ema_signals
from ema_assets.store.database import Database
from ema_assets_tests.golden.make_ema import FILE
from ema_assets_tests.market import reference
from ema_assets_tests.market.series import bars_of, cut, price_series, random_walk, several_series

NOTHING = pl.DataFrame(
    schema={"symbol": pl.String(), "ema_9": pl.Float64(), "ema_30": pl.Float64(), "bar_number": pl.Int64()}
)


def assert_close(found: list[float | None], expected: list[float | None]) -> None:
    assert [value is None for value in found] == [value is None for value in expected]
    for one, other in zip(found, expected, strict=True):
        if one is not None and other is not None:
            assert math.isclose(one, other, rel_tol=1e-9), (one, other)


def of_talib(closes: list[float], span: int) -> list[float | None]:
    talib = pytest.importorskip("talib")
    if not closes:
        return []
    return [None if math.isnan(value) else float(value) for value in talib.EMA(np.array(closes), span)]


@given(price_series())
def test_both_emas_equal_those_of_talib(closes: list[float]) -> None:
    signals = ema_signals(bars_of({"AAPL": closes}), NOTHING)
    for span in SPANS:
        assert_close(signals[f"ema_{span}"].to_list(), of_talib(closes, span))


@given(several_series())
def test_both_emas_equal_the_row_by_row_reference_for_all_symbols_at_once(series: dict[str, list[float]]) -> None:
    signals = ema_signals(bars_of(series), NOTHING)
    for symbol, closes in series.items():
        mine = signals.filter(symbol=symbol)
        assert mine["bar_number"].to_list() == list(range(1, len(closes) + 1))
        for span in SPANS:
            assert_close(mine[f"ema_{span}"].to_list(), reference.ema(closes, span))


def test_the_committed_values_of_talib_are_reproduced_without_talib() -> None:
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    series: dict[str, list[float]] = {}
    for row in rows:
        series.setdefault(row["series"], []).append(float(row["close"]))
    signals = ema_signals(bars_of(series), NOTHING)
    assert len(rows) == signals.height == 350
    for span in SPANS:
        for name in series:
            expected = [
                float(row[f"ema_{span}"]) if row[f"ema_{span}"] else None for row in rows if row["series"] == name
            ]
            assert_close(signals.filter(symbol=name)[f"ema_{span}"].to_list(), expected)


@given(several_series(), st.data())
def test_increments_give_the_same_bits_as_one_computation(series: dict[str, list[float]], data: st.DataObject) -> None:
    bars = bars_of(series)
    whole = ema_signals(bars, NOTHING)
    points = {symbol: sorted(data.draw(st.lists(st.integers(30, 125), max_size=4))) for symbol in series}
    carried, parts = NOTHING, []
    for part in cut(bars, points):
        found = ema_signals(part, carried)
        parts.append(found)
        rows = pl.concat([carried, found.select(NOTHING.columns)])
        # A row that still lacks an EMA is not carried.
        carried = rows.group_by("symbol", maintain_order=True).last().drop_nulls()
    assert_frame_equal(pl.concat(parts).sort("symbol", "ts"), whole, check_exact=True)


def test_the_first_value_is_at_bar_n_and_is_the_mean_of_the_first_n_closes() -> None:
    closes = random_walk(40, seed=1)
    signals = ema_signals(bars_of({"AAPL": closes}), NOTHING)
    for span in SPANS:
        column = signals[f"ema_{span}"].to_list()
        assert column[: span - 1] == [None] * (span - 1)
        assert column[span - 1] == pytest.approx(sum(closes[:span]) / span, rel=1e-12)


def test_constant_prices_give_emas_equal_to_the_price() -> None:
    signals = ema_signals(bars_of({"AAPL": [64.0] * 50}), NOTHING)
    assert set(signals["ema_9"][8:]) == set(signals["ema_30"][29:]) == {64.0}


def test_a_carried_symbol_without_new_bars_gives_no_rows() -> None:
    carried = NOTHING.vstack(pl.DataFrame({"symbol": ["AAPL"], "ema_9": [1.0], "ema_30": [1.0], "bar_number": [44]}))
    found = ema_signals(bars_of({"MSFT": [2.0]}), carried)
    assert found.select("symbol", "bar_number").rows() == [("MSFT", 1)]


def test_no_bars_give_an_empty_frame_with_the_same_columns() -> None:
    found = ema_signals(bars_of({"AAPL": []}), NOTHING)
    assert found.is_empty()
    assert found.schema == ema_signals(bars_of({"AAPL": [1.0]}), NOTHING).schema


def test_a_series_has_converged_when_its_seed_weighs_less_than_a_millionth() -> None:
    keep = 1 - 2 / (product.SLOW_SPAN + 1)
    assert keep**CONVERGED_AFTER_BARS < 1e-6 <= keep ** (CONVERGED_AFTER_BARS - 1)


def test_the_database_marks_warming_up_with_the_same_number_of_bars(database: Database) -> None:
    with database.transaction() as transaction:
        found = transaction.query(
            """
            SELECT pg_get_expr(d.adbin, d.adrelid) AS expression FROM pg_attrdef d
            JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
            WHERE d.adrelid = 'market.ema_signals'::regclass AND a.attname = 'warming_up'
            """
        )
    assert found.item() == f"(bar_number < {CONVERGED_AFTER_BARS})"
