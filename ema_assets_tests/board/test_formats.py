"""Tests of how the board writes numbers and times."""

from datetime import UTC, datetime

from ema_assets.board.formats import decimals, price, share, short, signed, tone, unsigned, volume, whole


def test_prices_of_one_symbol_have_equally_many_decimals() -> None:
    rows = [{"open": 3.7241, "close": 3.706, "slow": None}, {"open": 3.70436, "close": 4.0, "slow": None}]
    places = decimals(rows, "open", "close")
    assert [price(row["close"], places) for row in rows] == ["3.70600", "4.00000"]
    assert price(rows[1]["open"], places) == "3.70436"
    assert price(None, places) == "–"
    assert decimals(rows, "slow") == decimals([], "open") == 2


def test_an_unknown_share_has_no_unit() -> None:
    assert [share(each) for each in (13.42, 0.0, None)] == ["13.4 %", "0.0 %", "–"]
    assert share(38.0, 0) == "38 %"


def test_a_price_has_thousands_separators_and_a_real_minus_sign() -> None:
    assert [price(each) for each in (1234.5, 1.08432, 9.7e-10, -37.63, None)] == [
        "1,234.50",
        "1.08432",
        "0.00000000097",
        "−37.63",
        "–",
    ]


def test_a_number_that_rounds_to_zero_has_no_sign() -> None:
    assert [signed(each) for each in (0.004, -0.004, 0.0, -0.0, -0.006)] == ["0.00", "0.00", "0.00", "0.00", "−0.01"]
    assert [unsigned(each, 1) for each in (-0.04, -0.0, -0.06)] == ["0.0", "0.0", "−0.1"]
    assert [whole(each) for each in (-0.4, -0.0, -1.2)] == ["0", "0", "−1"]
    assert [price(each) for each in (-0.0, -1e-30)] == ["0.00", "0.00"]
    assert [signed(each, 0) for each in (float("-inf"), 10, -10)] == ["−inf", "+10", "−10"]


def test_a_small_volume_is_not_shown_as_zero() -> None:
    assert [volume(each) for each in (31113913.4, 100, 80.45, 5, 0.0123, 0.00001234, 0, None)] == [
        "31,113,913",
        "100",
        "80.5",
        "5",
        "0.0123",
        "0.0000123",
        "0",
        "–",
    ]


def test_a_time_in_another_year_shows_its_year() -> None:
    moment, now = datetime(2025, 12, 31, 23, 55, tzinfo=UTC), datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert short(moment, now) == "31 Dec 2025 23:55"
    assert short(now, now) == "01 Jan 00:01"
    assert short(None, now) == "–"


def test_a_gain_that_is_shown_as_zero_has_no_colour() -> None:
    assert [tone(each) for each in (None, 0.0, 0.004, -0.004, 0.006, -0.006)] == [*[""] * 4, "gain", "loss"]
    assert [tone(each, 1) for each in (0.04, -0.04, 0.06)] == ["", "", "gain"]
