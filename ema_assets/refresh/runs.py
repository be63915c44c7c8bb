"""Stale series to as few runs as possible. No I/O, no clock, no Dagster."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import polars as pl

from ema_assets.model.symbols import Series
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.store.ledger import BEGINNING


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A run's reach: all symbols from `first` to `last`, both included, on one timeframe.

    `takes_closes` is False for a run that waits to load history: no bar that has just closed waits with it.
    """

    timeframe: Timeframe
    first: str
    last: str
    takes_closes: bool = True

    @property
    def corners(self) -> tuple[str, str]:
        """The first and the last series, as they are written."""
        return str(Series(self.first, self.timeframe)), str(Series(self.last, self.timeframe))


class Purpose(Enum):
    """What a run is for. Of the three live ones, the first that is true of one of its series counts."""

    NEWEST = "newest"
    """Bars that have closed or were corrected, and what follows from them."""
    ANEW = "anew"
    """Series that are only computed again from their beginning, such as by other code."""
    TELLING = "telling"
    """Dagster was not told of what has been computed, and no more is to do."""
    REPAIR = "repair"
    """Only to ask again for bars that are missing or may have changed."""
    HISTORY = "history"
    """The whole history of new series, or what is older than the bars of others."""
    FIRST = "first"
    """Series whose bars are there are computed for the first time."""

    @property
    def is_live(self) -> bool:
        """Whether it goes before runs that repair or load anything."""
        return self in _LIVE


_LIVE = (Purpose.NEWEST, Purpose.ANEW, Purpose.TELLING)
# In order of urgency.
_ORDER = (Purpose.NEWEST, Purpose.REPAIR, Purpose.HISTORY, Purpose.FIRST)
_CLOSED = "bar closed"
# What a reason for which a series is stale asks for, where it is more than a live run.
_BY_REASON = {
    "bars missing": Purpose.REPAIR,
    "to be confirmed": Purpose.REPAIR,
    "never asked": Purpose.HISTORY,
    "older bars": Purpose.HISTORY,
    "never computed": Purpose.FIRST,
}


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run: a rectangle, how many stale series it is for, and what it is for."""

    rectangle: Rectangle
    series: int
    purpose: Purpose = Purpose.NEWEST


def plan_runs(
    stale: pl.DataFrame,
    symbols: Sequence[str],
    in_flight: Iterable[Rectangle],
    series_per_run: int,
) -> list[PlannedRun]:
    """Cover the stale series with runs, most urgent first.

    Args:
        stale: symbol, timeframe, reason, since; a series may occur once per asset and reason.
        symbols: all symbols in the order of their partitions; a rectangle spans this order. Others are left out.
        in_flight: what queued and running runs already cover; series inside are left to them.
        series_per_run: stale series a run takes at most.

    Returns:
        Runs in order of timeframe, live ones before those that only ask again for bars, and these before the
        loading of history and what is computed for the first time; none for an empty plan.
    """
    position = {symbol: number for number, symbol in enumerate(symbols)}
    # By timeframe, and whether a bar of it has just closed.
    covered: defaultdict[tuple[Timeframe, bool], set[int]] = defaultdict(set)
    for rectangle in in_flight:
        if rectangle.first in position and rectangle.last in position:
            numbers = range(position[rectangle.first], position[rectangle.last] + 1)
            covered[rectangle.timeframe, False].update(numbers)
            if rectangle.takes_closes:
                covered[rectangle.timeframe, True].update(numbers)
    # By kind and timeframe, the numbers of symbols; of those in live runs, how urgent what they are for is.
    wanted: defaultdict[tuple[Purpose, Timeframe], set[int]] = defaultdict(set)
    urgency: dict[tuple[Timeframe, int], int] = {}
    for symbol, text, reason, since in stale.select("symbol", "timeframe", "reason", "since").iter_rows():
        timeframe = by_key(text)
        number = position.get(symbol)
        if number is not None and number not in covered[timeframe, reason == _CLOSED]:
            purpose = _purpose(reason, since)
            wanted[Purpose.NEWEST if purpose.is_live else purpose, timeframe].add(number)
            # A live run does what else there is to do for its series.
            rank = _LIVE.index(purpose) if purpose.is_live else 0
            urgency[timeframe, number] = min(urgency.get((timeframe, number), rank), rank)
    timeframes = sorted({timeframe for _, timeframe in wanted})
    for timeframe in timeframes:
        # Any run of a series computes all of its assets, and asks for its missing bars too.
        others = wanted[Purpose.NEWEST, timeframe] | wanted[Purpose.HISTORY, timeframe]
        wanted[Purpose.FIRST, timeframe] -= others
        wanted[Purpose.REPAIR, timeframe] -= others | wanted[Purpose.FIRST, timeframe]
    runs = []
    for kind in _ORDER:
        for timeframe in timeframes:
            stale_ones = sorted(wanted[kind, timeframe])
            for start in range(0, len(stale_ones), series_per_run):
                part = stale_ones[start : start + series_per_run]
                most_urgent = min(urgency[timeframe, number] for number in part)
                rectangle = Rectangle(timeframe, symbols[part[0]], symbols[part[-1]])
                purpose = _LIVE[most_urgent] if kind is Purpose.NEWEST else kind
                runs.append(PlannedRun(rectangle, len(part), purpose))
    return runs


def _purpose(reason: str, since: datetime | None) -> Purpose:
    if reason == "not recorded":
        return Purpose.TELLING
    if reason == "input changed" and since is not None and since <= BEGINNING:
        return Purpose.ANEW
    return _BY_REASON.get(reason, Purpose.NEWEST)
