"""The tables of bars, signals, trades and states: declaring, creating, reading and writing them. SQL only."""

from ema_assets.store.tables.ddl import ensure, outdated
from ema_assets.store.tables.reads import (
    bars_as_of,
    bars_between,
    closes_around,
    closes_between,
    earlier,
    first_stored,
    has_part,
    newest_rows,
    pages,
    read_before,
    read_range,
    read_since,
    row_counts,
)
from ema_assets.store.tables.table import BARS, CROSSOVERS, STORED_BARS, TRADES, Filled, Table, converging
from ema_assets.store.tables.writes import reject, source_id, thin_out, write_bars, write_computed

__all__ = [
    "BARS",
    "CROSSOVERS",
    "STORED_BARS",
    "TRADES",
    "Filled",
    "Table",
    "bars_as_of",
    "bars_between",
    "closes_around",
    "closes_between",
    "converging",
    "earlier",
    "ensure",
    "first_stored",
    "has_part",
    "newest_rows",
    "outdated",
    "pages",
    "read_before",
    "read_range",
    "read_since",
    "reject",
    "row_counts",
    "source_id",
    "thin_out",
    "write_bars",
    "write_computed",
]
