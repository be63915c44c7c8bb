"""Whether the numbers can be trusted now: freshness, last work, gaps, corrections and their blast radius."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ema_assets.reports import freshness, health, status
from ema_assets.store import series_overview
from ema_assets.store.database import Transaction

# Corrections of this period are reported.
LOOK_BACK = timedelta(hours=24)

_BEHIND = (freshness.LATE, freshness.INCOMPLETE, freshness.COMPUTING, freshness.WITHOUT_BARS)


@dataclass(frozen=True, slots=True)
class Trust:
    """A summary of all series at one moment.

    Attributes:
        counts: number of series per condition of `freshness.CONDITIONS`.
        last_work: when bars were last stored or confirmed, by the machine's clock; None before the first time.
        gaps: number of open gaps, and of bars missing in them.
        corrections: symbol, timeframe, kind, changed_from, bars_corrected, rows_recomputed, crossovers_flipped,
            trades_flipped, source, revised_at; of the last 24 hours, newest first.
        failures: why series fail, the most common reason first.
        not_answering: a sentence per provider that does not answer.
        symbols: a sentence per symbol that has no bars any more or does not trade as usual.
        not_synced: since when and why the watchlist is not synced; None when it is.
    """

    counts: Mapping[str, int]
    last_work: datetime | None
    gaps: tuple[int, int]
    corrections: pl.DataFrame
    failures: tuple[status.FailureReason, ...]
    not_answering: tuple[str, ...]
    symbols: tuple[str, ...]
    not_synced: str | None

    @property
    def series(self) -> int:
        """The number of series."""
        return sum(self.counts.values())

    @property
    def fine(self) -> int:
        """The number of series that need nobody's attention."""
        return sum(self.counts.get(each, 0) for each in freshness.FINE)

    @property
    def verdict(self) -> str:
        """One word for a traffic light: `empty`, `fresh`, `loading`, `behind` or `failing`."""
        if not self.series:
            return "empty"
        if self.counts.get(freshness.FAILING) or self.not_answering:
            return "failing"
        bad = [each for each in _BEHIND if self.counts.get(each)]
        if bad:
            return "behind"
        return "loading" if self.counts.get(freshness.LOADING) else "fresh"

    def flipped(self) -> tuple[int, int, int]:
        """Return the blast radius of all corrections: the numbers of rows recomputed, crossovers and trades flipped."""
        if self.corrections.is_empty():
            return 0, 0, 0
        names = ("rows_recomputed", "crossovers_flipped", "trades_flipped")
        rows, crossovers, trades = (int(self.corrections[name].sum()) for name in names)
        return rows, crossovers, trades


def trust(
    transaction: Transaction, conditions: pl.DataFrame, instant: datetime, default_provider: str | None = None
) -> Trust:
    """Return the summary of `conditions`, as returned by `freshness.conditions`, at `instant` of the machine's clock.

    `default_provider` is as in `status.not_answering`.
    """
    gaps = health.open_gaps(transaction)
    # As in `status`, a series that is fed from files counts once it has bars.
    counted = conditions.filter((pl.col("condition") != freshness.FROM_FILES) | pl.col("last_ts").is_not_null())
    return Trust(
        counts=dict(counted.group_by("condition").len().iter_rows()),
        last_work=series_overview.last_work(transaction),
        gaps=(gaps.height, int(gaps["bars"].sum())),
        corrections=health.revised_since(transaction, instant - LOOK_BACK),
        failures=tuple(status.failure_reasons(transaction)),
        not_answering=tuple(status.not_answering(transaction, default_provider)),
        symbols=(*status.silent(transaction), *status.states_apart(transaction)),
        not_synced=status.not_synced(transaction),
    )
