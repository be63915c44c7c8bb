"""How prices and shares are written for people: on pages, in tables, charts and sentences, by one rule each."""

import math

_DIGITS, _LEAST_DECIMALS = 6, 2
# Of what is smaller still, nobody can trade a unit.
_MOST_DECIMALS = 20


def price_text(price: float) -> str:
    """`price` with six digits that count, two decimals at least and thousands apart.

    Such as `253,558.37`, `512.10`, `161.234`, `1.08432`, `0.0511`, `0.00000000097`. Zeros beyond the second decimal are
    left out. A tick of a share, of a pair of currencies and of the smallest coin is seen; one symbol's prices differ in
    their decimals only where a digit is needed.
    """
    if not math.isfinite(price):
        return str(price)
    text = f"{price:,.{decimals_of(price)}f}"
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(_LEAST_DECIMALS, '0')}"


def percent_text(value: float) -> str:
    """A share in percent with its sign, such as `+0.31 %`; what is rounded to nothing has that of nothing."""
    return f"{round(value, 2) + 0.0:+.2f} %"


def decimals_of(price: float) -> int:
    """How many decimals `price` is rounded to."""
    # As it is once rounded: 0.9999999 is a one.
    exponent = int(f"{price:.{_DIGITS - 1}e}".partition("e")[2])
    return min(max(_DIGITS - 1 - exponent, _LEAST_DECIMALS), _MOST_DECIMALS)
