"""Properties of every rule in `discover()`: a new rule gets these tests without a change here."""

import ast
import inspect
import sys
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.model.schemas import KINDS
from ema_assets.signals.discovery import discover as discover_signals
from ema_assets.strategies.rule import Rule
from ema_assets.strategies.simulator.simulation import simulate
from ema_assets.strategies.variant import Variant, reads
from ema_assets_tests.market.series import cut
from ema_assets_tests.strategies.market import BAR_SCHEMA, NOTHING, RULES, Bar, Store, bars_from, frame_of, several

KINDS_READ = {
    column.name: column.kind
    for signal in discover_signals().values()
    for column in signal.columns
    if column.name not in BAR_SCHEMA
}

each_rule = pytest.mark.parametrize("rule", [pytest.param(rule, id=name) for name, rule in RULES.items()])


@st.composite
def variants_of(draw: st.DrawFn, rule: Rule) -> Variant:
    """Any combination of sides, fills, costs, stops, targets and session ends, with the default parameters."""
    side = draw(st.sampled_from(["long", "short", "both"]))
    return Variant(
        "strategy_drawn",
        rule,
        allow_long=side != "short",
        allow_short=side != "long",
        fill=draw(st.sampled_from(["close", "next_open"])),
        cost_bps=draw(st.sampled_from([0.0, 5.0])),
        atr_stop=draw(st.sampled_from([None, 1.5])),
        atr_target=draw(st.sampled_from([None, 2.5])),
        exit_at_session_end=draw(st.booleans()),
    )


def with_all_that_is_read(drawn: dict[str, list[Bar]], rule: Rule) -> pl.DataFrame:
    """The bars, with noise in the columns of signals that the synthetic bars lack."""
    bars = frame_of(drawn)
    random = np.random.default_rng(bars.height)
    noise: dict[str, Any] = {
        "float8": lambda: bars["close"] + pl.Series(random.normal(0, 2, bars.height)),
        "int8": lambda: pl.Series(random.integers(0, 50, bars.height)),
        "boolean": lambda: pl.Series(random.random(bars.height) < 0.5),
        "text": lambda: pl.Series(random.choice(["up", "down"], bars.height)),
        "timestamptz": lambda: bars["ts"],
    }
    for columns in reads(Variant("x", rule)).values():
        for name in columns:
            if name in KINDS_READ:
                kind = KINDS_READ[name]
                bars = bars.with_columns(noise[kind]().cast(KINDS[kind]).alias(name))
    return bars


@each_rule
@given(drawn=several(50), data=st.data())
def test_increments_give_the_same_trades_and_states_as_one_computation(
    rule: Rule, drawn: dict[str, list[Bar]], data: st.DataObject
) -> None:
    variant = data.draw(variants_of(rule))
    bars = with_all_that_is_read(drawn, rule)
    points = {symbol: sorted(data.draw(st.lists(st.integers(0, 50), max_size=4))) for symbol in drawn}
    store = Store(variant)
    for part in cut(bars, points):
        store.go_on(part)
    whole = simulate(bars, NOTHING, variant)
    assert_frame_equal(store.trades, whole.trades, check_exact=True)
    kept = store.states.join(whole.states, on=["symbol", "ts"], how="semi")
    assert_frame_equal(kept, whole.states, check_exact=True)


@each_rule
def test_a_long_history_has_trades_on_both_sides_with_the_declared_reasons(rule: Rule) -> None:
    bars = with_all_that_is_read({"AAPL": bars_from(3, 1500), "MSFT": bars_from(4, 1500)}, rule)
    trades = simulate(bars, NOTHING, Variant("x", rule, allow_short=True)).trades
    for side, entry, leaving in zip(("long", "short"), rule.entry_reasons, rule.exit_reasons, strict=True):
        of_side = trades.filter(side=side)
        assert of_side.height > 5
        assert set(of_side["entry_reason"]) == {entry}
        assert leaving in set(of_side["exit_reason"])
    if not {"stop_long", "stop_short", "trail_long", "trail_short"} & set(rule.evaluate(bars, rule.defaults).columns):
        assert trades["stop_now"].is_null().all()


ALLOWED = ("ema_assets.model.", "ema_assets.strategies.", "collections.abc", "dataclasses", "typing", "math", "numpy", "polars")  # fmt: skip
REFUSED = ("ema_assets.model.clock", "numpy.random")


def refused_imports(source: str) -> set[str]:
    imported = {
        name
        for node in ast.walk(ast.parse(source))
        for name in (
            [f"{node.module}.{each.name}" for each in node.names] if isinstance(node, ast.ImportFrom)
            else [each.name for each in node.names] if isinstance(node, ast.Import)
            else []
        )
    }  # fmt: skip
    return {name for name in imported if not name.startswith(ALLOWED) or name.startswith(REFUSED)}


@each_rule
def test_a_rule_imports_only_the_model_the_strategies_and_libraries_that_compute(rule: Rule) -> None:
    """The result of a rule must depend only on its inputs."""
    assert refused_imports(inspect.getsource(sys.modules[rule.evaluate.__module__])) == set()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("from ema_assets.model import clock", "ema_assets.model.clock"),
        ("from ema_assets.model.clock import now", "ema_assets.model.clock.now"),
        ("import ema_assets.model.clock", "ema_assets.model.clock"),
        ("from datetime import datetime", "datetime.datetime"),
        ("import random", "random"),
        ("from numpy import random", "numpy.random"),
        ("from ema_assets.store.database import Database", "ema_assets.store.database.Database"),
    ],
)
def test_a_rule_that_imports_a_clock_chance_or_a_store_would_be_detected(source: str, name: str) -> None:
    assert refused_imports(source) == {name}
