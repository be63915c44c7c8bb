"""From a bar's close to its last row: a histogram that only grows while its process lives, as Prometheus wants it."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import polars as pl

# From what a tick takes on a quiet machine to what is a fault.
BUCKETS = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
# A row is written just before its transaction ends. What is younger may still be followed by an older one.
SETTLED = timedelta(seconds=10)


class LatencyCounts:
    """Series per timeframe and bucket, of all that was committed since `start`, the machine's time."""

    def __init__(self, start: datetime) -> None:
        self.counted_through = start
        self._buckets: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def window(self, now: datetime) -> tuple[datetime, datetime]:
        """Of which time rows are to be given to `add`: after the first moment, up to the second."""
        return self.counted_through, max(now - SETTLED, self.counted_through)

    def expect(self, timeframes: Iterable[str]) -> None:
        """Have `cumulative` name these, with zeros as long as nothing was counted.

        What Prometheus sees for the first time is no increase to it: the first close would be missing in every rate.
        """
        for timeframe in timeframes:
            self._buckets.setdefault(timeframe, [0] * (len(BUCKETS) + 1))

    def add(self, rows: pl.DataFrame, through: datetime) -> None:
        """Count `rows` (timeframe, seconds, series), which are all up to `through`."""
        for timeframe, seconds, series in rows.select("timeframe", "seconds", "series").iter_rows():
            buckets = self._buckets.setdefault(timeframe, [0] * (len(BUCKETS) + 1))
            place = next((n for n, limit in enumerate(BUCKETS) if seconds <= limit), len(BUCKETS))
            buckets[place] += series
            self._sums[timeframe] = self._sums.get(timeframe, 0.0) + seconds * series
        self.counted_through = through

    def cumulative(self) -> dict[str, tuple[list[tuple[str, float]], float]]:
        """By timeframe: the upper limit of each bucket as text with all series up to it, and the sum of the seconds."""
        limits = [*map(str, BUCKETS), "+Inf"]
        found = {}
        for timeframe, buckets in sorted(self._buckets.items()):
            totals = [float(sum(buckets[: n + 1])) for n in range(len(buckets))]
            found[timeframe] = (list(zip(limits, totals, strict=True)), self._sums.get(timeframe, 0.0))
        return found
