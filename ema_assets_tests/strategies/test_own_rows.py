"""A rule that uses other bars is refused wherever it is evaluated, and any other rule never is."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_assets.model.errors import RuleError
from ema_assets.strategies.simulator import own_rows
from ema_assets.strategies.simulator.simulation import simulate
from ema_assets.strategies.variant import Variant
from ema_assets_tests.strategies.market import CROSSOVER, NOTHING, RULES, Bar, bars_from, frame_of, several, variants

CLOSE, FAST = pl.col("close"), pl.col("ema_9")
# The same bars in each run: few, where every second one is left out, and many, of which some are chosen.
FEW = frame_of({"A": bars_from(1, 20), "B": bars_from(2, 17)})
MANY = frame_of({name: bars_from(seed, 900 - 40 * seed) for seed, name in enumerate("ABC")})
each_size = pytest.mark.parametrize("bars", [pytest.param(FEW, id="few"), pytest.param(MANY, id="many")])


def evaluated(bars: pl.DataFrame, evaluate: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Simulate with this rule, so that the error about the rule is raised."""
    rule = replace(CROSSOVER, name="mine", evaluate=lambda frame, _: evaluate(frame))
    simulate(bars, NOTHING, Variant("x", rule, allow_short=True))


@each_size
@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(CLOSE.shift(1).over("symbol") < CLOSE, id="one bar back"),
        pytest.param(CLOSE.shift(7).over("symbol") < CLOSE, id="seven bars back"),
        pytest.param(CLOSE.shift(-1).over("symbol") < CLOSE, id="one bar ahead"),
        pytest.param(CLOSE.shift(1) < CLOSE, id="one bar back, of any symbol"),
        pytest.param((CLOSE.diff().over("symbol") > 0).fill_null(value=True), id="without nulls"),
        pytest.param((FAST > 100) & (CLOSE.shift(1).over("symbol") < CLOSE), id="behind another condition"),
        pytest.param(CLOSE.rolling_mean(5, min_samples=1).over("symbol") < CLOSE, id="a window"),
        pytest.param(CLOSE.cum_max().over("symbol") == CLOSE, id="the highest so far"),
        pytest.param(CLOSE.max() <= CLOSE, id="the highest of all"),
        pytest.param(pl.int_range(pl.len()).over("symbol") % 10 == 0, id="counted"),
        pytest.param(FAST.forward_fill().over("symbol") > CLOSE, id="filled from before"),
        pytest.param(pl.col("crossover").is_first_distinct(), id="the first one"),
    ],
)
def test_a_rule_that_uses_other_bars_is_refused(bars: pl.DataFrame, entry: pl.Expr) -> None:
    with pytest.raises(RuleError, match="`evaluate` must use only the row of each bar, but `enter_long` of "):
        evaluated(bars, lambda frame: frame.select(enter_long=entry, leave_long=CLOSE < FAST))


@each_size
@pytest.mark.parametrize("column", ["stop_long", "trail_long", "order_long", "leave_long", "cancel_short"])
def test_each_kind_of_column_is_checked(bars: pl.DataFrame, column: str) -> None:
    before = CLOSE.shift(1).over("symbol")
    looking = before if column.startswith(("stop", "trail", "order")) else before > CLOSE
    with pytest.raises(RuleError, match=f"but `{column}` of "):
        evaluated(bars, lambda frame: frame.select(looking.alias(column), enter_long=CLOSE > FAST))


@each_size
def test_a_column_that_exists_only_because_of_other_bars_is_refused(bars: pl.DataFrame) -> None:
    def evaluate(frame: pl.DataFrame) -> pl.DataFrame:
        said = frame.select(enter_long=CLOSE > FAST, order_long=pl.when(pl.int_range(pl.len()) == 1).then("high"))
        return said if said["order_long"].null_count() < frame.height else said.drop("order_long")

    with pytest.raises(RuleError, match="but `order_long` of "):
        evaluated(bars, evaluate)


def test_a_rule_may_change_what_it_gets_in_place() -> None:
    def evaluate(frame: pl.DataFrame, params: Any) -> pl.DataFrame:
        fast = params.pop("fast")
        frame.insert_column(0, (frame["close"] > fast).alias("enter_long"))
        return frame.select("enter_long")

    variant = Variant("x", replace(CROSSOVER, name="mine", evaluate=evaluate), params={"fast": 0})
    assert simulate(FEW, NOTHING, variant).trades.height == 2
    assert variant.params["fast"] == 0


def test_the_error_states_the_rule_its_line_and_the_bar() -> None:
    with pytest.raises(RuleError) as caught:
        evaluated(FEW, lambda frame: frame.select(enter_long=CLOSE.shift(1).over("symbol") < CLOSE))
    said = str(caught.value)
    assert said.startswith(f"rule 'mine' in {__file__}, line ")
    assert ": `evaluate` must use only the row of each bar, but `enter_long` of A at 2026-07-" in said
    assert said.endswith("left out; what looks back is a signal's business (docs/SIGNALS.md)")


@each_size
@pytest.mark.parametrize("column", ["stop_long", "stop_short", "trail_long", "order_short"])
def test_an_infinite_price_is_refused(bars: pl.DataFrame, column: str) -> None:
    infinite = pl.when(pl.col("bar_number") == 3).then(CLOSE / 0).otherwise(CLOSE)
    said = f"`evaluate` must return a finite price or null in `{column}`, received infinity; is something divided by 0"
    with pytest.raises(RuleError, match=said):
        evaluated(bars, lambda frame: frame.select(infinite.alias(column), enter_long=CLOSE > FAST))


@each_size
@pytest.mark.parametrize(
    "evaluate",
    [
        pytest.param(lambda frame: frame.select(enter_long=CLOSE > FAST, leave_long=CLOSE < FAST), id="nulls"),
        pytest.param(
            lambda frame: frame.select(
                enter_long=CLOSE > 100, stop_long=pl.when(CLOSE > 105).then(float("nan")).otherwise(CLOSE / 3)
            ),
            id="NaN",
        ),
        pytest.param(
            lambda frame: frame.select(
                enter_long=CLOSE > 100, order_long=pl.when(CLOSE != 100).then((CLOSE - 100).log())
            ),
            id="NaN, null",
        ),
        pytest.param(lambda frame: frame.select(enter_long=pl.when(CLOSE < 0).then(pl.lit(value=True))), id="never"),
        pytest.param(
            lambda frame: pl.DataFrame({"enter_long": frame["close"].to_numpy() % 2 == 0, "trail_long": frame["low"]}),
            id="numpy",
        ),
        pytest.param(
            lambda frame: frame.select(enter_long=pl.col("symbol").replace_strict({"A": 99, "B": 101, "C": 1}) < CLOSE),
            id="symbols by name",
        ),
        pytest.param(lambda frame: frame.select(enter_long=pl.col("ts").dt.minute() == 0), id="the time"),
        pytest.param(lambda frame: frame.select(enter_long=pl.col("bar_number") % 5 == 0), id="the number"),
        pytest.param(
            lambda frame: frame.select(enter_long=CLOSE.map_batches(lambda c: pl.Series([each > 100 for each in c]))),
            id="Python",
        ),
    ],
)
def test_a_rule_that_uses_only_the_row_is_not_refused(bars: pl.DataFrame, evaluate: Any) -> None:
    evaluated(bars, evaluate)


@given(several(60), variants())
def test_no_rule_of_the_package_is_refused(drawn: dict[str, list[Bar]], variant: Variant) -> None:
    bars = frame_of(drawn)
    for rule in RULES.values():
        evaluate = replace(variant, rule=rule, params={}).rule.evaluate
        said = evaluate(bars, rule.defaults)
        assert own_rows.difference(bars, said, lambda part: evaluate(part, rule.defaults)) is None  # noqa: B023


@pytest.mark.broad
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(4, 700))
def test_a_shift_of_any_length_is_detected(seed: int, length: int, count: int) -> None:
    bars = frame_of({"A": bars_from(seed, count + length)})

    def evaluate(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.select(stop_long=CLOSE.shift(length).over("symbol"))

    assert own_rows.difference(bars, evaluate(bars), evaluate) is not None
