"""The crossover rule, case by case: entries, exits, filters, stops and sessions."""

from datetime import datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.strategies.simulator.simulation import simulate
from ema_assets.strategies.variant import Variant
from ema_assets_tests.strategies.market import (
    CROSSOVER,
    DEFAULT,
    MINUTES,
    NOTHING,
    START,
    Bar,
    bars_at,
    frame_of,
    several,
)
from ema_assets_tests.timeframes import H1

RISE_AND_FALL = ((10.0, 11.0, 9.0, 10.0), (10.0, 13.0, 10.0, 12.0), (12.0, 14.0, 11.0, 13.0), (12.5, 12.5, 8.0, 9.0), (8.5, 9.0, 8.0, 8.0))  # fmt: skip
UP_THEN_DOWN = {0: "bullish", 3: "bearish"}


def at(place: int) -> datetime:
    return START + place * MINUTES


def trades_of(bars: list[Bar], variant: Variant) -> list[dict[str, Any]]:
    return simulate(frame_of({"AAPL": bars}), NOTHING, variant).trades.rows(named=True)


def picked(trade: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(trade[name] for name in names)


ENTRY = ("side", "entry_ts", "entry_price", "entry_reason")
EXIT = ("exit_ts", "exit_price", "exit_reason", "status")


def test_a_trade_lasts_from_the_close_of_a_bullish_crossover_to_that_of_the_bearish_one() -> None:
    (trade,) = trades_of(bars_at(*RISE_AND_FALL, crossover=UP_THEN_DOWN), DEFAULT)
    assert trade == {
        "symbol": "AAPL",
        "entry_ts": at(0),
        "side": "long",
        "entry_price": 10.0,
        "entry_reason": "bullish_crossover",
        "exit_ts": at(3),
        "exit_price": 9.0,
        "exit_reason": "bearish_crossover",
        "last_ts": at(3),
        "last_price": 9.0,
        "return_pct": (9.0 / 10.0 - 1) * 100,
        "net_return_pct": (9.0 / 10.0 - 1) * 100,
        "bars_held": 3,
        "stop_price": None,
        "stop_now": None,
        "target_price": None,
        "r_multiple": None,
        # From the bar after the entry on: a low of 8 and a high of 14.
        "mae_pct": (8.0 / 10.0 - 1) * 100,
        "mfe_pct": (14.0 / 10.0 - 1) * 100,
        "status": "closed",
        "bar_returns_sum": (1.2 - 1.0) + (1.3 / 1.2 - 1.0) + (0.9 / 1.3 - 1.0),
        "bar_returns_square_sum": (1.2 - 1.0) ** 2 + (1.3 / 1.2 - 1.0) ** 2 + (0.9 / 1.3 - 1.0) ** 2,
        "bar_returns_negative_square_sum": (0.9 / 1.3 - 1.0) ** 2,
        "equity_peak": 1.3,
        "equity_peak_ts": at(2),
        "equity_trough": 0.9,
        "equity_trough_ts": at(3),
        "drawdown": 1 - 0.9 / 1.3,
        "drawdown_peak_ts": at(2),
        "drawdown_trough_ts": at(3),
    }


def test_an_open_trade_is_valued_at_the_last_close() -> None:
    (trade,) = trades_of(bars_at(*RISE_AND_FALL[:3], crossover=UP_THEN_DOWN), DEFAULT)
    assert picked(trade, *EXIT) == (None, None, None, "open")
    assert picked(trade, "last_ts", "last_price", "return_pct", "bars_held") == (at(2), 13.0, 30.000000000000004, 2)


def test_with_fills_at_the_next_open_entry_and_exit_are_one_bar_later() -> None:
    (trade,) = trades_of(bars_at(*RISE_AND_FALL, crossover=UP_THEN_DOWN), Variant("x", CROSSOVER, fill="next_open"))
    assert picked(trade, *ENTRY) == ("long", at(1), 10.0, "bullish_crossover")
    assert picked(trade, *EXIT) == (at(4), 8.5, "bearish_crossover", "closed")
    # The whole entry bar counts, but only the open of the exit bar.
    assert picked(trade, "bars_held", "mae_pct", "mfe_pct") == (3, (8.0 / 10.0 - 1) * 100, (14.0 / 10.0 - 1) * 100)


def test_an_order_without_a_next_bar_is_not_yet_a_trade() -> None:
    assert (
        trades_of(bars_at(*RISE_AND_FALL[:1], crossover=UP_THEN_DOWN), Variant("x", CROSSOVER, fill="next_open")) == []
    )


def test_with_shorts_allowed_a_crossover_reverses_the_position() -> None:
    first, second = trades_of(
        bars_at(*RISE_AND_FALL, crossover=UP_THEN_DOWN), Variant("x", CROSSOVER, allow_short=True)
    )
    assert picked(first, *EXIT) == (at(3), 9.0, "bearish_crossover", "closed")
    assert picked(second, *ENTRY) == ("short", at(3), 9.0, "bearish_crossover")
    assert second["return_pct"] == -(8.0 / 9.0 - 1) * 100
    assert picked(second, "mae_pct", "mfe_pct") == (0.0, -(8.0 / 9.0 - 1) * 100)


def test_a_variant_that_only_sells_short_exits_at_the_bullish_crossover() -> None:
    bars = bars_at(*RISE_AND_FALL, crossover={0: "bearish", 2: "bullish"})
    (trade,) = trades_of(bars, Variant("x", CROSSOVER, allow_long=False, allow_short=True))
    assert picked(trade, *EXIT) == (at(2), 13.0, "bullish_crossover", "closed")
    assert trade["return_pct"] == -(13.0 / 10.0 - 1) * 100


def test_costs_are_a_fraction_of_the_traded_value_per_side() -> None:
    (trade,) = trades_of(bars_at(*RISE_AND_FALL, crossover=UP_THEN_DOWN), Variant("x", CROSSOVER, cost_bps=100))
    assert trade["return_pct"] == (9.0 / 10.0 - 1) * 100
    # 1 % of 10 at entry and 1 % of 9 at exit, of a stake of 10.
    assert abs(trade["net_return_pct"] - (-10 - 1 - 0.9)) < 1e-9
    (trade,) = trades_of(bars_at(*RISE_AND_FALL[:3], crossover=UP_THEN_DOWN), Variant("x", CROSSOVER, cost_bps=100))
    assert abs(trade["net_return_pct"] - (30 - 1)) < 1e-9


# --- filters ---


def test_there_is_no_entry_while_the_averages_are_too_close() -> None:
    variant = Variant("x", CROSSOVER, min_spread_pct=0.5)
    for spread, trades in ((0.4, 0), (0.5, 1), (None, 0)):
        bars = bars_at(*RISE_AND_FALL, crossover=UP_THEN_DOWN, spread_pct={0: spread, 3: 0.0})
        assert len(trades_of(bars, variant)) == trades, spread


def test_there_is_no_entry_against_the_trend_of_the_higher_timeframe() -> None:
    variant = Variant("x", CROSSOVER, higher_timeframe=H1)
    for higher, trades in (("up", 1), ("down", 0), (None, 0)):
        bars = bars_at(*RISE_AND_FALL, crossover=UP_THEN_DOWN, higher_trend={0: higher, 3: "up"})
        actual = trades_of(bars, variant)
        assert len(actual) == trades, higher
        assert all(trade["exit_reason"] == "bearish_crossover" for trade in actual), "filters are for entries"


def test_there_is_no_entry_while_the_atr_is_unknown() -> None:
    assert trades_of(bars_at(*RISE_AND_FALL, crossover=UP_THEN_DOWN), Variant("x", CROSSOVER, atr_stop=2.0)) == []


# --- stops and targets ---

STOPPED = Variant("x", CROSSOVER, atr_stop=1.0, atr_target=2.0)


def entered_at_100(*following: tuple[float, float, float, float], variant: Variant = STOPPED) -> dict[str, Any]:
    """The trade that is entered at a close of 100 with an ATR of 5: its stop is 95 and its target is 110."""
    bars = bars_at((100, 120, 80, 100), *following, crossover={0: "bullish"}, atr={0: 5.0})
    (trade,) = trades_of(bars, variant)
    return trade


def test_stop_and_target_are_multiples_of_the_atr_and_active_from_the_next_bar() -> None:
    trade = entered_at_100((101.0, 109.0, 96.0, 100.0))
    assert picked(trade, "stop_price", "target_price", "status") == (95.0, 110.0, "open")


def test_a_stop_that_is_touched_executes_at_its_price() -> None:
    trade = entered_at_100((99.0, 104.0, 95.0, 103.0))
    assert picked(trade, *EXIT) == (at(1), 95.0, "stop", "closed")
    assert picked(trade, "r_multiple", "return_pct") == (-1.0, (95.0 / 100.0 - 1) * 100)
    # The high may have come after the stop, so it does not count.
    assert picked(trade, "mae_pct", "mfe_pct") == ((95.0 / 100.0 - 1) * 100, 0.0)


def test_a_gap_below_the_stop_executes_at_the_open() -> None:
    trade = entered_at_100((90.0, 104.0, 85.0, 103.0))
    assert picked(trade, *EXIT, "r_multiple") == (at(1), 90.0, "stop", "closed", -2.0)


def test_a_target_that_is_touched_executes_at_its_price_and_a_gap_above_it_at_the_open() -> None:
    trade = entered_at_100((101.0, 110.0, 97.0, 103.0))
    assert picked(trade, *EXIT, "r_multiple") == (at(1), 110.0, "target", "closed", 2.0)
    # The low may have come before the target, so it counts.
    assert trade["mae_pct"] == (97.0 / 100.0 - 1) * 100
    assert picked(entered_at_100((112.0, 115.0, 111.0, 113.0)), "exit_price", "exit_reason") == (112.0, "target")


def test_a_bar_that_touches_stop_and_target_executes_the_stop() -> None:
    assert picked(entered_at_100((100.0, 111.0, 94.0, 100.0)), "exit_price", "exit_reason") == (95.0, "stop")


def test_a_trade_entered_at_an_open_can_be_stopped_in_that_bar() -> None:
    trade = entered_at_100((98.0, 99.0, 93.0, 97.0), variant=Variant("x", CROSSOVER, fill="next_open", atr_stop=1.0))
    assert picked(trade, *ENTRY) == ("long", at(1), 98.0, "bullish_crossover")
    assert picked(trade, "stop_price", *EXIT, "bars_held") == (93.0, at(1), 93.0, "stop", "closed", 0)


def test_a_short_trade_has_its_stop_above_and_its_target_below() -> None:
    bars = bars_at((100, 100, 100, 100), (101, 106, 100, 104), crossover={0: "bearish"}, atr={0: 5.0})
    (trade,) = trades_of(
        bars, Variant("x", CROSSOVER, allow_long=False, allow_short=True, atr_stop=1.0, atr_target=2.0)
    )
    assert picked(trade, "stop_price", "target_price", *EXIT) == (105.0, 90.0, at(1), 105.0, "stop", "closed")
    assert trade["r_multiple"] == -1.0


def test_after_a_stop_the_next_entry_is_the_next_crossover() -> None:
    bars = bars_at((100, 100, 100, 100), (99, 99, 94, 98), (98, 99, 97, 98), (98, 99, 98, 99), (99, 99, 99, 99), crossover={0: "bullish", 3: "bearish", 4: "bullish"}, atr={0: 5.0, 4: 5.0})  # fmt: skip
    assert [
        picked(trade, "entry_ts", "exit_reason") for trade in trades_of(bars, Variant("x", CROSSOVER, atr_stop=1.0))
    ] == [
        (at(0), "stop"),
        (at(4), None),
    ]


# --- sessions ---

INTRADAY = Variant("x", CROSSOVER, exit_at_session_end=True)


def test_no_trade_stays_open_over_the_end_of_the_session() -> None:
    bars = bars_at(*RISE_AND_FALL, crossover=UP_THEN_DOWN, is_session_last=[False, False, True, False, False])
    (trade,) = trades_of(bars, INTRADAY)
    assert picked(trade, *EXIT) == (at(2), 13.0, "session_end", "closed")


def test_the_last_bar_of_a_session_has_no_entry_and_neither_places_nor_fills_an_order() -> None:
    for last in (0, 1):
        bars = bars_at(*RISE_AND_FALL, crossover=UP_THEN_DOWN, is_session_last=[place == last for place in range(5)])
        assert len(trades_of(bars, INTRADAY)) == last
        assert trades_of(bars, Variant("x", CROSSOVER, fill="next_open", exit_at_session_end=True)) == []


def test_if_the_last_bar_is_missing_a_trade_closes_at_the_first_open_of_the_next_session() -> None:
    tomorrow = START + timedelta(days=1)
    bars = bars_at(*RISE_AND_FALL, crossover={0: "bullish"}, session=[START, START, tomorrow, tomorrow, tomorrow])
    (trade,) = trades_of(bars, INTRADAY)
    assert picked(trade, *EXIT) == (at(2), 12.0, "session_missed", "closed")


def test_if_the_last_bar_is_missing_an_order_ends_with_its_session() -> None:
    tomorrow = START + timedelta(days=1)
    bars = bars_at(*RISE_AND_FALL, crossover={1: "bullish"}, session=[START, START, tomorrow, tomorrow, tomorrow])
    assert trades_of(bars, Variant("x", CROSSOVER, fill="next_open", exit_at_session_end=True)) == []


# --- the default variant ---


def long_at_crossovers(bars: pl.DataFrame) -> pl.DataFrame:
    """The trades from each bullish crossover to the next crossover of the series, as one polars expression."""
    marks = bars.group_by("symbol").agg(pl.col("ts", "close", "bar_number").last().name.prefix("mark_"))
    last = pl.coalesce("exit_close", "mark_close")
    return (
        bars.filter(pl.col("crossover").is_not_null())
        .with_columns(pl.col("ts", "close", "bar_number").shift(-1).over("symbol").name.prefix("exit_"))
        .filter(crossover="bullish")
        .join(marks, on="symbol")
        .select(
            "symbol",
            entry_ts="ts",
            entry_price="close",
            exit_ts="exit_ts",
            exit_price="exit_close",
            last_ts=pl.coalesce("exit_ts", "mark_ts"),
            last_price=last,
            return_pct=(last / pl.col("close") - 1) * 100,
            bars_held=pl.coalesce("exit_bar_number", "mark_bar_number") - pl.col("bar_number"),
            status=pl.when(pl.col("exit_ts").is_null()).then(pl.lit("open")).otherwise(pl.lit("closed")),
        )
        .sort("symbol", "entry_ts")
    )


@given(several(), st.booleans())
def test_the_default_variant_is_long_from_each_bullish_crossover_to_the_next_bearish_one(
    drawn: dict[str, list[Bar]], turned: bool
) -> None:
    bars = frame_of(drawn)
    if turned:
        bars = bars.with_columns(pl.col("crossover").replace({"bullish": "bearish", "bearish": "bullish"}))
    expected = long_at_crossovers(bars)
    assert_frame_equal(simulate(bars, NOTHING, DEFAULT).trades.select(expected.columns), expected, check_exact=True)
