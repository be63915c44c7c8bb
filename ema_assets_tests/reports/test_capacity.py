"""Tests of the estimated cost of a watchlist: it agrees with the measurements and with the page."""

import re
from pathlib import Path

import pytest

from ema_assets.model.errors import ConfigurationError
from ema_assets.model.timeframes import DEFAULT, by_key
from ema_assets.reports import capacity
from ema_assets.reports.capacity import Market, estimate, estimate_markets

PAGE = (Path(__file__).parents[2] / "docs/CAPACITY.md").read_text()


def test_the_estimate_equals_the_measurements_that_it_is_based_on() -> None:
    hundred, thousand = (estimate(symbols, DEFAULT) for symbols in (100, 1000))
    assert hundred.cpu_seconds_per_tick == pytest.approx(0.25)
    assert thousand.cpu_seconds_per_tick == pytest.approx(0.61)
    # With 14 days of retention, Dagster's records level off at the size of 15.6 trading days.
    mixed = [estimate(90, DEFAULT), estimate(10, DEFAULT, is_always_open=True)]
    assert sum(each.market_megabytes_per_day for each in mixed) == pytest.approx(128 / 15)
    assert sum(each.dagster_megabytes for each in mixed) == pytest.approx(140 * 2571 / 165)
    assert estimate(10_000, DEFAULT).calls_per_tick == 50


def test_the_number_of_closes_per_day_depends_on_the_market() -> None:
    keys = ("1m", "5m", "15m", "1h", "4h", "1d")
    assert [capacity.closes_per_day(by_key(key), is_always_open=False) for key in keys] == [390, 78, 26, 7, 2, 1]
    assert [capacity.closes_per_day(by_key(key), is_always_open=True) for key in keys] == [1440, 288, 96, 24, 6, 1]


def test_markets_that_are_open_together_share_their_runs() -> None:
    """Stocks alone, and stocks with pairs that trade all day. A run takes at most a thousand series."""
    m5, d1 = by_key("5m"), by_key("1d")
    stocks, pairs = Market(600, {m5: 78, d1: 1}), Market(600, {m5: 288})
    alone, both = estimate_markets([stocks], 4), estimate_markets([stocks, pairs], 4)
    assert alone == estimate(600, [m5, d1])
    assert (both.series, both.bars_per_day) == (600 * 3, 600 * 79 + 600 * 288)
    assert both.runs_per_day == 2 * 288 + 1
    eight = estimate_markets([stocks], 8)
    assert eight.cpu_seconds_per_tick == pytest.approx(1.5 * alone.cpu_seconds_per_tick)
    assert estimate_markets([stocks], 12) == estimate(600, [m5, d1], is_everything=True)


def test_the_page_shows_the_figures_of_the_function() -> None:
    shown = [line for line in PAGE.splitlines() if re.match(r"\| [\d,]+ \| (chain|everything) \|", line)]
    expected = []
    for symbols in (100, 1000, 10_000, 100_000):
        for assets in ("chain", "everything"):
            found = estimate(symbols, DEFAULT, is_everything=assets == "everything")
            expected.append(
                f"| {symbols:,} | {assets} | {found.bars_per_day:,} | {found.runs_per_day:,} | "
                f"{found.cpu_seconds_per_tick:,.1f} s | {found.cpu_seconds_at_the_worst_close:,.1f} s | "
                f"{found.cpu_hours_per_day:,.2f} h | {found.market_megabytes_per_day:,.1f} MB | "
                f"{found.dagster_megabytes / 1000:,.1f} GB | {found.calls_per_tick:,} |"
            )
    assert shown == expected


@pytest.mark.parametrize("symbols", [0, -1, 100_001])
def test_a_number_of_symbols_outside_the_limits_is_refused(symbols: int) -> None:
    with pytest.raises(ConfigurationError, match=f"from 1 to 100,000, received {symbols}"):
        estimate(symbols, DEFAULT)
