"""The simulator against a trader who walks through the bars one by one, and against itself in pieces."""

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.strategies.schema import STATE_SCHEMA, TRADE_SCHEMA
from ema_assets.strategies.simulation import simulate
from ema_assets.strategies.variant import Variant
from ema_assets_tests.domain.series import cut
from ema_assets_tests.strategies import reference
from ema_assets_tests.strategies.market import (
    NOTHING,
    Bar,
    Store,
    bars_from,
    frame_of,
    series,
    several,
    variants,
)

KEY = ["symbol", "entry_ts"]


def assert_same(found: pl.DataFrame, expected: list[dict[str, Any]]) -> None:
    """Words, times and prices of trades are equal, figures to 1e-9."""
    assert found.columns == ["symbol", *TRADE_SCHEMA]
    wanted = pl.DataFrame(expected, schema=TRADE_SCHEMA)
    found = found.drop("symbol")
    exact = [name for name in found.columns if found.schema[name] != pl.Float64 or name.endswith("_price")]
    assert_frame_equal(found.select(exact), wanted.select(exact), check_exact=True)
    assert_frame_equal(found, wanted, rel_tol=1e-9, abs_tol=1e-9)


@given(several(), variants())
def test_trades_equal_those_of_the_reference(drawn: dict[str, list[Bar]], variant: Variant) -> None:
    found = simulate(frame_of(drawn), NOTHING, variant).trades
    assert found["symbol"].is_sorted()
    for symbol, bars in drawn.items():
        assert_same(found.filter(symbol=symbol), reference.simulate(bars, variant))


@pytest.mark.parametrize("rule", ["crossover", "pullback"])
def test_long_histories_of_many_series_equal_the_reference(rule: str) -> None:
    variant = Variant("x", rule, True, True, "next_open", 5.0, atr_stop=1.5, atr_target=4.0, exit_at_session_end=True)
    drawn = {f"S{number}": bars_from(number, 40 * number) for number in range(1, 9)}
    found = simulate(frame_of(drawn), NOTHING, variant).trades
    assert found.height > 100
    for symbol, bars in drawn.items():
        assert_same(found.filter(symbol=symbol), reference.simulate(bars, variant))


@given(several(), variants(), st.data())
def test_increments_give_the_same_trades_and_states_as_one_go(
    drawn: dict[str, list[Bar]], variant: Variant, data: st.DataObject
) -> None:
    bars = frame_of(drawn)
    points = {symbol: sorted(data.draw(st.lists(st.integers(0, 80), max_size=4))) for symbol in drawn}
    store = Store(variant)
    for part in cut(bars, points):
        store.go_on(part)
    whole = simulate(bars, NOTHING, variant)
    assert_frame_equal(store.trades, whole.trades, check_exact=True)
    # In pieces more states are kept.
    kept = store.states.join(whole.states, on=["symbol", "ts"], how="semi")
    assert_frame_equal(kept, whole.states, check_exact=True)


@given(several(), variants())
def test_bar_by_bar_gives_the_same_trades_as_one_go(drawn: dict[str, list[Bar]], variant: Variant) -> None:
    bars = frame_of(drawn)
    store = Store(variant)
    for part in cut(bars, dict.fromkeys(drawn, range(1, 80))):
        store.go_on(part)
    assert_frame_equal(store.trades, simulate(bars, NOTHING, variant).trades, check_exact=True)


@given(several(), several(), variants(), st.data())
def test_a_correction_restarted_from_any_state_gives_the_same_as_from_scratch(
    drawn: dict[str, list[Bar]], others: dict[str, list[Bar]], variant: Variant, data: st.DataObject
) -> None:
    """The bars from some point on are others; what was computed after the last state before it is computed again."""
    bars = frame_of(drawn)
    store = Store(variant)
    for part in cut(bars, dict.fromkeys(drawn, range(7, 80, 7))):
        store.go_on(part)
    states = store.states.with_columns(at=pl.col("ts"))
    corrected = []
    for symbol, old in drawn.items():
        point = data.draw(st.integers(0, len(old)), "first bar that changes")
        changed = [
            {**new, "ts": bar["ts"]} for bar, new in zip(old[point:], others.get(symbol, old[point:]), strict=False)
        ]
        corrected.append(frame_of({symbol: old[:point] + changed}))
        before = states.filter(
            pl.col("symbol") == symbol, pl.col("ts") < (old[point]["ts"] if point < len(old) else pl.lit(None))
        )
        chosen = data.draw(st.sampled_from([None, *before["ts"].to_list()]), "state")
        again = corrected[-1] if chosen is None else corrected[-1].filter(pl.col("ts") > chosen)
        store.go_on(again)
        if again.is_empty():
            corrected[-1] = frame_of({symbol: old}) if chosen is None else corrected[-1]
    whole = simulate(pl.concat(corrected).sort("symbol", "ts"), NOTHING, variant)
    gone = [symbol for symbol in drawn if symbol not in whole.states["symbol"].to_list()]
    assert_frame_equal(store.trades.filter(~pl.col("symbol").is_in(gone)), whole.trades, check_exact=True)


@given(several(), variants())
def test_a_series_is_the_same_alone_and_among_others(drawn: dict[str, list[Bar]], variant: Variant) -> None:
    together = simulate(frame_of(drawn), NOTHING, variant)
    for symbol, bars in drawn.items():
        alone = simulate(frame_of({symbol: bars}), NOTHING, variant)
        assert_frame_equal(together.trades.filter(symbol=symbol), alone.trades, check_exact=True)
        assert_frame_equal(together.states.filter(symbol=symbol), alone.states, check_exact=True)


@given(series(60), variants())
def test_nothing_is_known_before_it_happened(bars: list[Bar], variant: Variant) -> None:
    """At every bar, the history up to it has the same closed trades, and its open one as it was then."""
    whole = simulate(frame_of({"AAPL": bars}), NOTHING, variant).trades
    fixed = ["entry_ts", "side", "entry_price", "entry_reason", "stop_price", "target_price"]
    for count in range(1, len(bars)):
        now = bars[count - 1]["ts"]
        seen = simulate(frame_of({"AAPL": bars[:count]}), NOTHING, variant).trades
        later = whole.filter(pl.col("entry_ts") <= now)
        assert_frame_equal(seen.select(fixed), later.select(fixed), check_exact=True)
        closed = pl.col("exit_ts").is_not_null() & (pl.col("exit_ts") <= now)
        assert_frame_equal(seen.filter(closed), later.filter(closed), check_exact=True)
        assert seen.filter(~closed)["status"].to_list() == ["open"] * (seen.height - seen.filter(closed).height)
        assert seen.filter(~closed).height <= 1


@given(several(30), variants())
def test_a_trade_without_a_further_bar_stays_as_it_was(drawn: dict[str, list[Bar]], variant: Variant) -> None:
    bars = frame_of(drawn)
    whole = simulate(bars, NOTHING, variant)
    carried = whole.states.group_by("symbol").last().drop("ts")
    again = simulate(bars.clear(), carried, variant)
    assert_frame_equal(again.trades, whole.trades.filter(status="open"), check_exact=True)
    assert again.states.is_empty()
    others = simulate(bars.filter(symbol="AAPL"), carried.filter(pl.col("symbol") != "AAPL"), variant)
    assert_frame_equal(
        others.trades, pl.concat([whole.trades.filter(symbol="AAPL"), whole.trades.filter(pl.col("symbol") != "AAPL", status="open")]), check_exact=True
    )  # fmt: skip


def test_states_are_kept_every_256_bars_and_for_the_last_eight() -> None:
    bars = bars_from(1, 600)
    states = simulate(frame_of({"AAPL": bars, "MSFT": bars[:5]}), NOTHING, Variant("x")).states
    assert states.schema == {"symbol": pl.String, "ts": states.schema["ts"], **STATE_SCHEMA}
    numbers = {bar["ts"]: bar["bar_number"] for bar in bars}
    assert [numbers[ts] for ts in states.filter(symbol="AAPL")["ts"]] == [256, 512, *range(593, 601)]
    assert [numbers[ts] for ts in states.filter(symbol="MSFT")["ts"]] == [1, 2, 3, 4, 5]


def test_no_bars_and_nothing_carried_give_empty_tables_of_the_right_types() -> None:
    found = simulate(frame_of({}), NOTHING, Variant("x", "pullback"))
    assert found.trades.schema == {"symbol": pl.String, **TRADE_SCHEMA}
    assert found.states.schema["order_price"] == pl.Float64
