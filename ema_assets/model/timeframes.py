"""The timeframes and what follows from the length of a bar. Which timeframes are on is decided by the watchlist.

A timeframe is any number of minutes or hours below a day, a session, a week, or one, three or twelve months. Bars of a
few timeframes are fetched; all others are rolled up from these.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from math import gcd
from typing import Literal


@dataclass(frozen=True, slots=True)
class Fetched:
    """How the bars of a timeframe are requested from a provider.

    Attributes:
        history_days: how many calendar days a new series reaches back, unless the watchlist says otherwise.
        overlap: how far before the last stored bar each request begins, because vendors revise bars shortly after their
            close. It covers at least three bars, which are needed to tell a split from a correction.
        gap_margin: how far around a gap bars are requested as well. The stored bars there show whether the answer is on
            their scale.
        gaps_apart: gaps of a series that are closer than this are requested together.
        gap_pause: the pause before a gap is requested again for the first time.
        label_lead: how long before the session's open a vendor's label of a bar may lie. The label of a day is midnight
            at the exchange or in UTC.
    """

    history_days: int
    overlap: timedelta
    gap_margin: timedelta
    gaps_apart: timedelta
    gap_pause: timedelta
    label_lead: timedelta


@dataclass(frozen=True, slots=True)
class RolledUp:
    """Bars that are aggregated from stored bars of a fetched timeframe, whose key is `source`."""

    source: str


# The period that a bar covers if it is longer than a session.
Period = Literal["week", "month", "quarter", "year"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Timeframe:
    """The length of a bar and what follows from it. There is one object per timeframe; compare them by `is`.

    Attributes:
        key: what people write and databases store, such as `5m`: the Dagster partition key of the dimension
            `timeframe`.
        duration: length of a full bar; for bars longer than a session, of the longest one.
        bars: how its bars are obtained.
        period: the period that a bar covers if it is longer than a session, or None.
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
        """Make copies, and unpickling in other processes, return the one object."""
        return by_key, (self.key,)

    @property
    def minutes(self) -> int:
        """Length of a full bar in minutes."""
        return int(self.duration.total_seconds()) // 60

    @property
    def is_intraday(self) -> bool:
        """Whether a session has several bars."""
        return self.duration < _DAY

    @property
    def is_session(self) -> bool:
        """Whether one bar covers one session, whatever the session's length."""
        return self.duration == _DAY

    @property
    def is_live(self) -> bool:
        """Whether its runs may use the run slots that slower work leaves free."""
        return self.duration <= timedelta(minutes=5)

    @property
    def cron(self) -> str:
        """The cron expression of the times at which its bars may close, UTC.

        Sessions begin and end on a quarter hour everywhere, so a bar closes on a multiple of the greatest common
        divisor of its length and 15 minutes.
        """
        return f"*/{self.look_minutes} * * * *"

    @property
    def look_minutes(self) -> int:
        """The minutes between two times at which its bars may close."""
        return gcd(self.minutes, 15)

    @property
    def sql_name(self) -> str:
        """The key in names of tables and columns, which have no capital letters: `1mo` for `1M`."""
        return self.key.replace("M", "mo")

    @property
    def is_fetched(self) -> bool:
        """Whether its bars come from the provider; otherwise, they are rolled up from stored bars."""
        return isinstance(self.bars, Fetched)

    @property
    def fetched(self) -> Fetched:
        """How its bars are requested from a provider.

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
        """The timeframe from whose stored bars its own are rolled up.

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
        """The fetched timeframe from which its bars come: itself, or the one from which they are rolled up."""
        return self if self.is_fetched else self.source

    @property
    def rank(self) -> int:
        """The place in the order of urgency among the USUAL timeframes: 0 for the shortest."""
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

# Timeframes longer than a session, each with its period and the longest duration of the period.
_PERIODS: dict[str, tuple[Period, timedelta]] = {
    "1w": ("week", timedelta(days=7)),
    "1M": ("month", timedelta(days=31)),
    "3M": ("quarter", timedelta(days=92)),
    "12M": ("year", timedelta(days=366)),
}

_INTRADAY = re.compile(r"([1-9][0-9]{0,3})([mh])")


def _minutes_of(text: str) -> int | None:
    """Return how many minutes a text such as `90m` or `6h` names, or None for any other text."""
    match = _INTRADAY.fullmatch(text)
    return int(match[1]) * (60 if match[2] == "h" else 1) if match is not None else None


@cache
def by_key(key: str) -> Timeframe:
    """Return the timeframe with this `key`.

    Raises:
        KeyError: when there is none. For texts that a person wrote, see `symbols.parse_timeframe`.
    """
    if key == "1d":
        return Timeframe(key, _DAY, _FETCHED[key])
    if key in _PERIODS:
        period, longest = _PERIODS[key]
        return Timeframe(key, longest, RolledUp("1d"), period)
    minutes = _minutes_of(key)
    # Each length has one key: an hour is not also 60m, nor a day 24h.
    if minutes is None or minutes >= 1440 or (key.endswith("m") and minutes % 60 == 0):
        raise KeyError(key)
    if key in _FETCHED:
        return Timeframe(key, timedelta(minutes=minutes), _FETCHED[key])
    return Timeframe(key, timedelta(minutes=minutes), RolledUp("1m" if minutes % 5 else "5m"))


def lasting(length: timedelta) -> Timeframe | None:
    """Return the timeframe of up to a day whose full bar has this `length`, or None."""
    minutes, rest = divmod(length, timedelta(minutes=1))
    if rest or not 1 <= minutes <= 1440:
        return None
    if minutes == 1440:
        return by_key("1d")
    return by_key(f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m")


def with_bases(timeframes: Iterable[Timeframe]) -> tuple[Timeframe, ...]:
    """Return `timeframes` and those from which their bars are rolled up; each once, shortest first."""
    wanted = list(timeframes)
    return tuple(sorted({*wanted, *(each.base for each in wanted)}))


# The timeframes whose bars are requested from providers.
FETCHED: tuple[Timeframe, ...] = tuple(sorted(map(by_key, _FETCHED)))
# The timeframes of a watchlist that names none.
DEFAULT: tuple[Timeframe, ...] = tuple(map(by_key, ("5m", "15m", "30m", "1h", "4h", "1d")))
# The most common timeframes, for messages. All others that `by_key` knows are allowed as well.
USUAL: tuple[Timeframe, ...] = tuple(
    map(by_key, ("1m", "3m", "5m", "15m", "30m", "45m", "1h", "2h", "4h", "1d", "1w", "1M"))
)
# The allowed timeframes, in words.
ALLOWED = (
    f"{', '.join(each.key for each in USUAL)}, 3M, 12M, or any other number of minutes or hours below a day, "
    "such as 90m"
)


_ORIGIN = "rolled up from "


def rolled_up_from(source: Timeframe) -> str:
    """Return the name of the source of bars that are rolled up from those of `source`."""
    return f"{_ORIGIN}{source.key}"


def source_named(name: str | None) -> Timeframe | None:
    """Return the timeframe from whose bars those with a source of this name are rolled up; None for other sources."""
    if name is None or not name.startswith(_ORIGIN):
        return None
    try:
        return by_key(name.removeprefix(_ORIGIN))
    except KeyError:
        return None


def usual_among(timeframes: Sequence[Timeframe]) -> Timeframe:
    """Return the one that is shown when none is named: an hour or the next longer one, else the last."""
    return next((each for each in timeframes if each.minutes >= 60), timeframes[-1])


_SPELT = re.compile(r"([1-9][0-9]{0,3})? ?([A-Za-z]+)")
# Other words for the last letter of a key. `M` and `m` differ, so these two have none of one letter.
_UNITS = {
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hour", "hours", "hourly"), "h"),
    **dict.fromkeys(("d", "day", "daily"), "d"),
    **dict.fromkeys(("w", "week", "weekly"), "w"),
    **dict.fromkeys(("mo", "month", "monthly"), "M"),
}


def same_as(text: str) -> Timeframe | None:
    """Return the timeframe that `text` means in another spelling, such as `1h` for `60m` or `1d` for `D`, or None."""
    found = _SPELT.fullmatch(text)
    unit = _UNITS.get(found[2].lower()) if found is not None else None
    key = text if found is None or unit is None else f"{found[1] or 1}{unit}"
    minutes = _minutes_of(key)
    if minutes is not None:
        return lasting(timedelta(minutes=minutes))
    try:
        return by_key(key)
    except KeyError:
        return None
