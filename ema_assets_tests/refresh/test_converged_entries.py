"""By default, trades begin only after the averages have converged, on the series and on the higher timeframe."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from ema_assets.refresh.graph import build
from ema_assets.reports import status
from ema_assets.signals.ema_signals import CONVERGED_AFTER_BARS
from ema_assets.store.database import Database
from ema_assets_tests.core import CORE
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, rows_of, utc, watch
from ema_assets_tests.timeframes import H1, M5

NOW = utc("2026-11-25 21:00")
BARS = bars_on("XNYS", "AAPL", M5, date(2026, 11, 10), date(2026, 11, 25))
TRADES = "SELECT entry_ts FROM market.strategy_{} WHERE timeframe = '5m' ORDER BY 1"


def watched(**options: Any) -> Any:
    row = {"name": "mine", "rule": "crossover", **options}
    return replace(watch({"AAPL": "XNYS"}, m5_days=20), strategies=(row, *CORE["strategies"]))


def entries(database: Database, **options: Any) -> list[datetime]:
    refresh(database, watched(**options), MemoryExchange(BARS), NOW, timeframes=(M5, H1))
    return [ts for (ts,) in rows_of(database, TRADES.format("mine"))]


@pytest.mark.broad
def test_no_trade_begins_before_the_averages_have_converged(database: Database) -> None:
    everywhere = entries(database, entries="all")
    converged = BARS["ts"].sort()[CONVERGED_AFTER_BARS - 1]
    assert min(everywhere) < converged < max(everywhere)
    assert entries(database) == [ts for ts in everywhere if ts >= converged]


@pytest.mark.broad
def test_entries_count_convergence_from_the_same_bar_as_the_warming_up_flag(database: Database) -> None:
    """The variant's `converged_after` is the number of the first bar that is not warming up."""
    entries(database)
    first = rows_of(
        database,
        "SELECT min(bar_number) FROM market.ema_signals WHERE symbol = 'AAPL' AND timeframe = '5m' AND NOT warming_up",
    )
    assert first == [(CONVERGED_AFTER_BARS,)]
    node = build(watched()).nodes["strategy_mine"]
    assert node.variant is not None
    assert node.variant.converged_after == CONVERGED_AFTER_BARS


@pytest.mark.broad
def test_a_higher_timeframe_that_has_not_converged_allows_no_trade(database: Database) -> None:
    """Twelve days have 84 hourly bars."""
    assert entries(database, higher_timeframe="1h") == []
    assert entries(database, higher_timeframe="1h", entries="all") != []


@pytest.mark.parametrize("option", ["converged", "all"])
def test_the_entries_option_is_part_of_the_version_and_the_description(option: str) -> None:
    node = build(watched(entries=option)).nodes["strategy_mine"]
    assert ("entries=all" in node.code_version) is (option == "all")
    assert ("only once the averages have converged" in node.description) is (option == "converged")


@pytest.mark.broad
def test_increments_across_the_first_converged_bar_equal_one_computation(database: Database) -> None:
    steps = [NOW - timedelta(hours=hours) for hours in (100, 76, 52, 27, 4, 0)]
    for moment in steps:
        refresh(database, watched(), MemoryExchange(BARS), moment, timeframes=(M5, H1))
    rows = "SELECT * FROM market.strategy_mine WHERE timeframe = '5m' ORDER BY entry_ts"
    by_increments = rows_of(database, rows)
    refresh(database, watched(), MemoryExchange(BARS), NOW, timeframes=(M5, H1), everything=True)
    assert rows_of(database, rows) == by_increments != []


def test_the_status_and_the_screener_report_what_is_still_warming_up(database: Database) -> None:
    entries(database)
    with database.transaction() as transaction:
        assert status.warming_up(transaction) == ["1h of 1 symbol: 84 bars at most, the averages need 208"]
    found = rows_of(database, "SELECT timeframe, is_warming_up FROM results.screener ORDER BY 1")
    assert found == [("1h", True), ("5m", False)]
