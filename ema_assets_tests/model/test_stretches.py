"""Tests of where each series begins in a frame, with few rows and with many."""

import numpy as np
import polars as pl
import pytest

from ema_assets.model.stretches import MANY_ROWS, of_each, stretches


@pytest.mark.parametrize("size", [0, 1, 63, MANY_ROWS - 1, MANY_ROWS, MANY_ROWS + 1, 2 * MANY_ROWS + 3])
@pytest.mark.parametrize("longest", [1, 2, 64, 65, 700, 20_000])
def test_the_first_row_of_each_symbol_is_found_for_any_length_of_series(size: int, longest: int) -> None:
    random = np.random.default_rng(size + longest)
    lengths = random.integers(1, longest + 1, size)
    lengths = lengths[: np.searchsorted(lengths.cumsum(), size) + 1]  # only as many as are needed for `size` rows
    # The symbols are not in alphabetical order.
    names = np.repeat([f"S{number * 7919 % 10007}" for number in range(len(lengths))], lengths)[:size].tolist()
    symbols, begins = stretches(pl.Series("symbol", names, dtype=pl.String))
    expected = [row for row in range(size) if row == 0 or names[row] != names[row - 1]]
    assert begins.tolist() == [*expected, size]
    assert symbols.to_list() == [names[row] for row in expected]


@pytest.mark.parametrize("more", [0, 1, 2])
def test_a_symbol_with_only_the_last_row_is_found_at_any_number_of_rows(more: int) -> None:
    size = 40 * 1_024 + more
    symbols, begins = stretches(pl.Series("symbol", ["A"] * (size - 1) + ["B"]))
    assert (symbols.to_list(), begins.tolist()) == (["A", "B"], [0, size - 1, size])


@pytest.mark.parametrize("size", [MANY_ROWS - 1, MANY_ROWS, MANY_ROWS + 1, 2 * MANY_ROWS + 3])
def test_many_rows_of_a_single_symbol_are_one_stretch(size: int) -> None:
    symbols, begins = stretches(pl.Series("symbol", ["AAPL"] * size))
    assert (symbols.to_list(), begins.tolist()) == (["AAPL"], [0, size])


@pytest.mark.parametrize(
    ("symbols", "values"), [(["A", "B"], [1, 2]), (["B", "C", "A"], [2, None, 1]), (["C", "D"], [None, None]), ([], [])]
)
def test_each_symbol_gets_its_carried_row_or_a_row_of_nulls(symbols: list[str], values: list[int | None]) -> None:
    carried = pl.DataFrame({"symbol": ["A", "B"], "value": [1, 2]})
    assert of_each(pl.Series("symbol", symbols, dtype=pl.String), carried)["value"].to_list() == values


def test_rows_without_a_symbol_form_their_own_stretch() -> None:
    symbols, begins = stretches(pl.Series("symbol", ["A", None, None, "B"]))
    assert (symbols.to_list(), begins.tolist()) == (["A", None, "B"], [0, 1, 3, 4])
