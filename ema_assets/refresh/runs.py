"""Plans as few runs as possible for the stale series. No I/O, no clock, no Dagster."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

import polars as pl

from ema_assets.model.symbols import Series
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.store.ledger import BEGINNING


@dataclass(frozen=True, slots=True)
class Rectangle:
    """The series of a run: all symbols from `first` to `last`, both included, on one timeframe.

    `takes_closes` is False for a queued run that loads history: bars that have just closed must not wait for it.
    """

    timeframe: Timeframe
    first: str
    last: str
    takes_closes: bool = True

    @property
    def corners(self) -> tuple[str, str]:
        """The keys of the first and the last series."""
        return str(Series(self.first, self.timeframe)), str(Series(self.last, self.timeframe))


class Purpose(Enum):
    """What a run is for. If several of the three live purposes apply to its series, the first one counts."""

    NEWEST = "newest"
    """Bars that have closed or were corrected, and the results that depend on them."""
    ANEW = "anew"
    """Only to recompute series from their beginning, such as after a change of code."""
    TELLING = "telling"
    """Only to report to Dagster what was computed before."""
    REPAIR = "repair"
    """Only to request bars again that are missing or may have changed."""
    HISTORY = "history"
    """The whole history of new series, or bars older than those stored of other series."""
    FIRST = "first"
    """The first computation of series whose bars are stored."""

    @property
    def is_live(self) -> bool:
        """Whether a run with this purpose goes before runs that repair or load anything."""
        return self in _LIVE


_LIVE = (Purpose.NEWEST, Purpose.ANEW, Purpose.TELLING)
# In order of urgency.
_ORDER = (Purpose.NEWEST, Purpose.REPAIR, Purpose.HISTORY, Purpose.FIRST)
_CLOSED = "bar closed"
# The purpose of each reason for being stale, where it is not a live one.
_BY_REASON = {
    "bars missing": Purpose.REPAIR,
    "to be confirmed": Purpose.REPAIR,
    "never asked": Purpose.HISTORY,
    "older bars": Purpose.HISTORY,
    "never computed": Purpose.FIRST,
}


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run: its rectangle, its number of stale series, its purpose, and the symbols of its stale series."""

    rectangle: Rectangle
    series: int
    purpose: Purpose = Purpose.NEWEST
    symbols: frozenset[str] = field(default=frozenset(), repr=False, compare=False)


def plan_runs(
    stale: pl.DataFrame,
    symbols: Sequence[str],
    in_flight: Iterable[Rectangle],
    series_per_run: int,
) -> list[PlannedRun]:
    """Cover the stale series with runs, most urgent first.

    Args:
        stale: symbol, timeframe, reason, since; a series may occur once per asset and reason.
        symbols: all symbols in the order of their partitions; a rectangle is a range in this order. Other symbols are
            left out.
        in_flight: the rectangles of queued and running runs; the series in them are left to these runs.
        series_per_run: the largest number of stale series per run.

    Returns:
        The runs: live ones, then those that only request bars again, then those that load history, then those that
        compute series for the first time; each group shortest timeframe first. Empty if nothing is stale.
    """
    position = {symbol: number for number, symbol in enumerate(symbols)}
    # The covered series, by timeframe and by whether they are stale because a bar has just closed.
    covered: defaultdict[tuple[Timeframe, bool], set[int]] = defaultdict(set)
    for rectangle in in_flight:
        if rectangle.first in position and rectangle.last in position:
            numbers = range(position[rectangle.first], position[rectangle.last] + 1)
            covered[rectangle.timeframe, False].update(numbers)
            if rectangle.takes_closes:
                covered[rectangle.timeframe, True].update(numbers)
    # The numbers of symbols by purpose and timeframe; for live runs also the rank of the urgency of each.
    wanted: defaultdict[tuple[Purpose, Timeframe], set[int]] = defaultdict(set)
    urgency: dict[tuple[Timeframe, int], int] = {}
    for symbol, text, reason, since in stale.select("symbol", "timeframe", "reason", "since").iter_rows():
        timeframe = by_key(text)
        number = position.get(symbol)
        if number is not None and number not in covered[timeframe, reason == _CLOSED]:
            purpose = _purpose(reason, since)
            wanted[Purpose.NEWEST if purpose.is_live else purpose, timeframe].add(number)
            # A live run also does all other work of its series.
            rank = _LIVE.index(purpose) if purpose.is_live else 0
            urgency[timeframe, number] = min(urgency.get((timeframe, number), rank), rank)
    timeframes = sorted({timeframe for _, timeframe in wanted})
    for timeframe in timeframes:
        # Any run of a series computes all of its assets and requests its missing bars, too.
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
                runs.append(PlannedRun(rectangle, len(part), purpose, frozenset(symbols[number] for number in part)))
    return runs


def _purpose(reason: str, since: datetime | None) -> Purpose:
    if reason == "not recorded":
        return Purpose.TELLING
    if reason == "input changed" and since is not None and since <= BEGINNING:
        return Purpose.ANEW
    return _BY_REASON.get(reason, Purpose.NEWEST)
