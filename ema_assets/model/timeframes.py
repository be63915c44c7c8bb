"""The timeframes: one record each, with everything that depends on the length of a bar. A new one is one new record."""

from dataclasses import dataclass
from datetime import timedelta


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


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Timeframe:
    """A bar's length and what follows from it. The registry holds one object per timeframe; compare them by `is`.

    Attributes:
        key: what people write and databases store, such as `5m`: the Dagster partition key of the dimension
            `timeframe`.
        duration: length of a full bar.
        bars: how its bars are obtained.
        cron: when its bars may close, UTC.
        is_session: True when one bar covers one session, whatever the session's length.
        is_live: True when its runs may use the run slot that slower work leaves free.
    """

    key: str
    duration: timedelta
    bars: Fetched | RolledUp
    cron: str
    is_session: bool = False
    is_live: bool = False

    def __str__(self) -> str:
        return self.key

    def __repr__(self) -> str:
        return f"Timeframe({self.key!r})"

    def __lt__(self, other: "Timeframe") -> bool:
        return self.rank < other.rank

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Copies and other processes get the registry's own object."""
        return by_key, (self.key,)

    @property
    def minutes(self) -> int:
        """Length of a full bar in minutes."""
        return int(self.duration.total_seconds()) // 60

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
    def feeds(self) -> "tuple[Timeframe, ...]":
        """The timeframes that are rolled up from this one, shortest first."""
        return tuple(each for each in ROLLED_UP if each.source is self)

    @property
    def rank(self) -> int:
        """Place in the order of urgency: 0 for the shortest."""
        return _RANKS[self.key]


_EVERY_5_MINUTES = "*/5 * * * *"
# Sessions open on the quarter hour everywhere, so bars longer than 15 minutes may close on any quarter.
_EVERY_15_MINUTES = "*/15 * * * *"

_REGISTRY = (
    Timeframe(
        "5m",
        timedelta(minutes=5),
        Fetched(
            history_days=60,
            overlap=timedelta(minutes=15),
            gap_margin=timedelta(minutes=15),
            gaps_apart=timedelta(days=1),
            gap_pause=timedelta(minutes=5),
            label_lead=timedelta(0),
        ),
        _EVERY_5_MINUTES,
        is_live=True,
    ),
    Timeframe("15m", timedelta(minutes=15), RolledUp("5m"), _EVERY_15_MINUTES),
    Timeframe("30m", timedelta(minutes=30), RolledUp("5m"), _EVERY_15_MINUTES),
    Timeframe("1h", timedelta(hours=1), RolledUp("5m"), _EVERY_15_MINUTES),
    Timeframe("4h", timedelta(hours=4), RolledUp("5m"), _EVERY_15_MINUTES),
    Timeframe(
        "1d",
        timedelta(days=1),
        Fetched(
            history_days=730,
            overlap=timedelta(days=7),
            gap_margin=timedelta(days=4),
            gaps_apart=timedelta(days=60),
            gap_pause=timedelta(hours=1),
            label_lead=timedelta(hours=18),
        ),
        _EVERY_15_MINUTES,
        is_session=True,
    ),
)

ORDER: tuple[Timeframe, ...] = tuple(sorted(_REGISTRY, key=lambda each: each.duration))
_RANKS = {each.key: rank for rank, each in enumerate(ORDER)}
_BY_KEY = {each.key: each for each in ORDER}
FETCHED: tuple[Timeframe, ...] = tuple(each for each in ORDER if each.is_fetched)
ROLLED_UP: tuple[Timeframe, ...] = tuple(each for each in ORDER if not each.is_fetched)
KEYS: tuple[str, ...] = tuple(_BY_KEY)


def by_key(key: str) -> Timeframe:
    """The timeframe that is written `key`.

    Raises:
        KeyError: when there is none. For what a person wrote, see `symbols.parse_timeframe`.
    """
    return _BY_KEY[key]
