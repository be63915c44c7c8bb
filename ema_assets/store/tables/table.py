"""Declarations of tables of series: their key, columns and indexes. Tables are created from these records alone."""

from dataclasses import dataclass, replace

from ema_assets.model.asset_names import OHLC
from ema_assets.model.declarations import Column
from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import identifier

# What the blast radius of a correction counts in a table, if anything.
CROSSOVERS, TRADES = "crossovers", "trades"

# The column with the source of a bar. The same bar from another source is no change.
SOURCE_ID = "source_id"


@dataclass(frozen=True, slots=True)
class Filled:
    """A column that the database itself fills. `rule` is its type, and its default or how it is generated, as SQL."""

    name: str
    rule: str
    description: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table of schema `market`, partitioned by timeframe, with the key (symbol, timeframe, `time`).

    Attributes:
        name: name of the table and of its asset.
        time: the time column of the key.
        columns: columns after the key. Empty for a table that is only read from.
        flips: what the blast radius of a correction counts in it: CROSSOVERS, TRADES or nothing.
        checks: conditions that hold for every row, as SQL.
        filled: columns that the database itself fills.
        comment: what the table holds, in one sentence.
        is_computed: False when its rows cannot be computed again: such a table is never dropped.
    """

    name: str
    time: str
    columns: tuple[Column, ...] = ()
    flips: str | None = None
    checks: tuple[str, ...] = ()
    filled: tuple[Filled, ...] = ()
    comment: str = ""
    is_computed: bool = True

    @property
    def values(self) -> tuple[str, ...]:
        """The names of `columns`."""
        return tuple(column.name for column in self.columns)

    def part(self, timeframe: Timeframe) -> str:
        """Return the name, with its schema, of the partition of `timeframe`."""
        return f"market.{identifier(self.name)}_{timeframe.sql_name}"


# The columns of a bar that readers see (BARS), and those that are stored (STORED_BARS).
BARS = Table(
    OHLC,
    "ts",
    (
        Column("open", "float8", "First price", is_nullable=False),
        Column("high", "float8", "Highest price", is_nullable=False),
        Column("low", "float8", "Lowest price", is_nullable=False),
        Column("close", "float8", "Last price", is_nullable=False),
        Column("volume", "float8", "Units traded; null where the source does not know"),
    ),
    checks=("low <= open AND low <= close AND high >= open AND high >= close AND volume >= 0",),
    filled=(
        Filled(
            "stored_at",
            "timestamptz NOT NULL DEFAULT statement_timestamp()",
            "When the bar was first stored; corrections do not change it",
        ),
    ),
    comment="Closed bars. ts is the opening time, UTC; a 1d bar carries its session's open.",
    is_computed=False,
)
STORED_BARS = replace(
    BARS,
    columns=(
        *BARS.columns,
        Column("missing_bars", "int2", "Rolled-up bars only: bars of the bucket that did not trade or did not come"),
        # Two bytes that alignment would waste otherwise.
        Column(SOURCE_ID, "int2", "Who brought the bar as it is now: market.source"),
    ),
)


def converging(table: Table, bars: int) -> Table:
    """Return `table` with the column `warming_up`: true for a series' rows before bar number `bars`."""
    warming_up = Filled(
        "warming_up",
        f"boolean NOT NULL GENERATED ALWAYS AS (bar_number < {int(bars)}) STORED",
        "How the series began still weighs more than a millionth",
    )
    return replace(table, filled=(*table.filled, warming_up))
