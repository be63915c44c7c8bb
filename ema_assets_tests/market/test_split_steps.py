"""Tests of steps of a price that are like those of splits."""

from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_assets.market.split_steps import describe_ratio, steps_like_splits
from ema_assets_tests.market.series import bars_of

STEPS = [(2.0, "2:1"), (0.5, "1:2"), (10.0, "10:1"), (1.5, "3:2")]


@pytest.mark.parametrize(("ratio", "name"), STEPS)
@given(move=st.floats(0.95, 1.05))
def test_a_step_like_a_split_is_suspected_when_no_stored_bar_is_served_again(
    ratio: float, name: str, move: float
) -> None:
    stored = bars_of({"AAPL": [79.0, 80.4]})
    later = [80.4 / ratio * move, 80.4, 80.4]
    served = bars_of({"AAPL": [0.0, 0.0, *later]}).filter(pl.col("close") > 0).rename({"close": "open"})
    assert steps_like_splits(stored, served).rows() == [("AAPL", float(Fraction(name.replace(":", "/"))), name)]


@given(st.floats(0.75, 1.33))
def test_an_ordinary_overnight_move_is_not_a_step_like_a_split(move: float) -> None:
    served = bars_of({"AAPL": [0.0, 0.0, 80.4 * move]}).filter(pl.col("close") > 0).rename({"close": "open"})
    assert steps_like_splits(bars_of({"AAPL": [79.0, 80.4]}), served).is_empty()


def test_a_fact_between_stored_and_served_bars_is_suspected_without_a_step_in_prices() -> None:
    stored = bars_of({"AAPL": [79.0, 80.4]})
    served = bars_of({"AAPL": [0.0, 0.0, 81.0]}).filter(pl.col("close") > 0).rename({"close": "open"})
    columns = {"symbol": ["AAPL"], "ratio": [1.253], "kind": ["spin-off"]}
    between, before = served["ts"], stored["ts"].head(1)
    assert steps_like_splits(stored, served, pl.DataFrame({**columns, "effective_at": between})).rows() == [
        ("AAPL", 1.253, "1253:1000")
    ]
    assert steps_like_splits(stored, served, pl.DataFrame({**columns, "effective_at": before})).is_empty()


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1 / 7, ", like a split of 7:1 not adjusted for"),
        (0.5 * 1.03, ", like a split of 2:1 not adjusted for"),
        (1.5, ", like a split of 2:3 not adjusted for"),
        (50.0, ", like a split of 1:50 not adjusted for"),
        (1.2, ""),
        (1.0, ""),
        (100.0, ""),
    ],
)
def test_a_jump_is_described_by_the_split_it_resembles(ratio: float, text: str) -> None:
    assert pl.select(describe_ratio(pl.lit(ratio))).item() == text


def test_a_fact_from_before_the_last_stored_bar_is_in_the_stored_prices_already() -> None:
    stored = bars_of({"AAPL": [79.0, 80.4]})
    served = bars_of({"AAPL": [0.0, 0.0, 81.0]}).filter(pl.col("close") > 0).rename({"close": "open"})
    fact = {"symbol": ["AAPL"], "ratio": [1.253], "kind": ["spin-off"], "effective_at": [stored["ts"][1]]}
    assert steps_like_splits(stored, served, pl.DataFrame(fact)).is_empty()
