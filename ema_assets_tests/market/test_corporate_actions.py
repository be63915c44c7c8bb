"""A vendor that re-adjusted history is told from one that corrected, mixed up units, or sent a bad tick."""

from collections.abc import Sequence
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_assets.market import corporate_actions
from ema_assets.market.corporate_actions import RATIOS, compare, confirmed, half_done, suspected
from ema_assets_tests.market.series import bars_of, random_walk

SEEDS = st.integers(0, 2**32 - 1)


def cents(closes: Sequence[float]) -> list[float]:
    return [round(close, 2) for close in closes]


def compared(before: Sequence[float], now: Sequence[float], suspects: pl.DataFrame | None = None) -> pl.DataFrame:
    """One symbol's bars as stored and as served; None is a bar that is not there."""
    stored, served = (bars_of({"AAPL": closes}).filter(pl.col("close") > 0) for closes in (before, now))
    result = compare(stored, served, suspects)
    assert result.columns == ["symbol", "ratio", "split", "bars", "agreeing", "last_ts", "older"]
    assert result.height <= 1
    return result


def verdict(before: Sequence[float], now: Sequence[float]) -> list[str]:
    """What a whole history says: the words that apply."""
    found = compared(before, now)
    says = {"suspected": suspected(found), "confirmed": confirmed(found), "half done": half_done(found)}
    assert confirmed(found).is_empty() or half_done(found).is_empty()
    return [word for word, rows in says.items() if not rows.is_empty()]


def name(ratio: Fraction) -> str:
    return f"{ratio.numerator}:{ratio.denominator}"


def test_the_ratios_are_those_of_real_splits_and_their_reverses() -> None:
    assert len(set(RATIOS)) == len(RATIOS)
    assert {Fraction(text) for text in ("2", "7", "3/2", "1/10", "1/8", "20", "1/35")} <= set(RATIOS)
    # What looks like a unit error is none, nor what a dividend does.
    assert not any(Fraction(65) < max(ratio, 1 / ratio) for ratio in RATIOS)
    assert not any(Fraction(11, 12) < ratio < Fraction(12, 11) for ratio in RATIOS)


@given(SEEDS, st.sampled_from([35.0, 180.0, 700.0]), st.integers(3, 40))
def test_every_split_is_recognised_from_prices_rounded_to_cents(seed: int, price: float, bars: int) -> None:
    before = cents(random_walk(bars, seed, price, 0.01))
    # Where a cent is more than two percent of the price, nothing tells 11:10 from 10:9.
    after = {
        ratio: closes for ratio in RATIOS if min(closes := cents([close / float(ratio) for close in before])) > 0.5
    }
    found = compare(
        bars_of({name(ratio): before for ratio in after}),
        bars_of({name(ratio): closes for ratio, closes in after.items()}),
    )
    assert found["symbol"].to_list() == sorted(name(ratio) for ratio in after)
    assert found["split"].to_list() == found["symbol"].to_list()
    assert found["ratio"].to_list() == [float(Fraction(text.replace(":", "/"))) for text in found["symbol"]]
    assert set(found.select("bars", "agreeing", "older").rows()) == {(bars, bars, bars)}
    assert confirmed(found).equals(suspected(found))
    assert half_done(found).is_empty()
    assert confirmed(found).height == len(after)


@given(SEEDS, st.sampled_from([1.0, 0.995, 0.98, 1.004, 0.01, 100.0, 1 / 100.5, 0.93]), st.integers(1, 30))
def test_what_differs_by_another_ratio_is_no_split(seed: int, factor: float, bars: int) -> None:
    before = random_walk(bars, seed, 100.0, 0.01)
    assert verdict(before, [close * factor for close in before]) == []


@pytest.mark.parametrize("share", [0.3, 0.6])
@given(seed=SEEDS)
def test_corrections_are_no_split(share: float, seed: int) -> None:
    before = random_walk(30, seed, 100.0, 0.01)
    corrections = random_walk(30, seed + 1, 1.0, 0.02)
    now = [close * factor if place % 10 < share * 10 else close for place, (close, factor) in enumerate(zip(before, corrections, strict=True))]  # fmt: skip
    # That a part agrees with a small ratio by chance counts only where a split is suspected already, and here it is not.
    assert set(verdict(before, now)) <= {"half done"}


@pytest.mark.parametrize("factor", [0.5, 2.0, 0.1, 100.0])
@pytest.mark.parametrize("place", [0, 7, 19])
def test_one_bad_tick_is_no_split_whatever_its_ratio(factor: float, place: int) -> None:
    before = random_walk(20, 4)
    now = list(before)
    now[place] *= factor
    assert verdict(before, now) == []


@pytest.mark.parametrize("bars", [1, 2])
def test_one_or_two_bars_raise_suspicion_and_confirm_nothing(bars: int) -> None:
    before = random_walk(bars, 4)
    assert verdict(before, [close / 2 for close in before]) == ["suspected"]


def test_newer_bars_may_be_stored_on_the_new_scale_already() -> None:
    before = random_walk(40, 9)
    stored = [close if place < 30 else close / 7 for place, close in enumerate(before)]
    found = compared(stored, [close / 7 for close in before])
    assert verdict(stored, [close / 7 for close in before]) == ["confirmed"]
    assert found.select("bars", "agreeing", "older").row(0) == (40, 30, 30)
    assert found["last_ts"].item() == bars_of({"AAPL": before})["ts"][29]


def test_a_history_of_which_most_is_stored_on_the_new_scale_is_told_by_the_suspicion() -> None:
    """The median would say that nothing has changed."""
    before = random_walk(40, 9)
    stored = [close if place < 10 else close / 7 for place, close in enumerate(before)]
    now = [close / 7 for close in before]
    assert verdict(stored, now) == []
    suspects = pl.DataFrame({"symbol": ["AAPL"], "ratio": [7.0], "split": ["7:1"]})
    found = confirmed(compared(stored, now, suspects))
    assert found.select("split", "bars", "agreeing", "older").row(0) == ("7:1", 40, 10, 10)


def test_a_history_that_is_re_adjusted_in_part_is_half_done() -> None:
    before = random_walk(100, 9)
    now = [close if place < 40 else close / 2 for place, close in enumerate(before)]
    assert verdict(before, now) == ["half done"]
    assert half_done(compared(before, now)).select("split", "agreeing", "older").row(0) == ("2:1", 60, 100)


def test_a_few_corrected_bars_within_a_re_adjusted_history_do_not_hide_the_split() -> None:
    before = random_walk(100, 9)
    now = [close / 2 * (1.1 if place == 50 else 1) for place, close in enumerate(before)]
    assert verdict(before, now) == ["confirmed"]


def test_symbols_are_compared_each_by_itself_and_only_where_both_have_bars() -> None:
    walks = {symbol: random_walk(20, seed) for seed, symbol in enumerate(("AAPL", "MSFT", "TSLA"))}
    stored = bars_of(walks)
    factor = pl.col("symbol").replace_strict({"AAPL": 1 / 7, "MSFT": 10.0, "TSLA": 1.0})
    served = stored.with_columns(pl.col("close") * factor).filter(pl.int_range(pl.len()).over("symbol") >= 5)
    found = confirmed(compare(stored, served.sample(fraction=1.0, shuffle=True, seed=1)))
    assert found.select("symbol", "split", "bars").rows() == [("AAPL", "7:1", 15), ("MSFT", "1:10", 15)]


def test_suspects_that_are_not_served_and_frames_without_bars_are_no_split() -> None:
    stored = bars_of({"AAPL": random_walk(5, 1)})
    suspects = pl.DataFrame({"symbol": ["MSFT"], "ratio": [2.0], "split": ["2:1"]})
    assert compare(stored, stored.clear(), suspects).is_empty()
    assert compare(stored.clear(), stored).is_empty()
    assert suspected(compare(stored, stored, suspects)).is_empty()


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
def test_a_jump_is_described_by_the_split_it_looks_like(ratio: float, text: str) -> None:
    assert pl.select(corporate_actions.describe_ratio(pl.lit(ratio))).item() == text
