"""Faults on demand: their kinds, how to request one, and its effect on an answer. No HTTP.

A fault acts on answers (`delay`, `rate_limit`, `refuse`, `server_error`, `cut_body`) or on data (`missing_symbol`,
`late_bar`, `corrected_bar`, `hole`, `half_answer`, `ended`, `halted`, `delayed`, `split`, `repriced`,
`corporate_action`). With `symbols`, a fault acts only on answers about one of these symbols. With `times`, it ends
after that many answers. Data faults change five-minute bars, so that aggregates always agree with them. They also
change lists of symbols and corporate actions, so that these agree with the bars.
"""

import itertools
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Any

import msgspec
import numpy as np

from ema_assets.model.errors import LONGEST_PAUSE_SECONDS
from ema_assets.sandbox.synthetic_bars import Bars

_KIND = "kind"
_BAR_SECONDS = 300
_Aware = Annotated[datetime, msgspec.Meta(tz=True)]
_Positive = Annotated[float, msgspec.Meta(gt=0)]
# Prices have four decimals. Beyond these limits, they would become zero or overflow.
_Ratio = Annotated[float, msgspec.Meta(ge=0.0001, le=10_000)]
# No client waits longer.
_Wait = Annotated[float, msgspec.Meta(ge=0, le=LONGEST_PAUSE_SECONDS)]
_Symbols = Annotated[list[str], msgspec.Meta(min_length=1)]


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field=_KIND):
    """The fields of every fault. `symbols` are spelt as on the watchlist, or as a vendor spells them: `BTCUSDT`."""

    symbols: _Symbols | None = None
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Delay(Fault, tag="delay"):
    """Answer `seconds` later."""

    seconds: Annotated[float, msgspec.Meta(gt=0, le=600)]


class RateLimit(Fault, tag="rate_limit"):
    """Answer 429. With `headers`, the answer says when to retry: after `retry_after_seconds`."""

    headers: bool = True
    retry_after_seconds: _Wait = 1.0


class Refuse(Fault, tag="refuse"):
    """Answer `status`, from 400 to 499, in the vendor's words, or, with `html`, as a gateway's page."""

    status: Annotated[int, msgspec.Meta(ge=400, le=499)]
    html: bool = False
    retry_after_seconds: _Wait | None = None


class ServerError(Fault, tag="server_error"):
    """Answer `status`, from 500 to 599, in the vendor's words, or, with `html`, as a gateway's page."""

    status: Annotated[int, msgspec.Meta(ge=500, le=599)] = 500
    html: bool = False


class CutBody(Fault, tag="cut_body"):
    """Close the connection in the middle of the answer's body."""


class _DataFault(Fault):
    symbols: _Symbols


def _check_opening(ts: datetime) -> None:
    if ts.timestamp() % _BAR_SECONDS:
        raise ValueError("`ts` must be the opening time of a five-minute bar, such as 15:00 or 15:05")


class MissingSymbol(_DataFault, tag="missing_symbol"):
    """Leave the symbols out of the answer."""


class LateBar(_DataFault, tag="late_bar"):
    """Omit the five-minute bar that opens at `ts` until `seconds` after its close, or, without them, until cleared."""

    ts: _Aware
    seconds: _Positive | None = None

    def __post_init__(self) -> None:
        _check_opening(self.ts)


class CorrectedBar(_DataFault, tag="corrected_bar"):
    """Change values of the five-minute bar that opens at `ts`; with `seconds`, only that long after its close.

    On the last bar of a session, this is the closing auction: the day's bar is preliminary until then.
    """

    ts: _Aware
    seconds: _Positive | None = None
    open: float | None = None
    high: float | None = None
    low: float | None = None
    close: float | None = None
    volume: float | None = None

    def __post_init__(self) -> None:
        _check_opening(self.ts)
        if not self.changes():
            raise ValueError("a corrected_bar needs at least one of open, high, low, close, volume")

    def changes(self) -> dict[str, float]:
        """Return the columns that change, with their new values."""
        columns = ("open", "high", "low", "close", "volume")
        return {column: value for column in columns if (value := getattr(self, column)) is not None}


class Hole(_DataFault, tag="hole"):
    """Omit the five-minute bars that open in `[start, end)` until the fault is cleared, as after a vendor's outage."""

    start: _Aware
    end: _Aware

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise ValueError("a hole needs an `end` after its `start`")


class HalfAnswer(_DataFault, tag="half_answer"):
    """Omit the later half of the five-minute bars and claim that the answer is complete, as if a page were lost."""


class Ended(_DataFault, tag="ended"):
    """End trading of the symbols at `at`. There are no bars from then on, but the vendor still answers."""

    at: _Aware


class Halted(_DataFault, tag="halted"):
    """List the symbols as halted. Their bars continue, unless they have `ended` as well."""


class CorporateAction(_DataFault, tag="corporate_action"):
    """Report a corporate action of the symbols in the vendor's list `type`, such as `name_changes`.

    `fields` are the action's fields as the vendor names them, without `id`. Bars do not change.
    """

    type: str
    fields: dict[str, Any]


class Delayed(_DataFault, tag="delayed"):
    """Answer requests about one of `symbols` as the exchange would have answered `seconds` ago."""

    seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)]


class Split(_DataFault, tag="split"):
    """Divide the prices of all bars before `at` by `ratio` and multiply their volumes. Raw prices do not change."""

    at: _Aware
    ratio: _Ratio


class Repriced(_DataFault, tag="repriced"):
    """Divide the prices of all bars from `at` on by `ratio`, but not earlier ones: 100 when pence become pounds."""

    at: _Aware
    ratio: _Ratio


AnyFault = (
    Delay
    | RateLimit
    | Refuse
    | ServerError
    | CutBody
    | MissingSymbol
    | LateBar
    | CorrectedBar
    | Hole
    | HalfAnswer
    | Ended
    | Halted
    | CorporateAction
    | Delayed
    | Split
    | Repriced
)
_ON_BARS = (LateBar, CorrectedBar, Hole, HalfAnswer, Ended, Split, Repriced)
KINDS: dict[str, type[Fault]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        *(Delay, RateLimit, Refuse, ServerError, CutBody),
        *(MissingSymbol, LateBar, CorrectedBar, Hole, HalfAnswer, Ended, Halted),
        *(CorporateAction, Delayed, Split, Repriced),
    )
}


class InvalidFaultError(ValueError):
    """A fault cannot be parsed. The message names the allowed kinds or fields."""


def parse_fault(body: bytes) -> AnyFault:
    """Parse one fault from JSON such as `{"kind": "delay", "seconds": 2, "symbols": ["AAPL"], "times": 1}`.

    Raises:
        InvalidFaultError: when the fault is invalid. The message names what is wrong and what is allowed.
    """
    try:
        raw: Any = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise InvalidFaultError(f"a fault must be a JSON object: {error}") from None
    kinds = ", ".join(KINDS)
    if not isinstance(raw, dict) or _KIND not in raw:
        raise InvalidFaultError(f"a fault must be a JSON object with a `kind`, one of: {kinds}")
    kind = KINDS.get(raw[_KIND]) if isinstance(raw[_KIND], str) else None
    if kind is None:
        raise InvalidFaultError(f"`kind` must be one of: {kinds}; received {raw[_KIND]!r}")
    allowed = kind.__struct_fields__
    if unknown := sorted(set(raw) - set(allowed) - {_KIND}):
        raise InvalidFaultError(f"a {raw[_KIND]} has no field {unknown[0]!r}; allowed: {', '.join(allowed)}")
    try:
        fault: AnyFault = msgspec.convert(raw, AnyFault)
    except msgspec.ValidationError as error:
        raise InvalidFaultError(f"a {raw[_KIND]} cannot be read: {error}; allowed: {', '.join(allowed)}") from None
    return fault


class Active:
    """A requested fault, and how often it has acted."""

    def __init__(self, number: int, fault: AnyFault) -> None:
        self.number = number
        self.fault = fault
        self.acted = 0

    @property
    def is_spent(self) -> bool:
        """Whether it has acted as many times as requested."""
        return self.fault.times is not None and self.acted >= self.fault.times

    def concerns(self, symbols: Iterable[str]) -> bool:
        """Return whether it may act on an answer about `symbols`."""
        return not self.is_spent and (self.fault.symbols is None or not set(self.fault.symbols).isdisjoint(symbols))

    def report(self) -> dict[str, Any]:
        """Return the fault as requested, with its `id` and how often it has `acted`."""
        asked: dict[str, Any] = msgspec.to_builtins(self.fault)
        return {"id": self.number, **{k: v for k, v in asked.items() if v is not None}, "acted": self.acted}


class Faults:
    """All active faults of one sandbox. They change only between answers, so one event loop needs no lock."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._active: dict[int, Active] = {}

    def add(self, fault: AnyFault) -> int:
        """Activate `fault` and return its id."""
        number = next(self._numbers)
        self._active[number] = Active(number, fault)
        return number

    def clear(self, number: int | None = None) -> bool:
        """End one fault, or all. Return False when there is no fault `number`."""
        if number is None:
            self._active.clear()
            return True
        return self._active.pop(number, None) is not None

    def report(self) -> list[dict[str, Any]]:
        """Return every fault that has not been cleared, including spent ones, in the order of the requests."""
        return [active.report() for active in list(self._active.values())]

    def concerning(self, symbols: Iterable[str]) -> list[Active]:
        """Return the faults that may act on an answer about `symbols`."""
        symbols = set(symbols)
        return [active for active in list(self._active.values()) if active.concerns(symbols)]


def standing(faults: Iterable[Active], symbol: str, now: datetime) -> str | None:
    """Return the status of `symbol` in a vendor's list at `now`: trading, halted or ended; None when not listed."""
    found = "trading"
    for active in faults:
        if active.fault.symbols is None or symbol not in active.fault.symbols:
            continue
        match active.fault:
            case MissingSymbol():
                return None
            case Ended(at=at) if at <= now:
                found = "ended"
            case Halted() if found != "ended":
                found = "halted"
    return found


def alteration(
    faults: Iterable[Active], symbol: str, now: int, *, raw_prices: bool, acted: set[int]
) -> Callable[[Bars], Bars] | None:
    """Return a function that applies the data faults to five-minute bars of `symbol`; None when there are none.

    The function adds the numbers of the faults that change bars to `acted`.
    """
    mine = [active for active in faults if active.fault.symbols is not None and symbol in active.fault.symbols]
    mine = [active for active in mine if isinstance(active.fault, _ON_BARS)]
    if not mine:
        return None

    def alter(bars: Bars) -> Bars:
        for active in mine:
            fault = active.fault
            if isinstance(fault, Split):
                before = bars.ts < fault.at.timestamp()
                changed = _divided(bars, before, fault.ratio, with_volumes=True) if not raw_prices else None
            elif isinstance(fault, Repriced):
                changed = _divided(bars, bars.ts >= fault.at.timestamp(), fault.ratio, with_volumes=False)
            elif isinstance(fault, CorrectedBar):
                changed = _correct(bars, fault, now)
            else:
                is_left_out = _left_out(bars, fault, now)
                changed = bars.pick(~is_left_out) if is_left_out.any() else None
            if changed is not None:
                bars = changed
                acted.add(active.number)
        return bars

    return alter


def _divided(bars: Bars, rows: np.ndarray[Any, np.dtype[np.bool_]], ratio: float, *, with_volumes: bool) -> Bars | None:
    """Return `bars` with the prices of some `rows` divided by `ratio`; None when there are no such rows.

    With `with_volumes`, their volumes are multiplied by `ratio`.
    """
    if not rows.any():
        return None
    divisor = np.where(rows, ratio, 1.0)

    def adjust(price: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.where(rows, np.round(price / divisor, 4), price)

    return Bars(
        ts=bars.ts,
        end=bars.end,
        open=adjust(bars.open),
        high=adjust(bars.high),
        low=adjust(bars.low),
        close=adjust(bars.close),
        volume=np.where(rows, np.rint(bars.volume * divisor), bars.volume) if with_volumes else bars.volume,
        trades=bars.trades,
        vwap=adjust(bars.vwap),
    )


def _correct(bars: Bars, fault: CorrectedBar, now: int) -> Bars | None:
    row = bars.ts == int(fault.ts.timestamp())
    if fault.seconds is not None:
        row &= bars.end + fault.seconds <= now
    if not row.any():
        return None
    columns = {name: np.where(row, value, getattr(bars, name)) for name, value in fault.changes().items()}
    return Bars(**{name: columns.get(name, getattr(bars, name)) for name in Bars.__slots__})


def _left_out(bars: Bars, fault: AnyFault, now: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which of `bars` the fault omits from an answer at `now`."""
    left_out = np.zeros(len(bars.ts), dtype=np.bool_)
    match fault:
        case Hole(start=start, end=end):
            left_out |= (bars.ts >= start.timestamp()) & (bars.ts < end.timestamp())
        case HalfAnswer():
            left_out[len(left_out) // 2 :] = True
        case Ended(at=at):
            left_out |= bars.ts >= at.timestamp()
        case LateBar(ts=ts, seconds=seconds):
            left_out |= bars.ts == int(ts.timestamp())
            if seconds is not None:
                left_out &= bars.end + seconds > now
    return left_out
