"""What a table of bars, signals, trades or states is: the record that it is made from, and the one of bars."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from ema_assets.model.asset_names import OHLC
from ema_assets.model.declarations import Column, Index, IsBelow
from ema_assets.model.schemas import KINDS, UTC_TIME
from ema_assets.model.timeframes import Timeframe
from ema_assets.store.database import identifier

# What the blast radius of a correction counts in a table.
CROSSOVERS, TRADES = "crossovers", "trades"


@dataclass(frozen=True, slots=True)
class Filled:
    """A column that Postgres fills in, never null. `rule` is its default, or how it is generated, in SQL.

    A default is looked at only when the column is made.
    """

    name: str
    kind: str
    rule: str
    description: str


@dataclass(frozen=True, slots=True)
class Check:
    """A condition, in SQL, that every row meets."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the schema `market`, partitioned by timeframe, with the key symbol, timeframe and a time.

    Attributes:
        name: of the table.
        time: the time column of its key.
        columns: the value columns that are read and written; a table that is only read needs none.
        description: what the table holds.
        extra: columns that not every writer fills.
        derived: columns that Postgres derives from others.
        defaults: columns that Postgres gives a default.
        checks: beside those of `choices` of columns.
        indexes: beside that of the key.
        flips: what the blast radius of a correction counts in it: CROSSOVERS, TRADES or nothing.
    """

    name: str
    time: str
    columns: tuple[Column, ...] = ()
    description: str = ""
    extra: tuple[Column, ...] = ()
    derived: tuple[IsBelow, ...] = ()
    defaults: tuple[Filled, ...] = ()
    checks: tuple[Check, ...] = ()
    indexes: tuple[Index, ...] = ()
    flips: str | None = None

    @property
    def values(self) -> tuple[str, ...]:
        """The names of `columns`."""
        return tuple(column.name for column in self.columns)

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """Of a frame of its rows: symbol, the time, the values."""
        kinds = {column.name: KINDS[column.kind] for column in self.columns}
        return {"symbol": pl.String(), self.time: UTC_TIME, **kinds}

    def part(self, timeframe: Timeframe) -> str:
        """The partition of one timeframe, with its schema."""
        return f"market.{identifier(self.name)}_{timeframe.key}"


BARS = Table(
    OHLC,
    "ts",
    columns=(
        Column("open", "float8", "First price", is_nullable=False),
        Column("high", "float8", "Highest price", is_nullable=False),
        Column("low", "float8", "Lowest price", is_nullable=False),
        Column("close", "float8", "Last price", is_nullable=False),
        Column("volume", "float8", "Units traded", is_nullable=False),
    ),
    description="Closed bars. ts is the opening time, UTC; a 1d bar carries its session's open.",
    extra=(
        Column(
            "missing_bars",
            "int8",
            "Rolled-up bars only: how many source bars of the bucket did not trade or did not come",
        ),
    ),
    defaults=(
        Filled(
            "stored_at",
            "timestamptz",
            "DEFAULT statement_timestamp()",
            "When the bar was first stored; corrections do not change it",
        ),
    ),
    checks=(
        Check(
            "prices_in_order",
            "low > 0 AND low <= open AND low <= close AND high >= open AND high >= close AND volume >= 0",
        ),
    ),
)
