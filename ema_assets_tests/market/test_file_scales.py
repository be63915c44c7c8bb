"""Tests of the decision which bars of files are still to be converted after a change of the price scale."""

from datetime import timedelta

import polars as pl
import pytest

from ema_assets.market.corporate_actions import COMPARED_SCHEMA
from ema_assets.market.file_scales import on_old_scale
from ema_assets.model.schemas import UTC_TIME
from ema_assets_tests.refresh.exchange import utc
from ema_assets_tests.timeframes import H1

OPEN = utc("2026-11-24 14:30")
SHORTER = pl.DataFrame(
    [("GE", OPEN + timedelta(minutes=5 * bar), 700.0 + bar) for bar in range(36)],
    schema={"symbol": pl.String, "ts": UTC_TIME, "close": pl.Float64},
    orient="row",
)


def hours(first: str, closes: list[float], symbol: str = "GE") -> pl.DataFrame:
    start = utc(first)
    return pl.DataFrame(
        [(symbol, start, start + timedelta(hours=hour), close) for hour, close in enumerate(closes)],
        schema={"symbol": pl.String, "span": UTC_TIME, "ts": UTC_TIME, "close": pl.Float64},
        orient="row",
    )


def scale(ratio: float, last: str = "2026-11-24 17:25") -> pl.DataFrame:
    row = {"symbol": "GE", "ratio": ratio, "last_ts": utc(last)}
    return pl.DataFrame([[row.get(name) for name in COMPARED_SCHEMA]], schema=COMPARED_SCHEMA, orient="row")


@pytest.mark.parametrize("ratio", [7.0, 0.1, 1.253, 1.0046])
@pytest.mark.parametrize("first", ["2026-11-24 14:30", "2026-11-24 14:00"], ids=["our grid", "by the clock"])
def test_prices_at_the_same_time_decide_for_any_ratio(ratio: float, first: str) -> None:
    offset = 0 if first.endswith("30") else -6
    closes = [SHORTER["close"][12 * hour + 11 + offset] for hour in range(3)]
    old, new = hours(first, closes), hours(first, [close / ratio for close in closes])
    assert on_old_scale(old, SHORTER, H1, scale(ratio)).equals(old)
    assert on_old_scale(new, SHORTER, H1, scale(ratio)).is_empty()


def test_the_nearest_price_shows_a_split_but_not_a_small_change() -> None:
    days_before = "2026-11-20 15:00"
    assert on_old_scale(hours(days_before, [101.0]), SHORTER, H1, scale(7.0)).is_empty()
    moved = hours(days_before, [640.0])
    assert on_old_scale(moved, SHORTER, H1, scale(7.0)).equals(moved)
    # Prices may move by that much within days.
    unclear = hours(days_before, [700.0 / 1.0046])
    assert on_old_scale(unclear, SHORTER, H1, scale(1.0046)).equals(unclear)


def test_each_span_is_judged_independently_and_bars_after_the_change_are_left_out() -> None:
    old, new = hours("2026-11-24 14:30", [711.0, 723.0]), hours("2026-11-20 15:00", [100.0, 99.0])
    later = hours("2026-11-24 18:30", [101.0])
    both = pl.concat([new, old, later])
    assert on_old_scale(both, SHORTER, H1, scale(7.0)).equals(old)


def test_bars_without_a_price_to_compare_are_converted_like_the_shorter_bars() -> None:
    lonely = hours("2026-11-24 14:30", [711.0])
    assert on_old_scale(lonely, SHORTER.clear(), H1, scale(7.0)).equals(lonely)
    assert on_old_scale(hours("2026-11-24 14:30", [711.0], "MSFT"), SHORTER, H1, scale(7.0)).is_empty()


@pytest.mark.parametrize(("ratio", "is_new"), [(1.5, True), (2.0, True), (1.4, False)])
def test_prices_of_another_day_show_a_change_of_scale_by_half_or_more(ratio: float, is_new: bool) -> None:
    found = on_old_scale(hours("2026-11-20 15:00", [700.0 / ratio]), SHORTER, H1, scale(ratio))
    assert found.is_empty() is is_new


def test_the_bars_nearest_to_shorter_bars_decide_the_scale_of_a_span() -> None:
    days_before = hours("2026-11-20 15:00", [100.0, 100.0, 100.0])
    span = pl.concat([days_before, hours("2026-11-24 14:30", [711.0])]).with_columns(pl.col("span").first())
    assert on_old_scale(span, SHORTER, H1, scale(7.0)).equals(span)


def test_bars_after_the_change_stay_on_the_new_scale() -> None:
    later = hours("2026-11-24 17:30", [735.0])
    assert on_old_scale(later, SHORTER, H1, scale(7.0)).is_empty()
