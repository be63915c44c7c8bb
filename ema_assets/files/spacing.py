"""How far apart the bars of a file are, and which timeframe that is. Knows no sessions."""

from dataclasses import dataclass

import polars as pl

from ema_assets.files.words import timeframe_of
from ema_assets.model.counts import counted
from ema_assets.model.timeframes import USUAL, Timeframe

_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Spacing:
    """The usual distance between neighbouring bars in seconds, and how many of how many distances are this one."""

    seconds: int
    count: int
    of: int

    @property
    def timeframe(self) -> Timeframe | None:
        """The timeframe whose bars are this far apart; days may lie over weekends, if most bars are days apart."""
        return timeframe_of(self.seconds)

    @property
    def is_clear(self) -> bool:
        """True when the distance says what the bars are: two of them, and a third of all."""
        return self.count >= 2 and self.count * 3 >= self.of

    def __str__(self) -> str:
        for length, name in ((_DAY, "day"), (3600, "hour"), (60, "minute")):
            if self.seconds >= length and self.seconds % length == 0:
                count = self.seconds // length
                return counted(count, name)
        return counted(self.seconds, "second")


def spacing(bars: pl.DataFrame, time: str) -> Spacing | None:
    """The most frequent distance between neighbours in `bars` (symbol, `time`), within each symbol.

    None when no symbol has two bars. Of equally frequent distances the shortest counts.
    """
    steps = (
        bars.select("symbol", time)
        .drop_nulls(time)
        .unique()
        .sort("symbol", time)
        .select(pl.col(time).diff().over("symbol").dt.total_seconds().alias("step"))
        .drop_nulls()
        .filter(pl.col("step") > 0)
    )
    if steps.is_empty():
        return None
    counted = steps.group_by("step").len().sort("len", "step", descending=[True, False])
    length, count = counted.row(0)
    # Clocks that go forward or back make days of 23 and 25 hours.
    if abs(length - _DAY) == 3600:
        length = _DAY
    return Spacing(int(length), int(count), steps.height)


# What the bars of a file may be: longer ones are rolled up from days.
ALL_TIMEFRAMES = f"{', '.join(each.key for each in USUAL if each.period is None)}, or others such as 10m and 6h"
