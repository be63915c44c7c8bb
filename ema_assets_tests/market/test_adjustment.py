"""Tests of adjusting stored bars: undoing splits, and allowing for dividends."""

from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.market.adjustment import adjusted, check_adjustment, of_dividends, undoing
from ema_assets.market.dividend_adjustment import differences
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.schemas import PRICES, UTC_TIME
from ema_assets_tests.market.series import START, bars_of, random_walk

STEP = timedelta(minutes=5)


def bars(closes: list[float], symbol: str = "AAPL") -> pl.DataFrame:
    frame = bars_of({symbol: closes})
    return frame.select("symbol", "ts", *(pl.col("close").alias(name) for name in PRICES), "volume")


def factors(*rows: tuple[int, float, str], symbol: str = "AAPL") -> pl.DataFrame:
    """Make factors from rows of: position of the first bar after the action, ratio, kind."""
    schema = {"symbol": pl.String(), "effective_at": UTC_TIME, "ratio": pl.Float64(), "kind": pl.String()}
    rows_of = [(symbol, START + place * STEP, ratio, kind) for place, ratio, kind in rows]
    return pl.DataFrame(rows_of, schema=schema, orient="row")


def test_undoing_splits_multiplies_earlier_prices_and_divides_earlier_volumes() -> None:
    found = adjusted(bars([10.0] * 6), undoing(factors((2, 7.0, "split"), (4, 0.5, "split"))))
    assert found["close"].to_list() == [35.0, 35.0, 5.0, 5.0, 10.0, 10.0]
    assert found["volume"].to_list() == pytest.approx([5 / 3.5, 5 / 3.5, 10.0, 10.0, 5.0, 5.0])


def test_undoing_a_spin_off_or_a_currency_change_keeps_volumes() -> None:
    found = adjusted(bars([10.0] * 3), undoing(factors((1, 1.253, "spin-off"), (2, 100.0, "currency change"))))
    assert found["close"].to_list() == pytest.approx([1253.0, 1000.0, 10.0])
    assert found["volume"].to_list() == [5.0, 5.0, 5.0]


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from([2.0, 7.0, 0.1, 1.253, 1.5])), max_size=5, unique_by=lambda each: each[0]),
)  # fmt: skip
def test_undoing_all_splits_gives_the_traded_prices_for_any_number_of_splits(
    seed: int, splits: list[tuple[int, float]]
) -> None:
    traded = random_walk(40, seed)
    stored = list(traded)
    for place, ratio in splits:
        stored = [close / ratio if number < place else close for number, close in enumerate(stored)]
    found = adjusted(bars(stored), undoing(factors(*((place, ratio, "split") for place, ratio in splits))))
    assert found["close"].to_list() == pytest.approx(traded, rel=1e-12)


def dividends(*rows: tuple[int, float, float, datetime]) -> pl.DataFrame:
    schema = {
        "symbol": pl.String(),
        "effective_at": UTC_TIME,
        "amount": pl.Float64(),
        "previous_close": pl.Float64(),
        "known_at": UTC_TIME,
    }
    rows_of = [("AAPL", START + place * STEP, *rest) for place, *rest in rows]
    return pl.DataFrame(rows_of, schema=schema, orient="row")


def test_a_dividend_reduces_earlier_prices_by_its_share_of_the_previous_close() -> None:
    paid = dividends((2, 1.0, 50.0, START), (3, 2.0, 40.0, START))
    found = adjusted(bars([50.0, 50.0, 40.0, 40.0]), of_dividends(paid, factors()))
    assert found["close"].to_list() == pytest.approx([50 * 0.98 * 0.95, 50 * 0.98 * 0.95, 40 * 0.95, 40.0])
    assert found["volume"].to_list() == [5.0] * 4


def test_a_published_example_of_an_adjusted_close_is_reproduced() -> None:
    """The example has a split of 2:1 before the third bar and a dividend of 0.08 before the fourth, as by CRSP."""
    stored = bars([46.99 / 2, 48.30 / 2, 24.96, 24.53])
    found = adjusted(stored, of_dividends(dividends((3, 0.08, 24.96, START + 4 * STEP)), factors((2, 2.0, "split"))))
    assert found["close"].round(2).to_list() == [23.42, 24.07, 24.88, 24.53]


def test_a_dividend_recorded_before_a_split_is_converted_to_new_shares() -> None:
    paid = dividends((1, 4.0, 50.0, START))
    factor = of_dividends(paid, factors((3, 4.0, "split")))["price_factor"].item()
    assert factor == 0.98
    known_later = dividends((1, 1.0, 50.0, START + 4 * STEP))
    assert of_dividends(known_later, factors((3, 4.0, "split")))["price_factor"].item() == 0.98


@pytest.mark.parametrize(("ratio", "kind"), [(1.253, "spin-off"), (100.0, "currency change")])
def test_a_dividend_recorded_before_another_change_of_scale_stays_the_same_share_of_the_price(
    ratio: float, kind: str
) -> None:
    """The previous close was 50 when the dividend was recorded, and is stored on the scale of after the change."""
    paid = dividends((1, 1.0, 50.0 / ratio, START))
    assert of_dividends(paid, factors((3, ratio, kind)))["price_factor"].item() == pytest.approx(0.98)


def test_a_dividend_as_large_as_the_price_is_ignored() -> None:
    assert of_dividends(dividends((1, 50.0, 50.0, START)), factors()).is_empty()


@pytest.mark.parametrize("previous_close", [-6.0, 0.0])
def test_a_dividend_after_a_close_of_zero_or_less_changes_nothing(previous_close: float) -> None:
    assert of_dividends(dividends((1, 0.5, previous_close, START)), factors()).is_empty()


def test_the_splits_of_several_symbols_at_the_same_time_do_not_mix() -> None:
    split = pl.concat([factors((1, 2.0, "split"), (3, 5.0, "split")), factors((2, 3.0, "split"), symbol="MSFT")])
    found = adjusted(pl.concat([bars([10.0] * 4), bars([10.0] * 4, "MSFT")]), undoing(split))
    assert found["close"].to_list() == [100.0, 50.0, 50.0, 10.0, 30.0, 30.0, 10.0, 10.0]


def test_other_symbols_and_later_bars_are_unchanged() -> None:
    both = pl.concat([bars([10.0, 11.0]), bars([20.0, 21.0], "MSFT")])
    found = adjusted(both, undoing(factors((1, 2.0, "split"))))
    assert found["close"].to_list() == [20.0, 11.0, 20.0, 21.0]
    assert_frame_equal(adjusted(both, undoing(factors())), both)
    assert adjusted(both.clear(), undoing(factors((1, 2.0, "split")))).is_empty()


def test_an_unknown_adjustment_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(ConfigurationError, match="`adjust` must be one of splits, all, none, received 'al'"):
        check_adjustment("al")


def test_prices_with_and_without_dividends_are_told_apart_in_each_symbol_by_itself() -> None:
    walks = [random_walk(120, seed) for seed in range(3)]
    # Dividends of one percent, the last of them after the newest bar, and of a tenth of a percent.
    large, small = (
        [close * share ** (most - place // 40) for place, close in enumerate(walk)]
        for walk, share, most in zip(walks, (0.99, 0.999), (3, 2), strict=False)
    )
    stored = bars_of({"AAPL": large, "KO": walks[2], "MSFT": walks[1], "TSLA": large})
    served = bars_of({"AAPL": walks[0], "KO": walks[2], "MSFT": small, "TSLA": walks[0]})
    of_large = (120, pytest.approx((1 - 0.99**3) * 100), 2)
    of_small = (80, pytest.approx((1 - 0.999**2) * 100), 2)
    assert differences(stored, served).rows() == [("AAPL", *of_large), ("MSFT", *of_small), ("TSLA", *of_large)]
