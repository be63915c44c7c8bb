"""Tests of which files differ from the stored bars by several factors, one after the other."""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from ema_assets.market.several_scales import parts
from ema_assets.model.schemas import UTC_TIME
from ema_assets_tests.refresh.exchange import utc

FIRST = utc("2026-01-05 14:30")
WALK = np.round(100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.02, 100))), 4)


def bars(closes: Sequence[float], symbol: str = "GE") -> pl.DataFrame:
    rows = [(symbol, FIRST + timedelta(days=day), float(close)) for day, close in enumerate(closes)]
    return pl.DataFrame(rows, schema={"symbol": pl.String, "ts": UTC_TIME, "close": pl.Float64}, orient="row")


def lengths(stored: Sequence[float], served: Sequence[float]) -> list[int]:
    """Return how many bars each part has, the newest one first."""
    found = parts(bars(stored), bars(served))
    return found.group_by("part").len().sort("part")["len"].to_list()


def times(factors: dict[int, float]) -> list[float]:
    """Return WALK, each close times the factor of the last key before it."""
    closes, factor = [], 1.0
    for day, close in enumerate(WALK):
        factor = factors.get(day, factor)
        closes.append(close * factor)
    return closes


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ({0: 28.0, 30: 4.0, 70: 1.0}, [40, 30]),
        ({0: 28.0, 30: 4.0}, [70, 30]),
        ({0: 0.5, 30: 5.0, 60: 0.1, 90: 1.0}, [30, 30, 30]),
        ({0: 4.0, 70: 1.0}, []),
        ({0: 4.0}, []),
        ({}, []),
        # Two bars of a scale are corrections.
        ({0: 28.0, 2: 4.0, 70: 1.0}, []),
        # So small factors come from dividends.
        ({0: 1.016, 40: 1.008, 80: 1.0}, []),
    ],
)
def test_parts_are_those_with_one_factor_if_there_are_two_or_more(
    factors: dict[int, float], expected: list[int]
) -> None:
    assert lengths(list(WALK), times(factors)) == expected


def test_a_corrected_bar_within_a_part_does_not_divide_it() -> None:
    served = times({0: 28.0, 30: 4.0, 70: 1.0})
    served[15] *= 1.02
    assert lengths(list(WALK), served) == [40, 29]


def test_prices_of_pennies_rounded_otherwise_and_closes_of_another_vendor_are_no_parts() -> None:
    random = np.random.default_rng(2)
    pennies = WALK / 800
    assert lengths(list(np.round(pennies, 2)), list(np.round(pennies, 3))) == []
    assert lengths(list(WALK), list(WALK * np.exp(random.normal(0, 0.03, 100)))) == []
    assert lengths(list(WALK - 95), times({0: 28.0, 30: 4.0})) == []


def test_each_series_is_judged_by_itself() -> None:
    split = times({0: 28.0, 30: 4.0, 70: 1.0})
    stored = pl.concat([bars(list(WALK), symbol) for symbol in ("AAPL", "GE", "MSFT")])
    served = pl.concat([bars(times({0: 4.0, 70: 1.0}), "AAPL"), bars(split), bars(list(WALK), "MSFT")])
    assert parts(stored, served)["symbol"].unique().to_list() == ["GE"]
    assert parts(stored.clear(), served).is_empty()
