"""What came of a piece of work: counted, never a bare success."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl


@dataclass(slots=True)
class Outcome:
    """What was done for some series of one asset and timeframe.

    `done` are the symbols that are now up to date; `written` counts rows per changed symbol; `errors` says why a
    symbol failed. `put_aside`, `rejected` and `corrected` count bars; `calls` counts provider requests.
    """

    done: list[str] = field(default_factory=list)
    written: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    corrected: int = 0
    rejected: int = 0
    put_aside: int = 0
    calls: int = 0

    def add_written(self, changes: pl.DataFrame) -> None:
        """Count the rows of `changes` (symbol, written)."""
        for symbol, rows in changes.select("symbol", "written").iter_rows():
            self.written[symbol] = self.written.get(symbol, 0) + rows

    @property
    def rows(self) -> int:
        """Rows written in all."""
        return sum(self.written.values())

    def metadata(self) -> Mapping[str, int]:
        """The counts that are not zero, by name."""
        counts = {
            "series": len(self.done),
            "rows_written": self.rows,
            "bars_corrected": self.corrected,
            "bars_rejected": self.rejected,
            "bars_put_aside": self.put_aside,
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
    for symbol, rows in estimates.select("symbol", "rows").iter_rows():
        if batch and total + rows > most_rows:
            yield batch
            batch, total = [], 0
        batch.append(symbol)
        total += rows
    if batch:
        yield batch
