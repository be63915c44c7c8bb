"""Tests of the detection of re-adjusted histories, as opposed to corrections, unit errors and bad ticks."""

from collections.abc import Sequence
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_assets.market.corporate_actions import (
    COMPARED_SCHEMA,
    RATIOS,
    compare,
    confirmed,
    half_done,
    name_of,
    suspected,
)
from ema_assets_tests.market.series import bars_of, random_walk

SEEDS = st.integers(0, 2**32 - 1)


def cents(closes: Sequence[float]) -> list[float]:
    return [round(close, 2) for close in closes]


def compared(before: Sequence[float], now: Sequence[float], suspects: pl.DataFrame | None = None) -> pl.DataFrame:
    """Compare one symbol's bars as stored and as served; a close of zero is a missing bar."""
    stored, served = (bars_of({"AAPL": closes}).filter(pl.col("close") > 0) for closes in (before, now))
    result = compare(stored, served, suspects)
    assert result.schema == COMPARED_SCHEMA
    assert result.height <= 1
    return result


def verdict(before: Sequence[float], now: Sequence[float]) -> list[str]:
    """Return the verdicts on a whole history, in words."""
    found = compared(before, now)
    says = {"suspected": suspected(found), "confirmed": confirmed(found), "half done": half_done(found)}
    assert confirmed(found).is_empty() or half_done(found).is_empty()
    return [word for word, rows in says.items() if not rows.is_empty()]


def name(ratio: Fraction) -> str:
    return f"{ratio.numerator}:{ratio.denominator}"


def test_the_ratios_include_real_splits_and_their_reverses() -> None:
    assert len(set(RATIOS)) == len(RATIOS)
    assert {Fraction(text) for text in ("2", "7", "3/2", "1/10", "1/8", "20", "1/35")} <= set(RATIOS)
    # Factors of unit errors and of dividends are not ratios of splits.
    assert not any(Fraction(65) < max(ratio, 1 / ratio) for ratio in RATIOS)
    assert not any(Fraction(11, 12) < ratio < Fraction(12, 11) for ratio in RATIOS)


@pytest.mark.broad
@given(SEEDS, st.sampled_from([35.0, 180.0, 700.0]), st.integers(3, 40))
def test_every_split_is_recognised_from_prices_rounded_to_cents(seed: int, price: float, bars: int) -> None:
    before = cents(random_walk(bars, seed, price, 0.01))
    # If a cent is more than two percent of the price, 11:10 and 10:9 cannot be distinguished.
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


# All factors except those so near to one that rounding to cents may hide them.
FACTORS = st.floats(0.004, 0.998) | st.floats(1.002, 250.0)


@pytest.mark.broad
@given(SEEDS, FACTORS, st.integers(3, 40), st.booleans())
def test_a_constant_factor_over_all_bars_is_recognised(seed: int, factor: float, bars: int, is_rounded: bool) -> None:
    # The price is so high that a cent is less than two hundredths of a percent on both scales.
    before = random_walk(bars, seed, 60.0 * max(factor, 1.0), 0.01)
    now = [close / factor for close in before]
    if is_rounded:
        before, now = cents(before), cents(now)
    found = compared(before, now)
    assert verdict(before, now) == ["suspected", "confirmed"]
    assert found["ratio"].item() == pytest.approx(factor, rel=4e-4)
    assert found.select("bars", "agreeing", "unchanged", "older").row(0) == (bars, bars, 0, bars)


@pytest.mark.parametrize(
    ("factor", "name", "kind"),
    [
        (1.253, "1253:1000", "rescaled"),
        (1 / 1.253, "1000:1253", "rescaled"),
        (1.324, "1324:1000", "rescaled"),
        (1.05, "21:20", "rescaled"),
        (1.0046, "factor 1.0046", "rescaled"),
        (100.0, "100:1", "rescaled"),
        (1 / 190, "1:190", "rescaled"),
        (1.5, "3:2", "split"),
    ],
)
def test_a_factor_has_a_readable_name(factor: float, name: str, kind: str) -> None:
    before = cents(random_walk(40, 3, 170.0 * max(factor, 1.0), 0.01))
    found = compared(before, cents([close / factor for close in before]))
    assert found.select("split", "kind").row(0) == (name, kind)
    assert found["ratio"].item() == pytest.approx(factor, rel=3e-5)
    assert name_of(factor) == name


@pytest.mark.broad
@given(SEEDS, st.integers(1, 30), st.sampled_from([3.0, 35.0, 700.0]))
def test_rounding_and_noise_are_not_a_factor(seed: int, bars: int, price: float) -> None:
    before = random_walk(bars, seed, price, 0.01)
    assert verdict(before, before) == []
    assert verdict(before, cents(before)) == []
    assert verdict(cents(before), before) == []
    assert verdict(before, [close * (1 + 1e-6) for close in before]) == []


def test_unknown_volumes_are_rescaled_by_a_split_and_by_no_other_factor() -> None:
    before = random_walk(30, 3)
    for factor, expected in ((4.0, 4.0), (1.253, 1.0)):
        stored, served = bars_of({"AAPL": before}), bars_of({"AAPL": [close / factor for close in before]})
        found = compare(stored.with_columns(volume=pl.lit(None, pl.Float64)), served)
        assert found["volume_ratio"].to_list() == [expected]
        # The volume is five before and after, so no shares were split.
        assert compare(stored, served)["volume_ratio"].to_list() == [1.0]


def test_one_changed_bar_is_a_correction_unless_a_fact_explains_its_factor() -> None:
    assert verdict([141.0], [141.0 / 1.253]) == []
    fact = pl.DataFrame({"symbol": ["AAPL"], "ratio": [1.253], "kind": ["spin-off"]})
    found = compare(bars_of({"AAPL": [141.0]}), bars_of({"AAPL": [112.53]}), facts=fact)
    assert suspected(found).select("ratio", "split", "kind").row(0) == (1.253, "1253:1000", "spin-off")
    assert verdict([141.0, 143.5], [141.0 / 1.253, 143.5 / 1.253]) == ["suspected"]


def test_a_fact_gives_the_exact_factor_when_rounding_blurs_it() -> None:
    facts = pl.DataFrame({"symbol": ["AAPL"] * 2, "ratio": [4.0, 1.2532], "kind": ["split", "spin-off"]})
    before = cents(random_walk(30, 3, 20.0, 0.01))
    found = compare(
        bars_of({"AAPL": before}), bars_of({"AAPL": cents([close / 1.2532 for close in before])}), facts=facts
    )
    assert confirmed(found).select("ratio", "kind").row(0) == (1.2532, "spin-off")


def test_a_history_that_the_vendor_replaced_by_several_factors_is_not_half_done() -> None:
    before = random_walk(100, 9)
    now = [close / (2.506 if place < 40 else 1.253) for place, close in enumerate(before)]
    suspects = pl.DataFrame({"symbol": ["AAPL"], "ratio": [1.253], "split": ["1253:1000"]})
    assert half_done(compared(before, now, suspects)).is_empty()


@pytest.mark.broad
@given(SEEDS, st.sampled_from([10.0, 30.0, 100.0]), st.sampled_from([-0.02, -0.01, 0.01, 0.02]), st.integers(2, 7))
def test_a_few_bars_corrected_by_the_same_one_or_two_cents_are_not_suspected(
    seed: int, price: float, change: float, bars: int
) -> None:
    """This happens when a vendor replaces the last trades of one exchange by those of all exchanges."""
    before = cents(random_walk(bars, seed, price, 0.002))
    assert verdict(before, cents([close + change for close in before])) == []


def test_a_factor_over_a_few_bars_of_a_history_is_a_correction_and_over_many_is_half_done() -> None:
    before = random_walk(200, 9)
    suspects = pl.DataFrame({"symbol": ["AAPL"], "ratio": [1.02], "split": ["51:50"]})
    for bars, is_half_done in ((4, False), (40, True)):
        now = [close / 1.02 if place >= 200 - bars else close for place, close in enumerate(before)]
        found = compared(before, now, suspects)
        assert (confirmed(found).height, half_done(found).height) == (0, int(is_half_done))
    # The ratio of a split is no correction of a few bars.
    assert half_done(compared(before, [*before[:-4], *(close / 2 for close in before[-4:])])).height == 1


@pytest.mark.broad
@pytest.mark.parametrize("share", [0.3, 0.6])
@given(seed=SEEDS)
def test_corrections_are_never_confirmed_as_a_split(share: float, seed: int) -> None:
    before = random_walk(30, seed, 100.0, 0.01)
    corrections = random_walk(30, seed + 1, 1.0, 0.02)
    now = [close * factor if place % 10 < share * 10 else close for place, (close, factor) in enumerate(zip(before, corrections, strict=True))]  # fmt: skip
    # Bars that agree with a small ratio by chance may cause a check of the whole history, which confirms nothing.
    assert set(verdict(before, now)) <= {"half done", "suspected"}


@pytest.mark.parametrize("factor", [0.5, 2.0, 0.1, 100.0])
@pytest.mark.parametrize("place", [0, 7, 19])
def test_one_bad_tick_of_any_ratio_is_not_a_split(factor: float, place: int) -> None:
    """The oldest bar may be the last one before a split. That causes a check of the whole history."""
    before = random_walk(20, 4)
    now = list(before)
    now[place] *= factor
    assert verdict(before, now) == ["suspected"] * (place == 0 and factor != 100.0)


@pytest.mark.parametrize("bars", [1, 2])
def test_one_or_two_bars_are_suspected_but_not_confirmed(bars: int) -> None:
    before = random_walk(bars, 4)
    assert verdict(before, [close / 2 for close in before]) == ["suspected"]


def test_newer_bars_may_be_stored_on_the_new_scale_already() -> None:
    before = random_walk(40, 9)
    stored = [close if place < 30 else close / 7 for place, close in enumerate(before)]
    found = compared(stored, [close / 7 for close in before])
    assert verdict(stored, [close / 7 for close in before]) == ["suspected", "confirmed"]
    assert found.select("bars", "agreeing", "older").row(0) == (40, 30, 30)
    assert found["last_ts"].item() == bars_of({"AAPL": before})["ts"][29]


def test_most_of_a_history_may_be_stored_on_the_new_scale_already() -> None:
    before = random_walk(40, 9)
    stored = [close if place < 10 else close / 7 for place, close in enumerate(before)]
    now = [close / 7 for close in before]
    suspects = pl.DataFrame({"symbol": ["AAPL"], "ratio": [7.0], "split": ["7:1"]})
    for found in (compared(stored, now), compared(stored, now, suspects)):
        assert confirmed(found).select("split", "bars", "agreeing", "older").row(0) == ("7:1", 40, 10, 10)


@pytest.mark.broad
@given(SEEDS, st.integers(2, 30), st.integers(0, 30), FACTORS)
def test_an_overlap_with_any_number_of_new_bars_is_suspected(seed: int, old: int, new: int, factor: float) -> None:
    """New bars are stored on the new scale before the old ones are re-adjusted."""
    before = random_walk(old + new, seed, 100.0, 0.01)
    stored = [close if place < old else close / factor for place, close in enumerate(before)]
    assert verdict(stored, [close / factor for close in before])[0] == "suspected"


def test_a_partly_re_adjusted_history_is_half_done() -> None:
    before = random_walk(100, 9)
    now = [close if place < 40 else close / 2 for place, close in enumerate(before)]
    assert verdict(before, now) == ["half done"]
    assert half_done(compared(before, now)).select("split", "agreeing", "older").row(0) == ("2:1", 60, 100)


def test_a_few_corrected_bars_within_a_re_adjusted_history_do_not_hide_the_split() -> None:
    before = random_walk(100, 9)
    now = [close / 2 * (1.1 if place == 50 else 1) for place, close in enumerate(before)]
    assert verdict(before, now) == ["confirmed"]


def test_symbols_are_compared_independently_and_only_over_common_bars() -> None:
    walks = {symbol: random_walk(20, seed) for seed, symbol in enumerate(("AAPL", "MSFT", "TSLA"))}
    stored = bars_of(walks)
    factor = pl.col("symbol").replace_strict({"AAPL": 1 / 7, "MSFT": 10.0, "TSLA": 1.0})
    served = stored.with_columns(pl.col("close") * factor).filter(pl.int_range(pl.len()).over("symbol") >= 5)
    found = confirmed(compare(stored, served.sample(fraction=1.0, shuffle=True, seed=1)))
    assert found.select("symbol", "split", "bars").rows() == [("AAPL", "7:1", 15), ("MSFT", "1:10", 15)]


def test_a_symbol_is_compared_alike_alone_and_among_others() -> None:
    old_bars = {"AAPL": 30, "MSFT": 10, "TSLA": 20}
    now = {symbol: random_walk(40, seed, 4.0) for seed, symbol in enumerate(old_bars)}
    served = bars_of(now, volume=pl.lit(35.0))
    is_old = pl.int_range(pl.len()).over("symbol") < pl.col("symbol").replace_strict(old_bars)
    stored = served.with_columns(
        close=pl.when(is_old).then(pl.col("close") * 7).otherwise("close"),
        volume=pl.when(is_old).then(5.0).otherwise("volume"),
    )
    # Only the prices of one symbol are rounded.
    rounded = pl.when(symbol="AAPL").then(pl.col("close").round(2)).otherwise("close").alias("close")
    stored, served = stored.with_columns(rounded), served.with_columns(rounded)
    found = compare(stored, served)
    counts = [(symbol, bars, bars, 0, 7.0) for symbol, bars in old_bars.items()]
    assert found.select("symbol", "older", "agreeing", "unchanged", "volume_ratio").rows() == counts
    alone = [compare(stored.filter(symbol=symbol), served.filter(symbol=symbol)) for symbol in old_bars]
    assert found.equals(pl.concat(alone))


def test_suspects_without_served_bars_and_empty_frames_give_no_split() -> None:
    stored = bars_of({"AAPL": random_walk(5, 1)})
    suspects = pl.DataFrame({"symbol": ["MSFT"], "ratio": [2.0], "split": ["2:1"]})
    assert compare(stored, stored.clear(), suspects).is_empty()
    assert compare(stored.clear(), stored).is_empty()
    assert suspected(compare(stored, stored, suspects)).is_empty()


@pytest.mark.parametrize(("unchanged", "is_half_done"), [(1, False), (3, True)])
def test_a_split_is_half_done_when_more_than_two_percent_of_the_older_bars_are_unchanged(
    unchanged: int, is_half_done: bool
) -> None:
    before = random_walk(100, 4)
    # Bars that were replaced by others are neither: they do not agree, and are not unchanged.
    now = [
        close if place < unchanged else close * 1.7 if place < 20 else close / 2 for place, close in enumerate(before)
    ]
    assert half_done(compared(before, now)).height == int(is_half_done)


@pytest.mark.parametrize("ahead", [{50}, {3, 4, 5, 30}, set(range(40, 70)), {0, 98}])
def test_bars_among_the_old_ones_may_be_stored_on_the_new_scale_already(ahead: set[int]) -> None:
    """A file of a few bars brought them, for example. The vendor has re-adjusted everything."""
    before = random_walk(100, 9)
    stored = [close / 2 if place in ahead else close for place, close in enumerate(before)]
    found = compared(stored, [close / 2 for close in before])
    old = 100 - len(ahead)
    assert confirmed(found).select("split", "agreeing", "unchanged", "older").row(0) == ("2:1", old, 0, old)
    assert half_done(found).is_empty()
    assert suspected(found).height == 1
