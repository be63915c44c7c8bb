"""Stale series to as few runs as possible. No I/O, no clock, no Dagster."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

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


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run: a rectangle, and how many stale series it is for.

    `is_history` when it loads the whole history of new series or what is older than the bars of others, `is_first` when
    it computes series for the first time whose bars are there, `is_repair` when it only asks again for bars that are
    missing or may have changed. Of the other runs, `is_anew` when it only computes series again from their beginning,
    such as by other code, and `is_telling` when Dagster was not told of what has been computed, and no more is to do.
    """

    rectangle: Rectangle
    series: int
    is_history: bool
    is_repair: bool = False
    is_first: bool = False
    is_anew: bool = False
    is_telling: bool = False


# Kinds of runs in order of urgency, by the reason for which a series is stale.
_LIVE, _REPAIR, _HISTORY, _FIRST = range(4)
_CLOSED = "bar closed"
# What live runs are for, the first that is true of one of their series.
_NEWEST, _ANEW, _TELLING = range(3)
_KINDS = {
    "bars missing": _REPAIR,
    "to be confirmed": _REPAIR,
    "never asked": _HISTORY,
    "older bars": _HISTORY,
    "never computed": _FIRST,
}


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
    wanted: dict[tuple[int, Timeframe], set[int]] = {}
    purposes: dict[tuple[Timeframe, int], int] = {}
    for symbol, text, reason, since in stale.select("symbol", "timeframe", "reason", "since").iter_rows():
        timeframe = by_key(text)
        number = position.get(symbol)
        if number is not None and number not in covered[timeframe, reason == _CLOSED]:
            wanted.setdefault((_KINDS.get(reason, _LIVE), timeframe), set()).add(number)
            known = purposes.get((timeframe, number), _TELLING)
            purposes[timeframe, number] = min(known, _purpose(reason, since))
    timeframes = sorted({timeframe for _, timeframe in wanted})
    for timeframe in timeframes:
        # Any run of a series computes all of its assets, and asks for its missing bars too.
        others = wanted.get((_LIVE, timeframe), set()) | wanted.get((_HISTORY, timeframe), set())
        wanted.get((_FIRST, timeframe), set()).difference_update(others)
        wanted.get((_REPAIR, timeframe), set()).difference_update(others | wanted.get((_FIRST, timeframe), set()))
    runs = []
    for kind in (_LIVE, _REPAIR, _HISTORY, _FIRST):
        for timeframe in timeframes:
            stale_ones = sorted(wanted.get((kind, timeframe), ()))
            for start in range(0, len(stale_ones), series_per_run):
                part = stale_ones[start : start + series_per_run]
                purpose = min(purposes[timeframe, number] for number in part) if kind == _LIVE else _NEWEST
                runs.append(
                    PlannedRun(
                        Rectangle(timeframe, symbols[part[0]], symbols[part[-1]]),
                        len(part),
                        is_history=kind == _HISTORY,
                        is_repair=kind == _REPAIR,
                        is_first=kind == _FIRST,
                        is_anew=purpose == _ANEW,
                        is_telling=purpose == _TELLING,
                    )
                )
    return runs


def _purpose(reason: str, since: datetime | None) -> int:
    if reason == "not recorded":
        return _TELLING
    return _ANEW if reason == "input changed" and since is not None and since <= BEGINNING else _NEWEST
