"""A histogram of the time from a bar's close to its last row; while its process lives, it only grows."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import polars as pl

# In seconds, from a tick on a quiet machine up to a fault.
BUCKETS = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
# A row's time is taken just before its transaction ends, so rows younger than this may be followed by older ones.
SETTLED = timedelta(seconds=10)


class LatencyCounts:
    """Counts of series per timeframe and bucket, for everything committed since `start` (the machine's time)."""

    def __init__(self, start: datetime) -> None:
        self.counted_through = start
        self._buckets: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def window(self, now: datetime) -> tuple[datetime, datetime]:
        """Return the time span whose rows must be passed to `add`: after the first moment, up to the second."""
        return self.counted_through, max(now - SETTLED, self.counted_through)

    def expect(self, timeframes: Iterable[str]) -> None:
        """Make `cumulative` include these `timeframes`, with zeros as long as nothing was counted.

        Prometheus sees no increase in the first value of a series: the first close would be missing in every rate.
        """
        for timeframe in timeframes:
            self._buckets.setdefault(timeframe, [0] * (len(BUCKETS) + 1))

    def add(self, rows: pl.DataFrame, through: datetime) -> None:
        """Count `rows` (timeframe, seconds, series), which include everything up to `through`."""
        for timeframe, seconds, series in rows.select("timeframe", "seconds", "series").iter_rows():
            buckets = self._buckets.setdefault(timeframe, [0] * (len(BUCKETS) + 1))
            place = next((n for n, limit in enumerate(BUCKETS) if seconds <= limit), len(BUCKETS))
            buckets[place] += series
            self._sums[timeframe] = self._sums.get(timeframe, 0.0) + seconds * series
        self.counted_through = through

    def cumulative(self) -> dict[str, tuple[list[tuple[str, float]], float]]:
        """Return by timeframe: each bucket's upper limit as text with the series up to it, and the sum of seconds."""
        limits = [*map(str, BUCKETS), "+Inf"]
        found = {}
        for timeframe, buckets in sorted(self._buckets.items()):
            totals = [float(sum(buckets[: n + 1])) for n in range(len(buckets))]
            found[timeframe] = (list(zip(limits, totals, strict=True)), self._sums.get(timeframe, 0.0))
        return found
