"""The pullback rule, case by case: orders, entries, stops, exits and sessions."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from ema_assets.strategies.simulator.simulation import simulate
from ema_assets.strategies.variant import Variant
from ema_assets_tests.strategies.market import MINUTES, NOTHING, PULLBACK, START, Bar, bars_at, frame_of
from ema_assets_tests.timeframes import H1

LONG = Variant("strategy_9_30_pullback", PULLBACK)
SHORT = Variant("x", PULLBACK, allow_long=False, allow_short=True)

# EMA 9 at 100 is above WMA 30 at 95, so the trend is up. The bar falls from 101 to 98 and closes at 99, below EMA 9.
DIP = (101.0, 102.0, 98.0, 99.0)
FAST, SLOW = 100.0, 95.0


def at(place: int) -> datetime:
    return START + place * MINUTES


def after_a_dip(
    *following: tuple[float, float, float, float], variant: Variant = LONG, fast: float = FAST, **columns: Any
) -> list[dict[str, Any]]:
    """The trades of DIP and the bars after it. `columns` replace values by the position of their bar."""
    rows = [DIP, *following]
    if "slow" in columns:
        slow = {**dict.fromkeys(range(len(rows)), SLOW), **columns.pop("slow")}
    else:
        slow = dict.fromkeys(range(len(rows)), SLOW)
    return trades_of(bars_at(*rows, ema_9=[fast] * len(rows), wma_30=slow, **columns), variant)


def trades_of(bars: list[Bar], variant: Variant) -> list[dict[str, Any]]:
    return simulate(frame_of({"AAPL": bars}), NOTHING, variant).trades.rows(named=True)


def picked(trade: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(trade[name] for name in names)


ENTRY = ("side", "entry_ts", "entry_price", "entry_reason", "stop_price")
EXIT = ("exit_ts", "exit_price", "exit_reason")


# --- entries ---


def test_a_trade_opens_when_the_market_trades_above_the_high_of_the_pullback_bar() -> None:
    (trade,) = after_a_dip((100.0, 104.0, 99.5, 103.0))
    assert picked(trade, *ENTRY, "status") == ("long", at(1), 102.0, "pullback", 98.0, "open")
    # The low of the entry bar may have come after the entry. The high must have come after it.
    assert picked(trade, "mae_pct", "mfe_pct") == ((99.5 / 102.0 - 1) * 100, (104.0 / 102.0 - 1) * 100)
    assert trade["r_multiple"] == (103.0 - 102.0) / (102.0 - 98.0)


def test_touching_the_high_does_not_fill_the_order() -> None:
    assert after_a_dip((100.0, 102.0, 99.5, 101.0)) == []
    rows = ((99.0, 102.0, 98.0, 101.0), (100.0, 101.0, 98.0, 99.0))
    assert trades_of(bars_at(*rows, ema_9=[100.0] * 2, wma_30=[105.0] * 2), SHORT) == [], "nor does the low fill a sale"


def test_an_open_above_the_high_is_the_entry_price() -> None:
    (trade,) = after_a_dip((103.0, 104.0, 102.5, 103.0))
    assert picked(trade, *ENTRY) == ("long", at(1), 103.0, "pullback", 98.0)


def test_the_order_stays_while_the_trend_lasts() -> None:
    (trade,) = after_a_dip((101, 102, 100, 101), (101, 101, 100, 101), (101, 105, 100, 104))
    assert picked(trade, *ENTRY) == ("long", at(3), 102.0, "pullback", 98.0)


def test_a_later_pullback_bar_replaces_the_order() -> None:
    (trade,) = after_a_dip((99.5, 101.0, 97.0, 98.0), (98.5, 101.5, 98.0, 101.0))
    assert picked(trade, *ENTRY) == ("long", at(2), 101.0, "pullback", 97.0)


@pytest.mark.parametrize("slow", [FAST, 101.0, None])
def test_the_order_is_cancelled_when_ema_9_is_no_longer_above_wma_30(slow: float | None) -> None:
    assert after_a_dip((100, 101, 100, 101), (101, 105, 100, 104), slow={1: slow}) == []
    assert len(after_a_dip((100, 101, 100, 101), (101, 105, 100, 104))) == 1


def test_there_is_no_order_without_a_pullback_a_trend_or_an_average() -> None:
    rise = (100.0, 104.0, 99.5, 103.0)
    assert after_a_dip(rise, fast=99.0) == [], "a close at EMA 9 is not below it"
    assert after_a_dip(rise, slow={0: FAST}) == []
    assert after_a_dip(rise, slow={0: None}) == []
    assert after_a_dip(rise, variant=SHORT) == []


def test_a_filter_that_fails_at_a_close_cancels_the_order() -> None:
    still, rise = (100.0, 101.0, 100.0, 101.0), (101.0, 105.0, 100.0, 104.0)
    near = Variant("x", PULLBACK, min_spread_pct=1.0)
    assert len(after_a_dip(still, rise, variant=near, spread_pct=[1.0, 1.0, 0.0])) == 1
    assert after_a_dip(still, rise, variant=near, spread_pct=[1.0, 0.9, 1.0]) == []
    higher = Variant("x", PULLBACK, higher_timeframe=H1)
    assert len(after_a_dip(still, rise, variant=higher, higher_trend=["up", "up", "down"])) == 1
    assert after_a_dip(still, rise, variant=higher, higher_trend=["up", None, "up"]) == []


def test_a_short_trade_opens_below_the_low_of_a_bar_that_closed_above_ema_9() -> None:
    rows = ((99.0, 102.0, 98.0, 101.0), (99.0, 100.0, 96.0, 97.0), (97.0, 103.0, 97.0, 102.0))
    (trade,) = trades_of(bars_at(*rows, ema_9=[100.0] * 3, wma_30=[105.0] * 3), SHORT)
    assert picked(trade, *ENTRY) == ("short", at(1), 98.0, "pullback", 102.0)
    assert picked(trade, *EXIT, "r_multiple") == (at(2), 102.0, "stop", -1.0)
    assert trade["return_pct"] == -(102.0 / 98.0 - 1) * 100


# --- exits ---


def test_a_bar_that_reaches_entry_and_stop_executes_both() -> None:
    (trade,) = after_a_dip((97.0, 104.0, 96.0, 103.0))
    assert picked(trade, "entry_price", *EXIT, "bars_held") == (102.0, at(1), 98.0, "stop", 0)


def test_the_stop_is_the_low_of_the_pullback_bar() -> None:
    (trade,) = after_a_dip((100.0, 104.0, 99.0, 103.0), (102.0, 102.0, 98.0, 101.0))
    assert picked(trade, *EXIT, "r_multiple") == (at(2), 98.0, "stop", -1.0)


def test_the_stop_trails_below_later_bars_that_close_below_ema_9_and_never_falls() -> None:
    (trade,) = after_a_dip(
        (101.0, 104.0, 100.0, 103.0),
        (103.0, 103.0, 99.0, 99.5),  # closes below EMA 9, so the stop moves to 99
        (100.0, 101.0, 99.5, 101.0),  # closes above EMA 9, so the stop stays
        (99.5, 100.0, 98.5, 99.0),
    )
    assert picked(trade, "stop_price", "stop_now", *EXIT) == (98.0, 99.0, at(4), 99.0, "trailing_stop")
    assert trade["r_multiple"] == (99.0 - 102.0) / (102.0 - 98.0), "in units of what was risked first"


def test_the_trade_closes_when_its_trend_ends() -> None:
    rows = ((101.0, 104.0, 100.0, 103.0), (103.0, 104.0, 101.0, 102.0), (101.5, 102.0, 101.0, 102.0))
    (trade,) = after_a_dip(*rows, slow={2: 100.0})
    assert picked(trade, *EXIT) == (at(2), 102.0, "trend_end")
    (trade,) = after_a_dip(*rows, slow={2: 100.0}, variant=Variant("x", PULLBACK, fill="next_open"))
    assert picked(trade, *EXIT) == (at(3), 101.5, "trend_end")


def test_a_missing_average_does_not_close_a_trade() -> None:
    (trade,) = after_a_dip((101.0, 104.0, 100.0, 103.0), (103.0, 104.0, 101.0, 102.0), slow={2: None})
    assert trade["status"] == "open"


@pytest.mark.parametrize("fill", ["close", "next_open"])
def test_a_close_that_ends_the_trade_does_not_move_the_stop(fill: str) -> None:
    """The bar pulls back and also ends the trend. A stop at its low would never have been active."""
    variant = Variant("x", PULLBACK, fill=fill)
    (trade, *_) = after_a_dip(
        (102.0, 104.0, 101.0, 103.0),
        (101.0, 101.5, 98.5, 99.5),
        (99.0, 99.5, 98.8, 99.2),
        variant=variant,
        slow={2: 105.0, 3: 105.0},
    )
    assert trade["exit_reason"] == "trend_end"
    assert picked(trade, "stop_price", "stop_now") == (98.0, 98.0)


def test_an_atr_stop_replaces_the_low_and_trails_too() -> None:
    variant = Variant("x", PULLBACK, atr_stop=1.0, atr_target=2.0)
    rise, fall = (101.0, 104.0, 100.0, 103.0), (103.0, 103.0, 96.0, 97.0)
    (trade,) = after_a_dip(rise, fall, variant=variant, atr={0: 5.0})
    # The low of 98 is not a stop. The bar from 103 to 97 trades through the stop at 97.
    assert picked(trade, "stop_price", "target_price", *EXIT) == (97.0, 112.0, at(2), 97.0, "stop")
    (trade,) = after_a_dip(rise, (101.0, 103.0, 98.0, 99.0), fall, variant=variant, atr={0: 5.0})
    assert picked(trade, "stop_price", *EXIT) == (97.0, at(3), 98.0, "trailing_stop")


def test_the_bar_of_a_stopped_trade_can_place_the_next_order() -> None:
    first, second = after_a_dip((101, 104, 100, 103), (101, 101, 97, 98), (98, 102, 98, 102))
    assert picked(first, *EXIT) == (at(2), 98.0, "stop")
    assert picked(second, *ENTRY) == ("long", at(3), 101.0, "pullback", 97.0)


# --- sessions ---


def test_orders_end_with_the_session_and_are_not_filled_in_its_last_bar() -> None:
    variant = Variant("x", PULLBACK, exit_at_session_end=True)
    still, rise = (100.0, 101.0, 100.0, 101.0), (101.0, 105.0, 100.0, 104.0)
    assert len(after_a_dip(still, rise, variant=variant)) == 1
    assert after_a_dip(still, rise, variant=variant, is_session_last=[False, True, False]) == []
    assert after_a_dip(still, rise, variant=variant, is_session_last=[False, False, True]) == []
    tomorrow = START + timedelta(days=1)
    assert after_a_dip(still, rise, variant=variant, session=[START, START, tomorrow]) == []


def test_no_trade_stays_open_over_the_end_of_the_session() -> None:
    variant = Variant("x", PULLBACK, exit_at_session_end=True)
    rise, higher = (101.0, 105.0, 100.0, 104.0), (104.0, 106.0, 103.0, 105.0)
    (trade,) = after_a_dip(rise, higher, variant=variant, is_session_last=[False, False, True])
    assert picked(trade, *EXIT) == (at(2), 105.0, "session_end")
    tomorrow = START + timedelta(days=1)
    (trade,) = after_a_dip(rise, higher, variant=variant, session=[START, START, tomorrow])
    assert picked(trade, *EXIT) == (at(2), 104.0, "session_missed")
