"""The outcome of a piece of work in counts, never only success or failure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl


@dataclass(slots=True)
class Outcome:
    """What was done for some series of one asset and timeframe.

    `done` are the symbols that are now up to date; `written` counts rows per changed symbol; `errors` says why a
    symbol failed; `reasons` why it was stale, in words. `unserved` are symbols whose whole history was requested and
    for which no bar was received. `skipped`, `rejected`, `flagged` and `corrected` count bars; `refetched` counts
    series that were fetched again as a whole; `calls` counts provider requests. `recomputed` counts rows that existed
    before; `flipped` counts changed crossovers or trades among them.
    """

    done: list[str] = field(default_factory=list)
    written: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    unserved: set[str] = field(default_factory=set)
    corrected: int = 0
    rejected: int = 0
    skipped: int = 0
    flagged: int = 0
    refetched: int = 0
    recomputed: int = 0
    flipped: int = 0
    calls: int = 0

    def add_written(self, changes: pl.DataFrame) -> None:
        """Count the rows of `changes` (symbol, written)."""
        for symbol, rows in zip(changes["symbol"].to_list(), changes["written"].to_list(), strict=True):
            self.written[symbol] = self.written.get(symbol, 0) + rows

    def add_done(self, symbols: Iterable[str]) -> None:
        """Count `symbols` as up to date, each once."""
        self.done = list(dict.fromkeys([*self.done, *symbols]))

    @property
    def rows(self) -> int:
        """The total number of rows written."""
        return sum(self.written.values())

    def metadata(self) -> Mapping[str, int]:
        """Return the counts that are not zero, by name."""
        counts = {
            "series": len(self.done),
            "rows_written": self.rows,
            "bars_corrected": self.corrected,
            "bars_rejected": self.rejected,
            "bars_skipped": self.skipped,
            "bars_flagged": self.flagged,
            "series_refetched": self.refetched,
            "rows_recomputed": self.recomputed,
            "flipped": self.flipped,
            "series_failed": len(self.errors),
            "provider_calls": self.calls,
        }
        return {name: count for name, count in counts.items() if count}


def batches(estimates: pl.DataFrame, most_rows: int) -> Iterator[list[str]]:
    """Cut symbols into batches of about `most_rows` rows, in order; one symbol is never cut.

    `estimates` has symbol and rows.
    """
    batch: list[str] = []
    total = 0
    for symbol, rows in zip(estimates["symbol"].to_list(), estimates["rows"].to_list(), strict=True):
        if batch and total + rows > most_rows:
            yield batch
            batch, total = [], 0
        batch.append(symbol)
        total += rows
    if batch:
        yield batch
