"""The event loop in Python and in machine code, and features of it that no rule of the package uses."""

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.model.schemas import UTC_TIME
from ema_assets.strategies.rule import FLAGS, PRICES
from ema_assets.strategies.simulator import simulation
from ema_assets.strategies.simulator.simulation import Simulated, simulate
from ema_assets.strategies.variant import Variant
from ema_assets_tests.strategies.market import (
    CROSSOVER,
    NOTHING,
    RULES,
    Bar,
    Store,
    bars_at,
    bars_from,
    frame_of,
    series,
    several,
    variants,
)
from ema_assets_tests.timeframes import H1


def in_machine_code(bars: pl.DataFrame, carried: pl.DataFrame, variant: Variant) -> Simulated:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation.TRADE, "is_worth_it", lambda _: True)
        return simulate(bars, carried, variant)


def in_python(bars: pl.DataFrame, carried: pl.DataFrame, variant: Variant) -> Simulated:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation.TRADE, "is_worth_it", lambda _: False)
        return simulate(bars, carried, variant)


def assert_same(one: Simulated, other: Simulated) -> None:
    assert_frame_equal(one.trades, other.trades, check_exact=True)
    assert_frame_equal(one.states, other.states, check_exact=True)


@given(several(60), series(60), variants(), st.booleans())
def test_machine_code_gives_the_same_bits_as_python(
    drawn: dict[str, list[Bar]], more: list[Bar], variant: Variant, goes_through_zero: bool
) -> None:
    bars = frame_of(drawn)
    if goes_through_zero:
        bars = bars.with_columns(pl.col("open", "high", "low", "close", "ema_9", "wma_30") - 100)
    whole = in_python(bars, NOTHING, variant)
    assert_same(in_machine_code(bars, NOTHING, variant), whole)
    carried = whole.states.group_by("symbol").last().drop("ts")
    after = frame_of(dict.fromkeys(drawn, more))
    assert_same(in_machine_code(after, carried, variant), in_python(after, carried, variant))


def test_warming_up_compiles_the_only_machine_code_of_all_variants_and_lengths() -> None:
    """An argument of another type would be compiled in the middle of a run, which takes seconds."""
    simulation.warm_up()
    bars = frame_of({"A": bars_from(1, 30), "B": bars_from(2, 1)})
    for rule_name in ("crossover", "pullback"):
        plain = Variant("x", RULES[rule_name], True, True)
        full = replace(plain, atr_stop=1.0, atr_target=2.0, exit_at_session_end=True, higher_timeframe=H1)
        for variant in (plain, full, replace(full, fill="next_open", min_spread_pct=0.1)):
            states = in_machine_code(bars, NOTHING, variant).states
            in_machine_code(bars.head(1), states.group_by("symbol").last().drop("ts"), variant)
    assert len(simulation.TRADE.machine_code.signatures) == 1  # type: ignore[attr-defined]


# --- what a rule may return -------------------------------------------------------------------------------------------


def trades_of(bars: list[Bar], variant: Variant | None = None, **columns: Any) -> list[dict[str, Any]]:
    variant = variant or Variant("x", CROSSOVER, True, True)
    said = pl.DataFrame({"ts": [bar["ts"] for bar in bars], **columns}, schema_overrides={"ts": UTC_TIME})
    rule = replace(
        CROSSOVER, evaluate=lambda frame, _: frame.select("ts").join(said, on="ts", maintain_order="left").drop("ts")
    )
    return simulate(frame_of({"A": bars}), NOTHING, replace(variant, rule=rule)).trades.rows(named=True)


def picked(trade: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(trade[name] for name in names)


FLAT = (100.0, 101.0, 99.0, 100.0)


def test_an_entry_at_the_close_has_the_stop_of_its_bar() -> None:
    bars = bars_at(FLAT, FLAT, (100.0, 101.0, 97.0, 98.0))
    (trade,) = trades_of(bars, enter_long=[True, False, False], stop_long=[98.0, 99.5, 99.5])
    assert picked(trade, "entry_price", "stop_price", "exit_price", "exit_reason") == (100.0, 98.0, 98.0, "stop")


def test_an_entry_at_the_next_open_has_the_stop_of_the_bar_with_its_signal() -> None:
    bars = bars_at(FLAT, (103.0, 104.0, 102.0, 103.0), (103.0, 103.0, 100.0, 101.0))
    variant = Variant("x", CROSSOVER, fill="next_open")
    (trade,) = trades_of(bars, variant, enter_long=[True, False, False], stop_long=[101.5, 90.0, 90.0])
    assert picked(trade, "entry_price", "stop_price", "exit_price", "exit_reason") == (103.0, 101.5, 101.5, "stop")


def test_a_stop_may_start_to_trail_in_a_trade_that_was_entered_without_one() -> None:
    bars = bars_at(FLAT, FLAT, (100.0, 100.5, 98.0, 99.0))
    (trade,) = trades_of(bars, enter_long=[True, False, False], trail_long=[None, 99.0, 99.5])
    assert picked(trade, "stop_price", "stop_now", "exit_price", "exit_reason", "r_multiple") == (
        None, 99.0, 99.0, "trailing_stop", None,
    )  # fmt: skip


def test_the_stop_of_a_short_trade_only_falls() -> None:
    bars = bars_at(FLAT, FLAT, FLAT, (100.0, 103.0, 99.0, 100.0))
    (trade,) = trades_of(
        bars, enter_short=[True, False, False, False], trail_short=[None, 102.0, 105.0, None], stop_short=[110.0] * 4
    )
    assert picked(trade, "stop_price", "exit_price", "exit_reason") == (110.0, 102.0, "trailing_stop")


def test_a_bar_with_entries_on_both_sides_enters_neither() -> None:
    assert trades_of(bars_at(FLAT, FLAT), enter_long=[True, False], enter_short=[True, False]) == []
    long_only = Variant("x", CROSSOVER)
    (trade,) = trades_of(bars_at(FLAT, FLAT), long_only, enter_long=[True, False], enter_short=[True, False])
    assert trade["side"] == "long", "the variant does not sell short, so one side is left"


def test_a_rule_without_exits_keeps_its_first_trade_open() -> None:
    (trade,) = trades_of(bars_at(FLAT, FLAT, FLAT), enter_long=[True, True, True], enter_short=[False, True, False])
    assert picked(trade, "status", "bars_held") == ("open", 2)


def test_an_order_without_a_price_is_not_placed() -> None:
    bars = bars_at(FLAT, (100.0, 105.0, 100.0, 104.0))
    assert trades_of(bars, enter_long=[True, False], order_long=pl.Series([None, 0.0], dtype=pl.Float64)) == []
    (trade,) = trades_of(bars, enter_long=[True, False], order_long=[102.0, 0.0])
    assert picked(trade, "entry_price", "stop_price", "last_price") == (102.0, None, 104.0)


def test_an_order_stays_until_the_rule_cancels_it() -> None:
    bars = bars_at(FLAT, FLAT, (100.0, 105.0, 100.0, 104.0))
    asked: dict[str, Any] = {"enter_long": [True, False, False], "order_long": [102.0, 0.0, 0.0]}
    (trade,) = trades_of(bars, **asked)
    assert trade["entry_price"] == 102.0
    assert trades_of(bars, **asked, cancel_long=[False, True, False]) == []
    assert len(trades_of(bars, **asked, cancel_short=[False, True, False])) == 1


def test_no_order_is_placed_while_a_trade_is_open() -> None:
    bars = bars_at(FLAT, (100.0, 105.0, 100.0, 104.0), FLAT, (100.0, 100.0, 90.0, 91.0))
    trades = trades_of(
        bars,
        enter_long=[True, False, False, False],
        enter_short=[False, False, True, False],
        order_long=[102.0] * 4,
        order_short=[98.0] * 4,
        leave_long=[False, False, False, True],
    )
    assert [picked(trade, "side", "entry_price", "exit_price") for trade in trades] == [("long", 102.0, 91.0)]


@pytest.mark.broad
@given(several(40), variants())
def test_increments_with_trailing_stops_and_orders_on_both_sides_equal_one_computation(
    drawn: dict[str, list[Bar]], variant: Variant
) -> None:
    """The rule uses every column that a rule may have."""
    spread = pl.col("wma_30") - pl.col("close")
    rule = replace(
        CROSSOVER,
        evaluate=lambda bars, _: bars.select(
            enter_long=spread > 0,
            enter_short=spread < 0,
            leave_long=pl.col("spread_pct") < 0,
            leave_short=pl.col("spread_pct") > 0,
            cancel_long=spread < -2,
            cancel_short=spread > 2,
            order_long=pl.col("high") + 1,
            order_short=pl.col("low") - 1,
            stop_long=pl.col("low") - 3,
            stop_short=pl.col("high") + 3,
            trail_long=pl.col("low") - 2,
            trail_short=pl.col("high") + 2,
        ),
    )
    variant = replace(variant, rule=rule)
    bars = frame_of(drawn)
    assert {*rule.evaluate(bars, {}).columns} == {*FLAGS, *PRICES}
    store = Store(variant)
    for part in bars.with_columns(part=pl.col("bar_number") // 7).partition_by("part", maintain_order=True):
        store.go_on(part.drop("part").sort("symbol", "ts"))
    whole = simulate(bars, NOTHING, variant)
    assert_frame_equal(store.trades, whole.trades, check_exact=True)
    assert_same(in_machine_code(bars, NOTHING, variant), whole)
