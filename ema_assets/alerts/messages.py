"""Turns alerts into the text of one message: a title that counts them, and a line for each. No I/O."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ema_assets.alerts.declaration import TroubleKind
from ema_assets.alerts.discovery import discover

# As many lines as people read on a phone. All alerts are in the log.
MOST_LINES = 30
# Services cut longer texts, or refuse them; services with less room say so themselves.
MOST_CHARACTERS = 3_500


@dataclass(frozen=True, slots=True)
class Told:
    """One alert of a message. `symbol` and `timeframe` are None if it is not about a series.

    `is_over` means that it reports the end of trouble, `is_synthetic` that its prices are synthetic.
    """

    id: int
    subscription: str
    kind: str
    text: str
    symbol: str | None = None
    timeframe: str | None = None
    strategy: str | None = None
    ts: datetime | None = None
    is_over: bool = False
    is_synthetic: bool = False

    @property
    def line(self) -> str:
        """Its line, such as `AAPL 1h, bar of 2026-11-25 15:00 UTC: bullish crossover, …`."""
        if self.symbol is None:
            return self.text
        bar = "" if self.ts is None else f", bar of {self.ts:%Y-%m-%d %H:%M} UTC"
        strategy = "" if self.strategy is None else f" {self.strategy}"
        return f"{self.symbol} {self.timeframe}{strategy}{bar}: {self.text}"


@dataclass(frozen=True, slots=True)
class Message:
    """The title and text that a channel gets."""

    title: str
    body: str
    is_trouble: bool


@dataclass(frozen=True, slots=True)
class NotSent:
    """Why a message was not sent to all targets of its channel.

    Attributes:
        reason: in words, without secrets.
        pause_seconds: how long its service asks to be left alone.
        targets: the keys of all targets (`alerts.targets`).
        taken_by: the keys of the targets that have accepted what was sent to them.
    """

    reason: str
    pause_seconds: float | None = None
    targets: tuple[str, ...] = ()
    taken_by: tuple[str, ...] = ()


def compose(alerts: Sequence[Told], room: int = MOST_CHARACTERS) -> Message:
    """Return one message of all `alerts`, in their order; lines that do not fit are counted.

    The title says so when an alert is about synthetic prices. `room` is the maximum length of the body in characters.
    """
    # The same fact for two subscriptions is one line.
    lines = list(dict.fromkeys(each.line for each in alerts))
    facts = {each.line: (each.kind, each.is_over) for each in alerts}
    counted = ", ".join(_counted(*what, count) for what, count in Counter(facts.values()).most_common())
    title = lines[0].partition(": ")[0] if len(lines) == 1 and alerts[0].symbol is not None else ""
    prefix = "[SYNTHETIC prices] " if any(each.is_synthetic for each in alerts) else ""
    return Message(
        title=f"{prefix}{counted}: {title}" if title else f"{prefix}{counted}",
        body=_fitting(lines, min(room, MOST_CHARACTERS)),
        is_trouble=any(isinstance(discover().get(each.kind), TroubleKind) and not each.is_over for each in alerts),
    )


def _counted(kind: str, is_over: bool, count: int) -> str:
    known = discover().get(kind)
    one, several = known.titles if known is not None else (kind, kind)
    return ("over: " if is_over else "") + (one if count == 1 else f"{count} {several}")


def _fitting(lines: Sequence[str], room: int) -> str:
    """Return the first of `lines` that fit, at most MOST_LINES, and how many more there are."""
    shown = min(len(lines), MOST_LINES)
    while shown > 0:
        more = len(lines) - shown
        rest = [f"… and {more} more; `ema-assets alerts log` has all"] if more else []
        text = "\n".join([*lines[:shown], *rest])
        if len(text) <= room:
            return text
        shown -= 1
    return lines[0][: max(room - 1, 0)] + "…"
