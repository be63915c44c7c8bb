"""Tests of the columns and parameters that signals and rules declare."""

import pytest

from ema_assets.model.declarations import Column, Param, changed_params, problems_with_columns, problems_with_params

INF = float("inf")


@pytest.mark.parametrize(
    ("param", "value"),
    [
        (Param(3, ""), 1),
        (Param(3, ""), 1000),
        (Param(0.5, "", least=0), 0),
        (Param(0.5, "", least=0), 0.25),
        (Param(0.5, "", least=-INF, most=INF), 1e300),
        (Param("sma", "", choices=("sma", "first")), "first"),
        (Param(False, ""), True),
    ],
)
def test_a_value_within_the_limits_is_accepted(param: Param, value: object) -> None:
    assert param.problem_with(value) is None


@pytest.mark.parametrize(
    ("param", "value", "said"),
    [
        (Param(3, ""), 0, "must be a whole number from 1 to 1000, received 0"),
        (Param(3, ""), 2.0, "must be a whole number from 1 to 1000, received 2.0"),
        (Param(3, ""), True, "must be a whole number from 1 to 1000, received True"),
        (Param(3, ""), "3", "must be a whole number from 1 to 1000, received '3'"),
        (Param(0.5, "", least=0.01, most=1), 1.5, "must be a number from 0.01 to 1, received 1.5"),
        (Param(0.5, "", least=0), float("nan"), "must be a number from 0 to 1000, received nan"),
        (Param(0.5, "", least=0, most=INF), INF, "must be a number, 0 or more, received inf"),
        (Param(0.5, "", least=0, most=INF), float("nan"), "must be a number, 0 or more, received nan"),
        (Param(0.5, "", least=0, most=INF), True, "must be a number, 0 or more, received True"),
        (Param(0.5, "", least=0, most=INF), 10**400, "must be a number, 0 or more, received a longer number"),
        (Param(-0.5, "", least=-INF, most=0), -INF, "must be a number, 0 or less, received -inf"),
        (Param(0.5, "", least=-INF, most=INF), -INF, "must be a number, received -inf"),
        (Param(3, "", most=INF), 10**19, "must be a whole number, 1 or more, received a longer number"),
        (Param("sma", "", choices=("sma", "first")), "firts", "must be one of sma, first, received 'firts'; did you mean `first`?"),
        (Param("sma", "", choices=("sma", "first")), 1, "must be one of sma, first, received 1"),
        (Param(True, ""), 1, "must be true or false, received 1"),
    ],
)  # fmt: skip
def test_an_invalid_value_is_refused_with_what_is_allowed(param: Param, value: object, said: str) -> None:
    assert param.problem_with(value) == said


def test_a_default_may_be_true_or_false() -> None:
    assert list(problems_with_params({"flag": Param(False, "a flag")})) == []


def test_infinity_is_refused_as_a_default() -> None:
    said = ["the default of `far` must be 0 to inf, received inf"]
    assert list(problems_with_params({"far": Param(INF, "", least=0, most=INF)})) == said


def test_only_a_text_column_may_have_choices() -> None:
    columns = (Column("a", "text", "", choices=("x", "y")), Column("b", "float8", "", choices=("1",)))
    assert list(problems_with_columns(columns)) == ["column 'b' must be a text to have `choices`, received the kind 'float8'"]  # fmt: skip


def test_a_version_names_the_parameters_that_were_changed() -> None:
    assert changed_params({"b": 2, "a": 5, "c": "x"}, {"a": 1, "b": 2, "c": "y"}) == ["a=5", "c=x"]
