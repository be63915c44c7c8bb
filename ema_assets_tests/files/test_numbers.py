"""Prices and volumes as people write them: decimal signs, thousands, currencies, units, and what is none."""

from collections.abc import Sequence

import polars as pl
import pytest

from ema_assets.files.numbers import read_numbers
from ema_assets.model.errors import AmbiguousBarFile


def numbers(prices: Sequence[str | None], volumes: Sequence[str | None] | None = None, decimal: str | None = None):
    frame = pl.DataFrame({"0": prices, "1": volumes or [None] * len(prices)}, schema={"0": pl.String, "1": pl.String})
    found, sign = read_numbers(frame, {"close": "0"}, "1" if volumes else None, decimal)
    return found["close"].to_list(), found["volume"].to_list() if volumes else None, sign


@pytest.mark.parametrize(
    ("texts", "expected", "sign"),
    [
        (["1.5", "2"], [1.5, 2.0], "."),
        (["1,5", "2,25"], [1.5, 2.25], ","),
        (["1,234.5", "999"], [1234.5, 999.0], "."),
        (["1.234,5", "999"], [1234.5, 999.0], ","),
        (["1,234,567"], [1234567.0], "."),
        (["1.234.567"], [1234567.0], ","),
        (["12,34,567.8"], [1234567.8], "."),
        (["985", "1,002", "1,010"], [985.0, 1002.0, 1010.0], "."),
        (["1 234,5", "1 240,0"], [1234.5, 1240.0], ","),
        (["1'234.5"], [1234.5], "."),
        (["$1,234.50", "$9.5"], [1234.5, 9.5], "."),
        (["12,3 €", "€ 11,25"], [12.3, 11.25], ","),
        (["1e-05", "1.5E+02"], [1e-05, 150.0], "."),
        (["-37.63"], [-37.63], "."),
        (["5", "n/a", "-", None, "about 5"], [5.0, None, None, None, None], "."),
    ],
)
def test_prices_are_read_as_they_are_written(texts: list[str | None], expected: list[float | None], sign: str) -> None:
    assert numbers(texts)[::2] == (expected, sign)


def test_the_decimal_sign_of_one_column_tells_that_of_the_others() -> None:
    assert numbers(["10.5"], ["1,234"])[:2] == ([10.5], [1234.0])
    assert numbers(["10,5"], ["1.234"])[:2] == ([10.5], [1234.0])


def test_volumes_have_units_and_a_volume_that_is_none_is_missing() -> None:
    volumes = ["78.01M", "816.5K", "1.2B", "9007199254740993", "NaN", "x", "-", "0.00012"]
    found = numbers(["1"] * 8, volumes)[1]
    assert found == [78_010_000.0, 816_500.0, 1.2e9, 9007199254740992.0, None, None, None, 0.00012]


def test_a_comma_that_may_be_either_sign_is_asked_about() -> None:
    with pytest.raises(AmbiguousBarFile) as caught:
        numbers(["1,085", "1,092"])
    assert [(each.evidence, each.answers) for each in caught.value.readings] == [
        ("with `--decimal .` 1,085 is 1085", (("decimal", "."),)),
        ("with `--decimal ,` 1,085 is 1.085", (("decimal", ","),)),
    ]
    assert numbers(["1,085", "1,092"], decimal=",")[0] == [1.085, 1.092]
    assert numbers(["1,085", "1,092"], decimal=".")[0] == [1085.0, 1092.0]
