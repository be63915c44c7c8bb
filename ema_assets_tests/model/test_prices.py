"""Tests of how a price is written for people."""

import pytest

from ema_assets.model.prices import price_text


@pytest.mark.parametrize(
    ("price", "text"),
    [
        (45.39, "45.39"),
        (512.1, "512.10"),
        (45.389123, "45.3891"),
        (187.0, "187.00"),
        (253558.374, "253,558.37"),
        (15_234_567.0, "15,234,567.00"),
        (1.08432, "1.08432"),
        (1.084, "1.084"),
        (0.99985, "0.99985"),
        (161.234, "161.234"),
        (0.0511, "0.0511"),
        (0.05114, "0.05114"),
        (9.7e-10, "0.00000000097"),
        (9.71234567e-10, "0.000000000971235"),
        (0.9999999, "1.00"),
        (0.0, "0.00"),
        (-37.63, "-37.63"),
        (float("nan"), "nan"),
    ],
)
def test_a_price_is_rounded_to_six_significant_digits_but_not_below_two_decimals(price: float, text: str) -> None:
    assert price_text(price) == text
