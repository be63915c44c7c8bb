"""Stale series to as few runs as possible. No I/O, no clock, no Dagster."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from ema_assets.timeframes import ORDER, Timeframe


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A run's reach: all symbols from `first` to `last`, both included, on one timeframe."""

    timeframe: Timeframe
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run: a rectangle, how many stale series it is for, and whether it loads new series' whole history."""

    rectangle: Rectangle
    series: int
    is_history: bool


def plan_runs(
    stale: pl.DataFrame,
    symbols: Sequence[str],
    in_flight: Iterable[Rectangle],
    series_per_run: int,
) -> list[PlannedRun]:
    """Cover the stale series with runs, most urgent first.

    Args:
        stale: symbol, timeframe, reason; a series may occur once an asset.
        symbols: all symbols in the order of their partitions; a rectangle spans this order. Others are left out.
        in_flight: what queued and running runs already cover; series inside are left to them.
        series_per_run: stale series a run takes at most.

    Returns:
        Runs in order of timeframe, live ones before the loading of history; none for an empty plan.
    """
    position = {symbol: number for number, symbol in enumerate(symbols)}
    covered: dict[Timeframe, set[int]] = {timeframe: set() for timeframe in ORDER}
    for rectangle in in_flight:
        if rectangle.first in position and rectangle.last in position:
            covered[rectangle.timeframe].update(range(position[rectangle.first], position[rectangle.last] + 1))
    wanted: dict[tuple[bool, Timeframe], set[int]] = {}
    for symbol, text, reason in stale.select("symbol", "timeframe", "reason").iter_rows():
        timeframe = Timeframe(text)
        number = position.get(symbol)
        if number is not None and number not in covered[timeframe]:
            wanted.setdefault((reason == "never asked", timeframe), set()).add(number)
    runs = []
    for is_history in (False, True):
        for timeframe in ORDER:
            numbers = sorted(wanted.get((is_history, timeframe), ()))
            for start in range(0, len(numbers), series_per_run):
                part = numbers[start : start + series_per_run]
                rectangle = Rectangle(timeframe, symbols[part[0]], symbols[part[-1]])
                runs.append(PlannedRun(rectangle, len(part), is_history))
    return runs
