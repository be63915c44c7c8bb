"""The distance between the bars of a file, and the timeframe it belongs to. Knows no sessions."""

from dataclasses import dataclass

import polars as pl

from ema_assets.files.words import timeframe_of
from ema_assets.model.counts import counted
from ema_assets.model.timeframes import USUAL, Timeframe

_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Spacing:
    """The usual distance between neighbouring bars in seconds, and how often it occurs: `count` of `of` distances."""

    seconds: int
    count: int
    of: int

    @property
    def timeframe(self) -> Timeframe | None:
        """The timeframe whose full bars have this length; None when there is none."""
        return timeframe_of(self.seconds)

    @property
    def is_clear(self) -> bool:
        """Whether the distance identifies the timeframe: it occurs at least twice, and in a third of all cases."""
        return self.count >= 2 and self.count * 3 >= self.of

    def __str__(self) -> str:
        for length, name in ((_DAY, "day"), (3600, "hour"), (60, "minute")):
            if self.seconds >= length and self.seconds % length == 0:
                count = self.seconds // length
                return counted(count, name)
        return counted(self.seconds, "second")


def spacing(bars: pl.DataFrame, time: str) -> Spacing | None:
    """Return the most frequent distance between neighbours in `bars` (symbol, `time`), within each symbol.

    It is None when no symbol has two bars. Among equally frequent distances, the shortest counts.
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
    # Days have 23 or 25 hours when clocks change.
    if abs(length - _DAY) == 3600:
        length = _DAY
    return Spacing(int(length), int(count), steps.height)


# Text with the timeframes that bars of a file may have. Longer ones are rolled up from days.
ALL_TIMEFRAMES = f"{', '.join(each.key for each in USUAL if each.period is None)}, or others such as 10m and 6h"
