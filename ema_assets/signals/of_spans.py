"""Signals with averages of any span, made when something reads them: `ema_12`, `wma_26`, `ema_trend_12_26`. No I/O."""

from collections.abc import Iterable, Mapping

from ema_assets.model.averages import EMA, WMA, averaged
from ema_assets.signals import ema_signals, ema_trend, wma
from ema_assets.signals.declaration import Signal


def with_read(signals: Mapping[str, Signal], names: Iterable[str]) -> dict[str, Signal]:
    """Return `signals`, followed by the missing averages among `names`. Each one comes after the signals it reads."""
    found = dict(signals)
    for name in names:
        if name not in found and (made := _made(name)) is not None:
            found = {**with_read(found, made.reads), name: made}
    return found


def _made(name: str) -> Signal | None:
    """Return the signal for the name of an average or trend; None for any other name."""
    said = averaged(name)
    if said is None:
        return None
    if said.kind == EMA:
        (span,) = said.spans
        text = f"Exponential moving average of the close over {span} bars, one row per bar."
        return ema_signals.declared(name, text, said.spans)
    if said.kind == WMA:
        return wma.declared(name, *said.spans)
    return ema_trend.declared(name, *said.spans)
