"""How averages of any span are called, and which asset has them. Nothing is computed here.

`ema_12` and `wma_26` are averages of the close over so many bars, `ema_trend_12_26` compares two EMAs. A strategy names
them, and the graph makes an asset of each that no other asset has.
"""

import re
from math import ceil, log
from typing import NamedTuple

from ema_assets.model.asset_names import EMA_SIGNALS, EMA_TREND

# Of the EMAs that are always there.
FAST_SPAN, SLOW_SPAN = 9, 30
LEAST_SPAN, MOST_SPAN = 2, 1_000

EMA, WMA = "ema", "wma"
_NAME = re.compile(r"(ema|wma)_([1-9][0-9]*)|ema_trend_([1-9][0-9]*)_([1-9][0-9]*)")

# What the beginning of an average may weigh once it has converged.
_NEGLIGIBLE = 1e-6


class Averaged(NamedTuple):
    """What a name says: the kind of the average and its span; of a trend, both spans."""

    kind: str
    spans: tuple[int, ...]


def ema_name(span: int) -> str:
    """The column with the EMA of `span` closes, and the asset that would have it."""
    return f"{EMA}_{span}"


def wma_name(span: int) -> str:
    """The column with the weighted average of `span` closes, and the asset that would have it."""
    return f"{WMA}_{span}"


def trend_name(fast: int, slow: int) -> str:
    """What compares the EMAs of these spans; `asset_of` says which asset that is."""
    return f"{EMA_TREND}_{fast}_{slow}"


# What assets that are always declared have already.
_ALREADY = {
    ema_name(FAST_SPAN): EMA_SIGNALS,
    ema_name(SLOW_SPAN): EMA_SIGNALS,
    wma_name(SLOW_SPAN): "wma",
    trend_name(FAST_SPAN, SLOW_SPAN): EMA_TREND,
}


def asset_of(name: str) -> str:
    """The asset that has what `name` says: `ema_signals` for `ema_9`. Any other name is that of an asset."""
    return _ALREADY.get(name, name)


def averaged(name: str) -> Averaged | None:
    """What the name of an average or of a trend says; None for any other name, and for spans that are not allowed."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    kind, span, fast, slow = found.groups()
    said = Averaged(kind, (int(span),)) if kind else Averaged(EMA_TREND, (int(fast), int(slow)))
    is_allowed = all(LEAST_SPAN <= each <= MOST_SPAN for each in said.spans) and said.spans[0] <= said.spans[-1]
    return said if is_allowed and len(set(said.spans)) == len(said.spans) else None


def trend_spans(asset: str) -> tuple[int, int] | None:
    """The spans of the EMAs that the asset compares; None when it compares none."""
    if asset == EMA_TREND:
        return FAST_SPAN, SLOW_SPAN
    said = averaged(asset)
    return (said.spans[0], said.spans[1]) if said is not None and said.kind == EMA_TREND else None


def spans_text(spans: tuple[int, int]) -> str:
    """How two averages are called together: `9/30`."""
    return "/".join(map(str, spans))


def spans_of(text: str) -> tuple[int, int] | None:
    """The spans that a text such as `12/26` names; None for any other text."""
    fast, _, slow = text.partition("/")
    return trend_spans(trend_name(int(fast), int(slow))) if fast.isdecimal() and slow.isdecimal() else None


def converged_after(span: int) -> int:
    """The number of the bar from which on the beginning of an EMA weighs less than a millionth: 208 for span 30.

    The least n with (1 - 2/(span + 1))^n < 1e-6.
    """
    return ceil(log(_NEGLIGIBLE) / log(1 - 2 / (span + 1)))
