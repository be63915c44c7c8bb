"""Whether longer bars of a provider fit the shorter ones after them."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import polars as pl
import pytest

from ema_assets.market.seams import misfits
from ema_assets.model.schemas import PRICES
from ema_assets_tests.market.series import START, random_walk

SLOTS = 5


def hours(closes: Sequence[float], symbol: str = "AAPL") -> pl.DataFrame:
    """Bars of days with SLOTS hours each, as they were rolled up; all prices of a bar are the same."""
    return pl.DataFrame(
        [
            {
                "symbol": symbol,
                "ts": START + timedelta(days=place // SLOTS, hours=place % SLOTS),
                **dict.fromkeys(PRICES, close),
                "slot": timedelta(hours=place % SLOTS),
            }
            for place, close in enumerate(closes)
        ]
    )


WALK = random_walk(50, 1, volatility=0.01)
SHORT = hours(WALK)


def told(change: Callable[[int, float], float | None], short: pl.DataFrame = SHORT) -> str | None:
    """What is said of long bars whose closes are those of `short` after a `change`; it drops bars by None."""
    closes = [change(place, close) for place, close in enumerate(short["close"])]
    long = short.drop("slot").with_columns(close=pl.Series(closes, dtype=pl.Float64)).drop_nulls("close")
    return misfits(long, short).get("AAPL")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda _, close: close, None),
        (lambda _, close: close * 1.001, None),
        (lambda _, close: close * 1.0025, "they are on another scale, factor 1.0025"),
        (lambda place, close: close if place % 5 else None, None),
        (
            lambda place, close: close if place % 4 else None,
            "of the 50 bars after them only 37 are there in both, too few to compare",
        ),
        (lambda _, close: close * 2, "they are on another scale, 2:1"),
        (lambda _, close: close / 4, "they are on another scale, 1:4"),
        (lambda place, close: close * (2 if place > 4 else 1), "they are on another scale, 2:1"),
        (
            lambda place, close: close * (2 if place > 5 else 1),
            "of 50 bars that are there in both 44 differ",
        ),
        (lambda place, close: close * (1.1 if place in (3, 11, 19, 27, 40) else 1), None),
        (
            lambda place, close: close * (1.1 if place in (3, 11, 19, 27, 40, 41) else 1),
            "of 50 bars that are there in both 6 differ",
        ),
        (
            lambda place, close: close * (1.1 if place % 5 == 2 and place < 30 else 1),
            "those that begin 120 minutes after the open differ, on most days",
        ),
        (lambda place, close: close * (1.1 if place % 5 == 2 and place < 25 else 1), None),
    ],
)
def test_long_bars_fit_or_the_reason_is_given(change: Callable[[int, float], float | None], reason: str | None) -> None:
    assert told(change) == reason


def test_prices_that_hardly_move_may_differ_by_rounding() -> None:
    assert told(lambda _, close: close * 1.0004, hours([100.0] * 50)) is None


def test_one_bar_at_a_time_of_the_day_does_not_tell_of_that_time() -> None:
    changed = told(lambda place, close: close * (1.1 if place == 4 else 1), hours(WALK[:6]))
    assert changed == "of 6 bars that are there in both 1 differ"


def test_three_bars_are_enough_and_two_are_not() -> None:
    assert told(lambda _, close: close, hours(WALK[:3])) is None
    assert (
        told(lambda _, close: close, hours(WALK[:2]))
        == "of the 2 bars after them only 2 are there in both, too few to compare"
    )


@pytest.mark.parametrize("name", PRICES)
def test_each_price_of_a_bar_is_compared(name: str) -> None:
    long = SHORT.drop("slot").with_columns(pl.when(pl.int_range(pl.len()) < 6).then(pl.col(name) * 1.1).otherwise(name))
    assert misfits(long, SHORT) == {"AAPL": "of 50 bars that are there in both 6 differ"}


def test_symbols_are_compared_each_by_itself() -> None:
    # What is little for the others is much for a symbol that hardly moves.
    calm = hours(random_walk(50, 2, volatility=0.0001), "SHY")
    short = pl.concat([SHORT, hours([each * 700 for each in WALK], "BRK-A"), calm])
    factors = {"AAPL": 1.001, "BRK-A": 3.0, "SHY": 1.001}
    long = short.drop("slot").with_columns(pl.col(PRICES) * pl.col("symbol").replace_strict(factors))
    told_of = {"BRK-A": "they are on another scale, 3:1", "SHY": "they are on another scale, 1001:1000"}
    assert misfits(long, short) == told_of
    assert misfits(long.clear(), SHORT.clear()) == {}
