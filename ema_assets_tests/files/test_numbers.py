"""Tests of reading prices and volumes: decimal signs, thousands separators, currencies, units, invalid texts."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from ema_assets.files.numbers import read_numbers
from ema_assets.model.errors import AmbiguousBarFile, BarFileError
from ema_assets_tests.files.reader import read_text


def numbers(prices: Sequence[str | None], volumes: Sequence[str | None] | None = None, decimal: str | None = None):
    frame = pl.DataFrame({"0": prices, "1": volumes or [None] * len(prices)}, schema={"0": pl.String, "1": pl.String})
    found, sign = read_numbers(frame, {"close": "0"}, "1" if volumes else None, decimal)
    return found["close"].to_list(), found["volume"].to_list() if volumes else None, sign


def numbers_beside(days: Sequence[str], prices: Sequence[str], volumes: Sequence[str] | None = None):
    """Read the prices of a table that also has a column of days."""
    frame = pl.DataFrame({"0": prices, "1": volumes or ["1000"] * len(prices), "2": days})
    found, _ = read_numbers(frame, {"close": "0"}, "1", None)
    return found["close"].to_list()


def readings_of(prices: Sequence[str], volumes: Sequence[str] | None = None) -> list[str]:
    with pytest.raises(AmbiguousBarFile) as caught:
        numbers(prices, volumes)
    return [each.evidence for each in caught.value.readings]


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
        (["0,147", "0,148"], [0.147, 0.148], ","),
        (["1'234.50", "985.25"], [1234.5, 985.25], "."),
        (["1’234,50"], [1234.5], ","),
        (["1'111'045"], [1111045.0], "."),
        (["11'195", "10'997"], [11195.0, 10997.0], "."),
        (["985", "1'002", "1'010"], [985.0, 1002.0, 1010.0], "."),
        (["100.5", "101.78B", "99.4a", "1.2M"], [100.5, None, None, None], "."),
        (["147.268", "147.075"], [147.268, 147.075], "."),
    ],
)
def test_prices_are_read_in_every_usual_notation(
    texts: list[str | None], expected: list[float | None], sign: str
) -> None:
    assert numbers(texts)[::2] == (expected, sign)


def test_the_decimal_sign_of_one_column_decides_for_the_others() -> None:
    assert numbers(["10.5"], ["1,234"])[:2] == ([10.5], [1234.0])
    assert numbers(["10,5"], ["1.234"])[:2] == ([10.5], [1234.0])


def test_volumes_may_have_units_and_an_invalid_volume_is_null() -> None:
    volumes = ["78.01M", "816.5K", "1.2B", "9007199254740993", "NaN", "x", "-", "0.00012"]
    found = numbers(["1"] * 8, volumes)[1]
    assert found == [78_010_000.0, 816_500.0, 1.2e9, 9007199254740992.0, None, None, None, 0.00012]


def test_volumes_with_a_unit_have_no_floating_point_errors() -> None:
    assert numbers(["1"] * 3, ["0.514449M", "1.040579M", "522.354 k"])[1] == [514449.0, 1040579.0, 522354.0]


def test_prices_that_are_implausible_with_both_decimal_signs_are_ambiguous() -> None:
    assert len(readings_of(["900", "1,000", "5"])) == 2


def test_a_zero_does_not_hide_the_sign_and_a_point_is_decimal_also_after_a_currency_sign() -> None:
    assert numbers(["0", "985", "1,002"])[0] == [0.0, 985.0, 1002.0]
    assert numbers(["$147.268", "$147.075"])[::2] == ([147.268, 147.075], ".")


def test_a_word_with_an_apostrophe_is_neither_a_price_nor_a_fraction() -> None:
    assert numbers(["12.5", "o'clock"])[0] == [12.5, None]


def test_a_comma_that_may_be_decimal_sign_or_thousands_separator_is_ambiguous() -> None:
    with pytest.raises(AmbiguousBarFile) as caught:
        numbers(["1,085", "1,092"])
    assert [(each.evidence, each.answers) for each in caught.value.readings] == [
        ("with `--decimal .` 1,085 is 1085", (("decimal", "."),)),
        ("with `--decimal ,` 1,085 is 1.085", (("decimal", ","),)),
    ]
    assert numbers(["1,085", "1,092"], decimal=",")[0] == [1.085, 1.092]
    assert numbers(["1,085", "1,092"], decimal=".")[0] == [1085.0, 1092.0]


def test_ambiguous_volumes_do_not_decide_the_sign_of_ambiguous_prices() -> None:
    assert readings_of(["147,000", "147,268"], ["214.460", "922.909"]) == [
        "with `--decimal .` 147,000 is 147000",
        "with `--decimal ,` 147,000 is 147.000",
    ]
    assert numbers(["147,000", "147,268"], ["214.460", "922.909"], decimal=",")[:2] == (
        [147.0, 147.268],
        [214460.0, 922909.0],
    )
    assert numbers(["147,000", "147,268"], ["1.214.460", "922.909"])[:2] == ([147.0, 147.268], [1214460.0, 922909.0])
    assert numbers(["1,085", "1,092"], ["12.5", "8.25"])[0] == [1085.0, 1092.0]


def test_volumes_may_have_another_decimal_sign_than_prices_if_both_are_clear() -> None:
    assert numbers(["100.0", "100.01"], ["6.941.461", "941.461"]) == ([100.0, 100.01], [6941461.0, 941461.0], ".")
    assert numbers(["17.219,30", "17.086,70"], ["101.29M", "99.5M"]) == (
        [17219.3, 17086.7],
        [101_290_000.0, 99_500_000.0],
        ",",
    )
    assert numbers(["100.0", "100.01"], ["6.941.461", "941.461"], decimal=".")[1] == [6941461.0, 941461.0]


def test_numbers_with_both_decimal_signs_are_ambiguous() -> None:
    with pytest.raises(AmbiguousBarFile, match=r"its prices have both decimal signs: 100\.01 and 1\.234,5"):
        numbers(["100.01", "1.234,5"])
    with pytest.raises(AmbiguousBarFile, match="its volumes have both decimal signs"):
        numbers(["100.01"] * 2, ["0.5", "0,5"])
    assert readings_of(["1.5", "1,5"]) == ["with `--decimal .` 1,5 is no number", "with `--decimal ,` 1.5 is no number"]
    assert numbers(["100.01", "1,5"], decimal=".")[0] == [100.01, None]


def test_the_option_decimal_is_refused_if_it_contradicts_the_numbers() -> None:
    with pytest.raises(BarFileError, match=r"`--decimal ,` cannot be: 100\.01 is among its prices"):
        numbers(["100.01", "101"], decimal=",")
    with pytest.raises(BarFileError, match=r"`--decimal \.` cannot be: 100,01 is among its prices"):
        numbers(["100,01", "101"], decimal=".")


@pytest.mark.parametrize("days", [["02.01.2024", "03.01.2024"], ["02.01.24 09:00", "02.01.24 09:05"]])
def test_points_that_may_separate_thousands_are_ambiguous_next_to_dates_with_points(days: list[str]) -> None:
    with pytest.raises(AmbiguousBarFile, match="the point in its numbers may set thousands apart") as caught:
        numbers_beside(days, ["15.194", "15.267"])
    assert [(each.evidence, each.answers) for each in caught.value.readings] == [
        ("with `--decimal .` 15.194 is 15.194", (("decimal", "."),)),
        ("with `--decimal ,` 15.194 is 15194", (("decimal", ","),)),
    ]
    assert numbers_beside(days, ["15.194", "15.267"], ["1.000.000", "5"]) == [15194.0, 15267.0]
    assert numbers_beside(days, ["147.268", "147.5"]) == [147.268, 147.5]
    assert numbers_beside(days, ["985", "1.002"]) == [985.0, 1002.0]
    assert numbers_beside(days, ["147.268", "147.075"], ["98.25", "101.5"]) == [147.268, 147.075]


@pytest.mark.parametrize("day", ["2024-01-08", "08/01/2024", "2024.01.08", "20240108", "08.01.2024 00:00:00.000"])
def test_prices_with_three_decimals_are_clear_next_to_other_dates(day: str) -> None:
    assert numbers_beside([day, day], ["147.268", "147.075"]) == [147.268, 147.075]


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (["450'5", "453'2"], "450'5"),
        (["111'04", "111'16"], "111'04"),
        (["111'045", "111'04+"], "111'04+"),
        (["112", "111'045"], "111'045"),
    ],
)
def test_prices_as_fractions_are_refused(texts: list[str], shown: str) -> None:
    with pytest.raises(BarFileError) as caught:
        numbers(texts)
    assert str(caught.value) == (
        f"its prices, such as {shown}, are fractions, which are not read; write them as decimal numbers"
    )


def test_an_apostrophe_that_may_mark_a_fraction_is_refused_unless_other_values_show_thousands() -> None:
    with pytest.raises(BarFileError) as caught:
        numbers(["111'045", "110'230"])
    assert str(caught.value) == (
        "its prices, such as 111'045, may have thousands set apart or be points and 32nds, and no other value shows "
        "which; write 111045 for the first, 111.140625 for the second"
    )
    for other in ("1'111'045", "111'045.50", "111'997", "111'046"):
        assert numbers(["111'045", other])[0] == [111045.0, float(other.replace("'", ""))]
    assert numbers(["111'045", "110'230"], ["1'000'000", "5"])[:2] == ([111045.0, 110230.0], [1_000_000.0, 5.0])


def test_volumes_as_text_next_to_numeric_prices_may_be_ambiguous() -> None:
    frame = pl.DataFrame({"0": [100.5, 101.0], "1": ["1,234", "5,678"]})
    with pytest.raises(AmbiguousBarFile, match="the comma in its numbers"):
        read_numbers(frame, {"close": "0"}, "1", None)
    found, _ = read_numbers(frame, {"close": "0"}, "1", ".")
    assert (found["close"].to_list(), found["volume"].to_list()) == ([100.5, 101.0], [1234.0, 5678.0])


@pytest.mark.parametrize("values", [[[100.5]], [{"x": 100.5}], [b"\xff"], [True]])
def test_a_price_column_of_an_invalid_type_is_refused_by_name(values: list[object]) -> None:
    with pytest.raises(BarFileError, match="`close` must be numbers or text, its column holds "):
        read_numbers(pl.DataFrame({"0": values}), dict.fromkeys(("open", "high", "low", "close"), "0"), None, None)


def test_a_point_before_three_digits_is_decimal_if_commas_separate_the_cells(tmp_path: Path) -> None:
    lines = ["Date,Open,High,Low,Close", *(f"{day:02}.01.2024,147.000,147.268,146.625,146.792" for day in (8, 9, 10))]
    assert read_text(tmp_path, "\n".join(lines), "USDJPY_1d.csv").bars["high"].to_list() == [147.268] * 3
    with pytest.raises(AmbiguousBarFile, match="the point in its numbers may set thousands apart"):
        read_text(tmp_path, "\n".join(lines).replace(",", ";"), "USDJPY_1d.csv")
