"""Faults on demand: what they are, how one is asked for, and what it does to an answer. No HTTP.

A fault acts on answers (`delay`, `rate_limit`, `refuse`, `server_error`, `cut_body`) or on data (`missing_symbol`,
`late_bar`, `corrected_bar`, `hole`, `half_answer`, `ended`, `halted`, `delayed`, `split`, `repriced`,
`corporate_action`). Each may name `symbols`, and then concerns only answers that hold one of them, and `times`, and
then ends after so many answers. Data faults change five-minute bars, so that aggregates always agree with them; and
lists of symbols and corporate actions, so that these agree with the bars.
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
# Prices have four decimals: by more than this they would come to nothing or to no number.
_Ratio = Annotated[float, msgspec.Meta(ge=0.0001, le=10_000)]
# For longer no client stays away.
_Wait = Annotated[float, msgspec.Meta(ge=0, le=LONGEST_PAUSE_SECONDS)]
_Symbols = Annotated[list[str], msgspec.Meta(min_length=1)]


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field=_KIND):
    """What every fault may say. `symbols` are spelt as on the watchlist, or as a vendor spells them: `BTCUSDT`."""

    symbols: _Symbols | None = None
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Delay(Fault, tag="delay"):
    """Answer `seconds` later."""

    seconds: Annotated[float, msgspec.Meta(gt=0, le=600)]


class RateLimit(Fault, tag="rate_limit"):
    """Answer 429. With `headers` it says when to come back: after `retry_after_seconds`."""

    headers: bool = True
    retry_after_seconds: _Wait = 1.0


class Refuse(Fault, tag="refuse"):
    """Answer `status`, from 400 to 499, in the vendor's words, or with `html` by a page as a gateway sends it."""

    status: Annotated[int, msgspec.Meta(ge=400, le=499)]
    html: bool = False
    retry_after_seconds: _Wait | None = None


class ServerError(Fault, tag="server_error"):
    """Answer `status`, from 500 to 599, in the vendor's words, or with `html` by a page as a gateway sends it."""

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
    """Hold back the five-minute bar that opens at `ts` until `seconds` after its close; without them, until cleared."""

    ts: _Aware
    seconds: _Positive | None = None

    def __post_init__(self) -> None:
        _check_opening(self.ts)


class CorrectedBar(_DataFault, tag="corrected_bar"):
    """Give the five-minute bar that opens at `ts` other values; with `seconds` only so long after its close.

    On the last bar of a session that is the closing auction: the day is preliminary until then.
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
        """The columns that change, with their new values."""
        columns = ("open", "high", "low", "close", "volume")
        return {column: value for column in columns if (value := getattr(self, column)) is not None}


class Hole(_DataFault, tag="hole"):
    """Leave out the five-minute bars that open from `start` to before `end`, until cleared: an outage of the vendor."""

    start: _Aware
    end: _Aware

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise ValueError("a hole needs an `end` after its `start`")


class HalfAnswer(_DataFault, tag="half_answer"):
    """Leave out the later half of the five-minute bars, and say that this was all: a page that is lost."""


class Ended(_DataFault, tag="ended"):
    """The symbols trade no more from `at` on: their bars end there, and the vendor goes on answering."""

    at: _Aware


class Halted(_DataFault, tag="halted"):
    """The vendor's list says that the symbols are halted. Their bars go on, unless they have `ended` as well."""


class CorporateAction(_DataFault, tag="corporate_action"):
    """The vendor tells of a corporate action of the symbols: `type` is its list, such as `name_changes`.

    `fields` are those of the action in the vendor's words, without `id`. No bar changes.
    """

    type: str
    fields: dict[str, Any]


class Delayed(_DataFault, tag="delayed"):
    """The exchange is `seconds` behind: an answer about one of `symbols` is what it would have been so long ago."""

    seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)]


class Split(_DataFault, tag="split"):
    """Divide the prices of all bars before `at` by `ratio` and multiply their volumes. Not seen in raw prices."""

    at: _Aware
    ratio: _Ratio


class Repriced(_DataFault, tag="repriced"):
    """Divide the prices of all bars from `at` on by `ratio`, and of none before: 100 for pence that become pounds."""

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
    """A fault cannot be read; the message names the allowed kinds or fields."""


def parse_fault(body: bytes) -> AnyFault:
    """Read one fault from JSON such as `{"kind": "delay", "seconds": 2, "symbols": ["AAPL"], "times": 1}`.

    Raises:
        InvalidFaultError: naming what is wrong and what is allowed.
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
    """A fault that was asked for, and how often it has acted."""

    def __init__(self, number: int, fault: AnyFault) -> None:
        self.number = number
        self.fault = fault
        self.acted = 0

    @property
    def is_spent(self) -> bool:
        """True when it has acted as many times as it was asked to."""
        return self.fault.times is not None and self.acted >= self.fault.times

    def concerns(self, symbols: Iterable[str]) -> bool:
        """True when it may act on an answer about `symbols`."""
        return not self.is_spent and (self.fault.symbols is None or not set(self.fault.symbols).isdisjoint(symbols))

    def report(self) -> dict[str, Any]:
        """The fault as it was asked for, with its `id` and how often it has `acted`."""
        asked: dict[str, Any] = msgspec.to_builtins(self.fault)
        return {"id": self.number, **{k: v for k, v in asked.items() if v is not None}, "acted": self.acted}


class Faults:
    """All active faults of one sandbox. Changed only between answers, so one event loop needs no lock."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._active: dict[int, Active] = {}

    def add(self, fault: AnyFault) -> int:
        """Activate `fault` and return its id."""
        number = next(self._numbers)
        self._active[number] = Active(number, fault)
        return number

    def clear(self, number: int | None = None) -> bool:
        """End one fault, or all; False when there is no fault `number`."""
        if number is None:
            self._active.clear()
            return True
        return self._active.pop(number, None) is not None

    def report(self) -> list[dict[str, Any]]:
        """Every fault that has not been cleared, spent ones included, in the order they were asked for."""
        return [active.report() for active in list(self._active.values())]

    def concerning(self, symbols: Iterable[str]) -> list[Active]:
        """The faults that may act on an answer about `symbols`."""
        symbols = set(symbols)
        return [active for active in list(self._active.values()) if active.concerns(symbols)]


def standing(faults: Iterable[Active], symbol: str, now: datetime) -> str | None:
    """What a vendor's list says of `symbol` at `now`: trading, halted or ended; None when the list lacks it."""
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
    """What the data faults do to the five-minute bars of `symbol`; None when nothing. Fills `acted` as they act."""
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
    """`bars` with the prices of some `rows` divided by `ratio`, and their volumes multiplied; None without any."""
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
    """Which of `bars` the answer does not hold at `now`."""
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
