"""How prices and percentages are written for people, on pages and in tables, charts and sentences: one rule each."""

import math

_DIGITS, _LEAST_DECIMALS = 6, 2
# Nobody can trade a unit whose price has more decimals.
_MOST_DECIMALS = 20


def price_text(price: float, decimals: int = _LEAST_DECIMALS) -> str:
    """Return `price` with six significant digits, at least so many decimals and thousands separators.

    For example, `253,558.37`, `512.10`, `161.234`, `1.08432`, `0.0511`, `0.00000000097`. Zeros after these decimals
    are left out. So a tick of a share, a pair of currencies or the smallest coin is visible, and the prices of a symbol
    differ in their number of decimals only where a digit is needed.
    """
    if not math.isfinite(price):
        return str(price)
    text = f"{price:,.{decimals_of(price)}f}"
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(decimals, '0')}"


def decimals_shown(price: float) -> int:
    """Return how many decimals `price_text` shows of `price`: a column of one symbol shows the most of its prices."""
    return len(price_text(price).partition(".")[2])


def percent_text(value: float) -> str:
    """Return a percentage with its sign, such as `+0.31 %`; a value that rounds to zero has none, as on the board."""
    rounded = round(value, 2)
    return f"{rounded:+.2f} %" if rounded else "0.00 %"


def decimals_of(price: float) -> int:
    """Return the number of decimals to which `price` is rounded."""
    # The exponent after rounding: 0.9999999 becomes one.
    exponent = int(f"{price:.{_DIGITS - 1}e}".partition("e")[2])
    return min(max(_DIGITS - 1 - exponent, _LEAST_DECIMALS), _MOST_DECIMALS)
