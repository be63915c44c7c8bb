"""Variants as a configuration declares them, their versions, and what they read."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from ema_assets.model.declarations import Param, Params
from ema_assets.model.errors import ConfigurationError
from ema_assets.strategies.variant import Variant, code_version, reads
from ema_assets.strategies.watchlist_rows import parse_variants, variants_of
from ema_assets_tests.strategies.market import CROSSOVER, DEFAULT, PULLBACK, RULES
from ema_assets_tests.timeframes import D1, H1, M5

ALL_RULES = ", ".join(RULES)


def test_without_rows_the_two_built_in_variants_exist() -> None:
    assert parse_variants([], "watchlist") == (DEFAULT, Variant("strategy_9_30_pullback", PULLBACK))
    assert DEFAULT.name == "strategy_9_30_ema"
    assert (DEFAULT.side, DEFAULT.fill, DEFAULT.cost_bps) == ("long", "close", 0.0)


def test_a_row_may_have_every_option() -> None:
    row = {
        "name": "swing",
        "rule": "pullback",
        "side": "both",
        "fill": "next_open",
        "cost_bps": 5,
        "min_spread_pct": 0.1,
        "higher_timeframe": "1h",
        "atr_stop": 2.0,
        "atr_target": 3,
        "exit_at_session_end": True,
    }
    assert parse_variants([row], "watchlist")[2] == Variant(
        "strategy_swing", PULLBACK, True, True, "next_open", 5.0, 0.1, H1, 2.0, 3.0, True
    )


def test_a_row_with_the_name_of_a_built_in_variant_changes_that_variant() -> None:
    crossover, pullback = parse_variants([{"name": "crossover", "side": "short", "cost_bps": 1.5}], "watchlist")
    assert crossover == Variant("strategy_9_30_ema", CROSSOVER, allow_long=False, allow_short=True, cost_bps=1.5)
    assert pullback.rule.name == "pullback"


def test_a_variant_can_be_switched_off() -> None:
    rows = [{"name": "pullback", "enabled": False}, {"name": "x", "rule": "crossover", "enabled": False}]
    assert parse_variants(rows, "watchlist") == (DEFAULT,)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"name": "a", "rule": "crossover", "atr_stops": 2}, "unknown key `atr_stops`, allowed are name, .*; did you mean `atr_stop`?"),
        ({"rule": "crossover"}, "strategy 1: `name` must be 1 to 24 lower-case letters.*, received None"),
        ({"name": "Big"}, "strategy 'Big': `name` must be .* received 'Big'"),
        ({"name": "performance", "rule": "crossover"}, "the table of a `name` must not be strategy_performance, which is another asset, received 'performance'"),
        ({"name": "pullback_1h", "rule": "pullback"}, "the table of a `name` must not end in _1h, as the tables of timeframes and states do, received 'pullback_1h'"),
        ({"name": "quarter_3mo", "rule": "pullback"}, "must not end in _3mo, as the tables"),
        ({"name": "mine_state", "rule": "pullback"}, "must not end in _state, as the tables"),
        ({"name": "a"}, f"`rule` must be one of {ALL_RULES}, it is missing"),
        ({"name": "a", "rule": "breakout"}, f"`rule` must be one of {ALL_RULES}, received 'breakout'"),
        ({"name": "pullback", "rule": "crossover"}, "`rule` of the variant 'pullback' is 'pullback', received 'crossover'"),
        ({"name": "crossover", "side": "up"}, "`side` must be one of long, short, both, received 'up'"),
        ({"name": "crossover", "fill": 1}, "`fill` must be one of close, next_open, received 1"),
        ({"name": "crossover", "cost_bps": -1}, "`cost_bps` must be a number from 0 to 1000, received -1"),
        ({"name": "crossover", "cost_bps": True}, "`cost_bps` must be a number from 0 to 1000, received True"),
        ({"name": "crossover", "cost_bps": float("nan")}, "`cost_bps` must be a number from 0 to 1000, received nan"),
        ({"name": "crossover", "min_spread_pct": "1"}, "`min_spread_pct` must be a number from 0 to 100, received '1'"),
        ({"name": "crossover", "atr_stop": 0}, "`atr_stop` must be a number from 0.01 to 100, received 0"),
        ({"name": "crossover", "atr_target": 101}, "`atr_target` must be a number from 0.01 to 100, received 101"),
        ({"name": "crossover", "higher_timeframe": "60m"}, "`higher_timeframe` must be one of 1m, .*, or any other number of minutes or hours below a day, such as 90m, received '60m'; did you mean `1h`?"),
        ({"name": "crossover", "exit_at_session_end": 1}, "`exit_at_session_end` must be true or false, received 1"),
        ({"name": "crossover", "enabled": "no"}, "`enabled` must be true or false, received 'no'"),
    ],
)  # fmt: skip
def test_an_error_states_the_row_the_key_and_the_allowed_values(row: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as raised:
        parse_variants([row], "my.toml")
    assert str(raised.value).startswith("my.toml: strategy ")


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda params: {9: None}[params["fast"]], "`check` must take these parameters: KeyError: 5"),
        (lambda params: params["fast"] < 9, "`check` must say in a text what is wrong, or None, received True"),
    ],
)
def test_a_check_that_fails_with_the_parameters_of_a_row_is_named(check: Callable[[Params], str], said: str) -> None:
    rules = RULES | {"mine": replace(CROSSOVER, name="mine", table=None, check=check)}
    with pytest.raises(ConfigurationError) as raised:
        variants_of([{"name": "a", "rule": "mine", "fast": 5}], "my.toml", rules)
    assert str(raised.value) == f"my.toml: strategy 'a', rule 'mine': {said}"


def test_a_name_may_be_used_only_once() -> None:
    with pytest.raises(ConfigurationError, match="the name 'crossover' is used twice"):
        parse_variants([{"name": "crossover"}, {"name": "crossover"}], "watchlist")


def test_rows_must_be_tables() -> None:
    with pytest.raises(ConfigurationError, match=r"written `\[\[strategy\]\]`"):
        parse_variants(["crossover"], "watchlist")  # type: ignore[list-item]


def test_a_misspelt_rule_side_or_key_gets_a_hint() -> None:
    for row, hint in (
        ({"name": "a", "rule": "crosover"}, "received 'crosover'; did you mean `crossover`?"),
        ({"name": "crossover", "side": "shrt"}, "received 'shrt'; did you mean `short`?"),
        ({"name": "a", "rule": "mine", "strength": 1}, f"`rule` must be one of {ALL_RULES}, received 'mine'"),
        ({"name": "a", "rul": "crossover"}, "unknown key `rul`, .*; did you mean `rule`?"),
    ):
        with pytest.raises(ConfigurationError, match=hint.replace("?", "[?]")):
            parse_variants([row], "watchlist")


def test_a_version_contains_the_changed_options() -> None:
    assert code_version(DEFAULT) == "3"
    assert code_version(Variant("another", CROSSOVER)) == "3"
    assert (
        code_version(Variant("x", PULLBACK, allow_short=True, atr_stop=2.0))
        == "3 atr_stop=2.0 rule=pullback@2 side=both"
    )


@pytest.mark.parametrize(
    ("row", "version"),
    [
        ({"name": "crossover"}, "3"),
        ({"name": "pullback"}, "3 rule=pullback@2"),
        ({"name": "x", "rule": "crossover", "side": "short"}, "3 side=short"),
        ({"name": "x", "rule": "crossover", "fill": "next_open", "cost_bps": 5}, "3 cost_bps=5.0 fill=next_open"),
        ({"name": "x", "rule": "crossover", "side": "long", "cost_bps": 0, "exit_at_session_end": False}, "3"),
        ({"name": "x", "rule": "crossover", "side": "both", "higher_timeframe": "1h"}, "3 higher_timeframe=1h side=both"),
        ({"name": "x", "rule": "crossover", "min_spread_pct": 0.25, "atr_target": 3}, "3 atr_target=3.0 min_spread_pct=0.25"),
        (
            {
                "name": "x", "rule": "pullback", "side": "both", "fill": "next_open", "cost_bps": 1.5, "min_spread_pct": 1,
                "higher_timeframe": "1d", "atr_stop": 2, "atr_target": 0.5, "exit_at_session_end": True,
            },
            "3 atr_stop=2.0 atr_target=0.5 cost_bps=1.5 exit_at_session_end=True fill=next_open higher_timeframe=1d min_spread_pct=1.0 rule=pullback@2 side=both",
        ),
    ],
)  # fmt: skip
def test_a_version_keeps_the_text_that_databases_store(row: dict[str, object], version: str) -> None:
    """Another text for the same trades would make every series recompute."""
    by_name = {variant.name: variant for variant in parse_variants([row], "watchlist")}
    table = {"crossover": "strategy_9_30_ema", "pullback": "strategy_9_30_pullback", "x": "strategy_x"}[
        str(row["name"])
    ]
    assert code_version(by_name[table]) == version


def test_a_new_version_of_a_rule_is_part_of_the_versions_of_its_variants() -> None:
    assert code_version(Variant("x", replace(CROSSOVER, version="2"))) == "3 rule=crossover@2"
    assert code_version(Variant("x", replace(PULLBACK, version="3"), atr_stop=1.0)) == "3 atr_stop=1.0 rule=pullback@3"


def test_a_version_contains_the_changed_parameters_of_the_rule() -> None:
    rule = replace(PULLBACK, params={"bars": Param(3, "How many"), "eager": Param(False, "At once")})
    assert code_version(Variant("x", rule)) == "3 rule=pullback@2"
    assert code_version(Variant("x", rule, params={"eager": True})) == "3 eager=True rule=pullback@2"
    assert Variant("x", rule, params={"eager": True}).params == {"bars": 3, "eager": True}


@pytest.mark.broad
def test_the_inputs_of_a_variant_follow_from_its_rule_and_its_stops() -> None:
    assert reads(DEFAULT) == {
        "ohlc": ("open", "high", "low", "close"),
        "ema_trend": ("crossover", "spread_pct", "bar_number"),
    }
    wanted = reads(Variant("x", PULLBACK, atr_target=1.0))
    assert wanted == {
        "ohlc": ("open", "high", "low", "close"),
        "ema_signals": ("ema_9",),
        "wma": ("wma_30",),
        "ema_trend": ("spread_pct", "bar_number"),
        "atr": ("atr",),
    }
    names = [name for columns in wanted.values() for name in columns]
    assert len(names) == len(set(names))


@pytest.mark.broad
def test_a_higher_timeframe_applies_to_lower_ones_and_session_ends_apply_within_a_day() -> None:
    variant = Variant("x", CROSSOVER, higher_timeframe=H1, exit_at_session_end=True)
    assert variant.on(M5) == variant
    assert variant.on(H1).higher_timeframe is None
    assert variant.on(D1) == Variant("x", CROSSOVER)
