"""How numbers, times and shares are written on the pages of the board. Pure functions; the templates call them."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from ema_assets.model.counts import counted, noun
from ema_assets.model.prices import decimals_shown, price_text

# The spreads, in percent, at which the next shade of the heat map begins.
_SHADES = (0.1, 0.35, 0.8, 1.8)
NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def price(value: float | None, decimals: int = 2) -> str:
    """Return a price in the usual format, with at least so many decimals: `1,234.50`, `12.34`, `1.08432`."""
    return NOTHING if value is None else _signed(price_text(value, decimals))


def decimals(rows: Iterable[Mapping[str, float | None]], *columns: str) -> int:
    """Return how many decimals the prices in `columns` of one symbol's `rows` have at most."""
    prices = (row[column] for row in rows for column in columns)
    return max((decimals_shown(each) for each in prices if each is not None), default=2)


def percent(value: float | None, decimals: int = 2) -> str:
    """Return a share in percent with its sign, such as `+0.31 %`."""
    return NOTHING if value is None else f"{signed(value, decimals)}\N{NARROW NO-BREAK SPACE}%"


def signed(value: float | None, decimals: int = 2) -> str:
    """Return a number with its sign; one that rounds to zero has none."""
    if value is None:
        return NOTHING
    text = _signed(f"{value:+,.{decimals}f}")
    return text.removeprefix("+") if _is_zero(text) else text


def unsigned(value: float | None, decimals: int = 2) -> str:
    """Return a number without a plus sign."""
    return NOTHING if value is None else _signed(f"{value:,.{decimals}f}")


def share(value: float | None, decimals: int = 1) -> str:
    """Return a share in percent without a plus sign, such as `13.4 %`."""
    return NOTHING if value is None else f"{unsigned(value, decimals)} %"


def whole(value: float | None) -> str:
    """Return a whole number with thousands separators."""
    return NOTHING if value is None else _signed(f"{value:,.0f}")


def _signed(text: str) -> str:
    """Return `text` with a typographic minus, and without one when it is rounded to zero."""
    return text.removeprefix("-") if _is_zero(text) else text.replace("-", MINUS)


def _is_zero(text: str) -> bool:
    return "0" in text and not any(digit in text for digit in "123456789")


def volume(value: float | None) -> str:
    """Return a volume: whole from a hundred on, below with three significant digits: `12,345`, `80.5`, `0.0123`.

    Coins are traded in fractions: a volume of 0.0123 must not look like zero.
    """
    if value is None or value == 0 or abs(value) >= 100:
        return whole(value)
    decimals = min(max(2 - int(f"{value:.2e}".partition("e")[2]), 0), 20)
    text = f"{value:,.{decimals}f}"
    return _signed(text.rstrip("0").rstrip(".") if "." in text else text)


def minute(moment: datetime | None) -> str:
    """Return a time to the minute, UTC: `2026-11-25 16:30`."""
    return NOTHING if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def short(moment: datetime | None, now: datetime | None = None) -> str:
    """Return a time without its year, `25 Nov 16:30`; with it if it is not the year of `now`: `25 Nov 2025 16:30`."""
    if moment is None:
        return NOTHING
    year = "" if now is None or moment.year == now.year else " %Y"
    return format(moment, f"%d %b{year} %H:%M")


def second(moment: datetime | None) -> str:
    """Return a time to the second, UTC."""
    return NOTHING if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def iso(moment: datetime | None) -> str:
    """Return a time as HTML requires it."""
    return "" if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def shade(trend: str | None, spread_pct: float | None) -> str:
    """Return the class of a cell of the heat map: `u1` to `u5` for up, `d1` to `d5` for down, `n` without a trend."""
    if trend is None or spread_pct is None:
        return "n"
    depth = 1 + sum(abs(spread_pct) >= each for each in _SHADES)
    return f"{'u' if trend == 'up' else 'd'}{depth}"


def tone(value: float | None, digits: int = 2) -> str:
    """Return the class of a gain or loss; none for what is shown as zero with so many `digits`."""
    return "" if value is None or round(value, digits) == 0 else "gain" if value > 0 else "loss"


def group(name: str) -> str:
    """Return a group's name on pages: a group without a name has a number, such as `group 1`."""
    return f"group {name}" if name.isdecimal() else name


FILTERS: Mapping[str, Callable[..., Any]] = {
    "price": price,
    "decimals": decimals,
    "share": share,
    "percent": percent,
    "signed": signed,
    "unsigned": unsigned,
    "whole": whole,
    "volume": volume,
    "minute": minute,
    "second": second,
    "iso": iso,
    "counted": counted,
    "noun": noun,
    "tone": tone,
    "group": group,
}
