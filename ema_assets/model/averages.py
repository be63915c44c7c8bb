"""The names of averages of any span, and the assets that contain them. Nothing is computed here.

`ema_12` and `wma_26` are averages of the close over 12 and 26 bars, `ema_trend_12_26` compares two EMAs. A strategy
names them, and the graph adds an asset for each one that no other asset contains.
"""

import re
from math import ceil, log
from typing import NamedTuple

from ema_assets.model.asset_names import EMA_SIGNALS, EMA_TREND

# The spans of the EMAs that always exist.
FAST_SPAN, SLOW_SPAN = 9, 30
LEAST_SPAN, MOST_SPAN = 2, 1_000

EMA, WMA = "ema", "wma"
_NAME = re.compile(r"(ema|wma)_([1-9][0-9]*)|ema_trend_([1-9][0-9]*)_([1-9][0-9]*)")

# The largest weight that the beginning of an average may have once it has converged.
_NEGLIGIBLE = 1e-6


class Averaged(NamedTuple):
    """What a name says: the kind of the average and its span, or the two spans of a trend."""

    kind: str
    spans: tuple[int, ...]


def ema_name(span: int) -> str:
    """Return the name of the EMA of `span` closes, as a column and as an asset of its own."""
    return f"{EMA}_{span}"


def wma_name(span: int) -> str:
    """Return the name of the weighted average of `span` closes, as a column and as an asset of its own."""
    return f"{WMA}_{span}"


def trend_name(fast: int, slow: int) -> str:
    """Return the name of the trend that compares the EMAs of these spans; `asset_of` says which asset contains it."""
    return f"{EMA_TREND}_{fast}_{slow}"


# The averages and trends that the standard assets already contain.
_ALREADY = {
    ema_name(FAST_SPAN): EMA_SIGNALS,
    ema_name(SLOW_SPAN): EMA_SIGNALS,
    wma_name(SLOW_SPAN): "wma",
    trend_name(FAST_SPAN, SLOW_SPAN): EMA_TREND,
}


def asset_of(name: str) -> str:
    """Return the asset that contains `name`, such as `ema_signals` for `ema_9`. Any other name is an asset itself."""
    return _ALREADY.get(name, name)


def averaged(name: str) -> Averaged | None:
    """Parse the name of an average or trend; return None for any other name and for spans that are not allowed."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    kind, span, fast, slow = found.groups()
    said = Averaged(kind, (int(span),)) if kind else Averaged(EMA_TREND, (int(fast), int(slow)))
    is_allowed = all(LEAST_SPAN <= each <= MOST_SPAN for each in said.spans) and said.spans[0] <= said.spans[-1]
    return said if is_allowed and len(set(said.spans)) == len(said.spans) else None


def trend_spans(asset: str) -> tuple[int, int] | None:
    """Return the spans of the EMAs that `asset` compares, or None if it is not a trend."""
    if asset == EMA_TREND:
        return FAST_SPAN, SLOW_SPAN
    said = averaged(asset)
    return (said.spans[0], said.spans[1]) if said is not None and said.kind == EMA_TREND else None


def spans_text(spans: tuple[int, int]) -> str:
    """Return the text for two averages, such as `9/30`."""
    return "/".join(map(str, spans))


def spans_of(text: str) -> tuple[int, int] | None:
    """Return the spans that a text such as `12/26` names, or None for any other text."""
    fast, _, slow = text.partition("/")
    return trend_spans(trend_name(int(fast), int(slow))) if fast.isdecimal() and slow.isdecimal() else None


def converged_after(span: int) -> int:
    """Return the number of bars after which the beginning of an EMA weighs less than a millionth: 208 for span 30.

    The least n with (1 - 2/(span + 1))^n < 1e-6.
    """
    return ceil(log(_NEGLIGIBLE) / log(1 - 2 / (span + 1)))
