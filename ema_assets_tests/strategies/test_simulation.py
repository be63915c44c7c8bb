"""The simulator equals a plain reference that sees one bar at a time, and equals itself in increments."""

from collections import Counter
from itertools import product
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.strategies.simulator.simulation import simulate
from ema_assets.strategies.trade_columns import STATE_SCHEMA, TRADE_SCHEMA
from ema_assets.strategies.variant import Variant
from ema_assets_tests.conftest import heavy
from ema_assets_tests.market.series import cut
from ema_assets_tests.strategies import reference
from ema_assets_tests.strategies.market import (
    CROSSOVER,
    DEFAULT,
    NOTHING,
    PULLBACK,
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

KEY = ["symbol", "entry_ts"]


def assert_same(actual: pl.DataFrame, expected: list[dict[str, Any]]) -> None:
    """Check that words, times and prices of trades are equal, and that other figures are equal to 1e-9."""
    assert actual.columns == ["symbol", *TRADE_SCHEMA]
    wanted = pl.DataFrame(expected, schema=TRADE_SCHEMA)
    actual = actual.drop("symbol")
    exact = [name for name in actual.columns if actual.schema[name] != pl.Float64 or name.endswith("_price")]
    assert_frame_equal(actual.select(exact), wanted.select(exact), check_exact=True)
    assert_frame_equal(actual, wanted, rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.broad
@given(several(), variants())
def test_trades_equal_those_of_the_reference(drawn: dict[str, list[Bar]], variant: Variant) -> None:
    actual = simulate(frame_of(drawn), NOTHING, variant).trades
    assert actual["symbol"].is_sorted()
    for symbol, bars in drawn.items():
        assert_same(actual.filter(symbol=symbol), reference.simulate(bars, variant))


REASONS = {
    "crossover": {"bearish_crossover", "bullish_crossover", "stop", "target", "session_end", "session_missed"},
    "pullback": {"trend_end", "stop", "trailing_stop", "target", "session_end", "session_missed"},
}


@pytest.mark.parametrize("rule", ["crossover", "pullback"])
def test_long_histories_of_many_series_equal_the_reference(rule: str) -> None:
    """All combinations of stops, targets, fills and session ends. Every possible exit reason occurs on both sides."""
    drawn = {f"S{number}": bars_from(number, 100 * number) for number in range(1, 7)}
    bars = frame_of(drawn)
    reasons: Counter[tuple[str, str]] = Counter()
    for fill, atr_stop, atr_target, ends in product(["close", "next_open"], [None, 1.5], [None, 3.0], [False, True]):
        variant = Variant("x", RULES[rule], True, True, fill, 5.0, 0.1, None, atr_stop, atr_target, ends)
        actual = simulate(bars, NOTHING, variant).trades
        for symbol, rows in drawn.items():
            assert_same(actual.filter(symbol=symbol), reference.simulate(rows, variant))
        reasons.update(actual.filter(status="closed").select("side", "exit_reason").rows())
    expected = set(product(["long", "short"], REASONS[rule])) - {
        ("long", "bullish_crossover"),
        ("short", "bearish_crossover"),
    }
    assert set(reasons) == expected


@pytest.mark.broad
@given(several(50), variants(), st.data())
def test_increments_give_the_same_trades_and_states_as_one_computation(
    drawn: dict[str, list[Bar]], variant: Variant, data: st.DataObject
) -> None:
    bars = frame_of(drawn)
    points = {symbol: sorted(data.draw(st.lists(st.integers(0, 50), max_size=4))) for symbol in drawn}
    store = Store(variant)
    for part in cut(bars, points):
        store.go_on(part)
    whole = simulate(bars, NOTHING, variant)
    assert_frame_equal(store.trades, whole.trades, check_exact=True)
    # A computation in increments keeps more states.
    kept = store.states.join(whole.states, on=["symbol", "ts"], how="semi")
    assert_frame_equal(kept, whole.states, check_exact=True)


@pytest.mark.broad
@given(several(50), variants(), st.data())
def test_increments_through_zero_give_the_same_trades_and_every_figure_is_finite_or_null(
    drawn: dict[str, list[Bar]], variant: Variant, data: st.DataObject
) -> None:
    """The prices of the other tests minus 100, which is about where they begin."""
    prices = ("open", "high", "low", "close", "ema_9", "wma_30")
    bars = frame_of(drawn).with_columns(pl.col(prices) - 100)
    points = {symbol: sorted(data.draw(st.lists(st.integers(0, 50), max_size=4))) for symbol in drawn}
    store = Store(variant)
    for part in cut(bars, points):
        store.go_on(part)
    trades = simulate(bars, NOTHING, variant).trades
    assert_frame_equal(store.trades, trades, check_exact=True)
    for column in trades.select(pl.selectors.float()):
        assert column.drop_nulls().is_finite().all(), column.name
    is_defined = (pl.col("entry_price") > 0) & (pl.col("last_price") > 0)
    assert trades.filter(is_defined != pl.col("return_pct").is_not_null()).is_empty()
    # Figures that are summed over the bars need a return. All of them have a value or none of them has one.
    for name in ("bar_returns_sum", "bar_returns_square_sum", "equity_peak", "equity_trough"):
        assert trades.filter(pl.col(name).is_null() != pl.col("drawdown").is_null()).is_empty(), name
    assert trades.filter(pl.col("drawdown").is_not_null() & pl.col("return_pct").is_null()).is_empty()


@pytest.mark.parametrize("point", [1, 2, 3])
def test_a_figure_that_is_undefined_within_a_trade_stays_undefined_after_an_increment(point: int) -> None:
    """The only trade is open, and its price was below zero at one close."""
    bars = frame_of({"CL": bars_at(*[(close, close, close, close) for close in (1.0, -0.5, 1.5, 2.0)])})
    bars = bars.with_columns(crossover=pl.when(pl.col("bar_number") == 1).then(pl.lit("bullish")))
    store = Store(DEFAULT)
    for part in cut(bars, {"CL": [point]}):
        store.go_on(part)
    assert_frame_equal(store.trades, simulate(bars, NOTHING, DEFAULT).trades, check_exact=True)
    trade = store.trades.row(0, named=True)
    assert (trade["return_pct"], trade["bar_returns_sum"], trade["drawdown"]) == (100.0, None, None)


@heavy(2)
@given(several(20), variants())
def test_bar_by_bar_gives_the_same_trades_as_one_computation(drawn: dict[str, list[Bar]], variant: Variant) -> None:
    bars = frame_of(drawn)
    store = Store(variant)
    for part in cut(bars, dict.fromkeys(drawn, range(1, 20))):
        store.go_on(part)
    assert_frame_equal(store.trades, simulate(bars, NOTHING, variant).trades, check_exact=True)


@pytest.mark.broad
@given(several(40), series(40), variants(), st.data())
def test_a_correction_gives_the_same_from_any_earlier_state_as_from_the_first_bar_on(
    drawn: dict[str, list[Bar]], others: list[Bar], variant: Variant, data: st.DataObject
) -> None:
    """The bars differ from some bar on. The computation may continue from any state before that bar."""
    store = Store(variant)
    for part in cut(frame_of(drawn), dict.fromkeys(drawn, range(7, 40, 7))):
        store.go_on(part)
    corrected = {}
    for symbol, old in drawn.items():
        point = data.draw(st.integers(0, len(old)), "first bar that changes")
        kept = ("ts", "session", "is_session_last", "bar_number")
        new = [{**other, **{name: bar[name] for name in kept}} for bar, other in zip(old, others, strict=False)]
        corrected[symbol] = old[:point] + new[point:] + old[max(point, len(new)) :]
        times = store.states.filter(symbol=symbol)["ts"].to_list()
        before = [ts for ts in times if point == len(old) or ts < old[point]["ts"]]
        chosen = data.draw(st.sampled_from([None, *before]), "state")
        store.go_on(frame_of({symbol: [bar for bar in corrected[symbol] if chosen is None or bar["ts"] > chosen]}))
    whole = simulate(frame_of(corrected), NOTHING, variant)
    assert_frame_equal(store.trades, whole.trades, check_exact=True)
    kept_states = store.states.join(whole.states, on=["symbol", "ts"], how="semi")
    assert_frame_equal(kept_states, whole.states, check_exact=True)


@pytest.mark.broad
@given(several(), variants())
def test_a_series_has_the_same_results_alone_and_among_others(drawn: dict[str, list[Bar]], variant: Variant) -> None:
    together = simulate(frame_of(drawn), NOTHING, variant)
    for symbol, bars in drawn.items():
        alone = simulate(frame_of({symbol: bars}), NOTHING, variant)
        assert_frame_equal(together.trades.filter(symbol=symbol), alone.trades, check_exact=True)
        assert_frame_equal(together.states.filter(symbol=symbol), alone.states, check_exact=True)


@given(series(30), variants())
def test_no_trade_depends_on_later_bars(bars: list[Bar], variant: Variant) -> None:
    """The history up to each bar has the closed trades of the whole history, and the open trade as it was then."""
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
def test_an_open_trade_without_a_further_bar_stays_as_it_was(drawn: dict[str, list[Bar]], variant: Variant) -> None:
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


@pytest.mark.broad
def test_states_are_kept_every_256_bars_and_for_the_last_eight_bars() -> None:
    bars = bars_from(1, 600)
    states = simulate(frame_of({"AAPL": bars, "MSFT": bars[:5]}), NOTHING, Variant("x", CROSSOVER)).states
    assert states.schema == {"symbol": pl.String, "ts": pl.Datetime("us", "UTC"), **STATE_SCHEMA}
    numbers = {bar["ts"]: bar["bar_number"] for bar in bars}
    assert [numbers[ts] for ts in states.filter(symbol="AAPL")["ts"]] == [256, 512, *range(593, 601)]
    assert [numbers[ts] for ts in states.filter(symbol="MSFT")["ts"]] == [1, 2, 3, 4, 5]


@pytest.mark.broad
def test_no_bars_and_no_carried_state_give_empty_frames_of_the_right_types() -> None:
    actual = simulate(frame_of({}), NOTHING, Variant("x", PULLBACK))
    assert actual.trades.schema == {"symbol": pl.String, **TRADE_SCHEMA}
    assert actual.states.schema["order_price"] == pl.Float64
