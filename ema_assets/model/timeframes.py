"""The timeframes: what follows from the length of a bar. Which of them are on is said by the watchlist, not here.

Any number of minutes or hours below a day, a session, a week, and one, three or twelve months. Bars of a few of them
are fetched; all others are rolled up from those.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from math import gcd
from typing import Literal


@dataclass(frozen=True, slots=True)
class Fetched:
    """How the bars of a timeframe are asked from a provider.

    Attributes:
        history_days: calendar days that a new series reaches back, where the watchlist does not say.
        overlap: how far before the last stored bar each request begins. Vendors revise bars shortly after their close.
            At least three bars lie in it, for that is what tells a split from a correction.
        gap_margin: how far around a gap is asked as well: the stored bars there tell whether the answer is on their
            scale.
        gaps_apart: gaps of a series that are closer than this are asked together.
        gap_pause: the pause before a gap is asked for again the first time.
        label_lead: how long before the session's open a vendor's label of a bar may lie: midnight at the exchange or in
            UTC for a day.
    """

    history_days: int
    overlap: timedelta
    gap_margin: timedelta
    gaps_apart: timedelta
    gap_pause: timedelta
    label_lead: timedelta


@dataclass(frozen=True, slots=True)
class RolledUp:
    """Bars that are aggregated from the stored bars of the timeframe `source`, a fetched one, by its key."""

    source: str


# What a bar that is longer than a session covers.
Period = Literal["week", "month", "quarter", "year"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Timeframe:
    """A bar's length and what follows from it. There is one object per timeframe; compare them by `is`.

    Attributes:
        key: what people write and databases store, such as `5m`: the Dagster partition key of the dimension
            `timeframe`.
        duration: length of a full bar; of bars that are longer than a session, the longest that there is.
        bars: how its bars are obtained.
        period: what a bar covers that is longer than a session, or None.
    """

    key: str
    duration: timedelta
    bars: Fetched | RolledUp
    period: Period | None = None

    def __str__(self) -> str:
        return self.key

    def __repr__(self) -> str:
        return f"Timeframe({self.key!r})"

    def __lt__(self, other: "Timeframe") -> bool:
        return self.duration < other.duration

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Copies and other processes get the one object."""
        return by_key, (self.key,)

    @property
    def minutes(self) -> int:
        """Length of a full bar in minutes."""
        return int(self.duration.total_seconds()) // 60

    @property
    def is_intraday(self) -> bool:
        """True when a session has several bars."""
        return self.duration < _DAY

    @property
    def is_session(self) -> bool:
        """True when one bar covers one session, whatever the session's length."""
        return self.duration == _DAY

    @property
    def is_live(self) -> bool:
        """True when its runs may use the run slots that slower work leaves free."""
        return self.duration <= timedelta(minutes=5)

    @property
    def cron(self) -> str:
        """When its bars may close, UTC.

        Sessions begin and end on the quarter hour everywhere, so that a bar closes on a multiple of what its length and
        a quarter of an hour have in common.
        """
        return f"*/{self.look_minutes} * * * *"

    @property
    def look_minutes(self) -> int:
        """How many minutes lie between two times at which its bars may close."""
        return gcd(self.minutes, 15)

    @property
    def sql_name(self) -> str:
        """Its key in names of tables and columns, which know no capital letters: `1mo` for `1M`."""
        return self.key.replace("M", "mo")

    @property
    def is_fetched(self) -> bool:
        """True when bars come from the provider, False when they are rolled up from stored bars."""
        return isinstance(self.bars, Fetched)

    @property
    def fetched(self) -> Fetched:
        """How its bars are asked from a provider.

        Raises:
            ValueError: when they are rolled up.
        """
        match self.bars:
            case Fetched():
                return self.bars
            case _:
                raise ValueError(f"`timeframe` must be a fetched one, received {self.key}, which is rolled up")

    @property
    def source(self) -> "Timeframe":
        """The timeframe whose stored bars make its own.

        Raises:
            ValueError: when its bars are fetched.
        """
        match self.bars:
            case RolledUp(source):
                return by_key(source)
            case _:
                raise ValueError(f"`timeframe` must be a rolled-up one, received {self.key}, which is fetched")

    @property
    def base(self) -> "Timeframe":
        """The fetched timeframe that its bars come from: itself, or the one that they are rolled up from."""
        return self if self.is_fetched else self.source

    @property
    def rank(self) -> int:
        """Place in the order of urgency among the usual ones: 0 for the shortest."""
        return bisect_left(USUAL, self)


_DAY = timedelta(days=1)

_FETCHED = {
    "1m": Fetched(
        history_days=7,
        overlap=timedelta(minutes=5),
        gap_margin=timedelta(minutes=5),
        gaps_apart=timedelta(hours=6),
        gap_pause=timedelta(minutes=5),
        label_lead=timedelta(0),
    ),
    "5m": Fetched(
        history_days=60,
        overlap=timedelta(minutes=15),
        gap_margin=timedelta(minutes=15),
        gaps_apart=timedelta(days=1),
        gap_pause=timedelta(minutes=5),
        label_lead=timedelta(0),
    ),
    "1d": Fetched(
        history_days=730,
        overlap=timedelta(days=7),
        gap_margin=timedelta(days=4),
        gaps_apart=timedelta(days=60),
        gap_pause=timedelta(hours=1),
        label_lead=timedelta(hours=18),
    ),
}

# Bars that are longer than a session, with the longest that such a period can be.
_PERIODS: dict[str, tuple[Period, timedelta]] = {
    "1w": ("week", timedelta(days=7)),
    "1M": ("month", timedelta(days=31)),
    "3M": ("quarter", timedelta(days=92)),
    "12M": ("year", timedelta(days=366)),
}

_INTRADAY = re.compile(r"([1-9][0-9]{0,3})([mh])")


def _minutes_of(text: str) -> int | None:
    """How many minutes `text` names, such as `90m` or `6h`; None when it is not written like that."""
    match = _INTRADAY.fullmatch(text)
    return int(match[1]) * (60 if match[2] == "h" else 1) if match is not None else None


@cache
def by_key(key: str) -> Timeframe:
    """The timeframe that is written `key`.

    Raises:
        KeyError: when there is none. For what a person wrote, see `symbols.parse_timeframe`.
    """
    if key == "1d":
        return Timeframe(key, _DAY, _FETCHED[key])
    if key in _PERIODS:
        period, longest = _PERIODS[key]
        return Timeframe(key, longest, RolledUp("1d"), period)
    minutes = _minutes_of(key)
    # One length has one key: an hour is not also 60m, nor a day 24h.
    if minutes is None or minutes >= 1440 or (key.endswith("m") and minutes % 60 == 0):
        raise KeyError(key)
    if key in _FETCHED:
        return Timeframe(key, timedelta(minutes=minutes), _FETCHED[key])
    return Timeframe(key, timedelta(minutes=minutes), RolledUp("1m" if minutes % 5 else "5m"))


def lasting(length: timedelta) -> Timeframe | None:
    """The timeframe below a week whose full bar is `length`, or None."""
    minutes, rest = divmod(length, timedelta(minutes=1))
    if rest or not 1 <= minutes <= 1440:
        return None
    if minutes == 1440:
        return by_key("1d")
    return by_key(f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m")


def with_bases(timeframes: Iterable[Timeframe]) -> tuple[Timeframe, ...]:
    """`timeframes` and those that their bars are rolled up from; each once, shortest first."""
    wanted = list(timeframes)
    return tuple(sorted({*wanted, *(each.base for each in wanted)}))


# Those that providers are asked for.
FETCHED: tuple[Timeframe, ...] = tuple(sorted(map(by_key, _FETCHED)))
# Those of a watchlist that names none.
DEFAULT: tuple[Timeframe, ...] = tuple(map(by_key, ("5m", "15m", "30m", "1h", "4h", "1d")))
# What people use most, for messages. Any other that `by_key` knows will do as well.
USUAL: tuple[Timeframe, ...] = tuple(
    map(by_key, ("1m", "3m", "5m", "15m", "30m", "45m", "1h", "2h", "4h", "1d", "1w", "1M"))
)
# Of one's own, in a sentence.
ALLOWED = (
    f"{', '.join(each.key for each in USUAL)}, 3M, 12M, or any other number of minutes or hours below a day, "
    "such as 90m"
)


def same_as(text: str) -> Timeframe | None:
    """The timeframe that is written in another way than `text`, such as `1h` for `60m`; None when there is none."""
    minutes = _minutes_of(text)
    return lasting(timedelta(minutes=minutes)) if minutes is not None else None
