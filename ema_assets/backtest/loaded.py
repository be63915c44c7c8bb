"""Stored bars and sessions in memory, read when they are first needed. Contains nothing about strategies."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from ema_assets.arguments import check_timeframe, database_of, stored_symbols
from ema_assets.market.calendars import place
from ema_assets.model.errors import ConfigurationError, first_of
from ema_assets.model.timeframes import Timeframe
from ema_assets.refresh.compute import sessions_of
from ema_assets.reports.adjusted_bars import adjusted_bars
from ema_assets.store import quality_reports, results, sessions, tables

# The most symbols that an error names.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class _Read:
    """Bars of one timeframe, and the sessions around them."""

    bars: pl.DataFrame
    trading: pl.DataFrame


@dataclass(slots=True)
class Market:
    """The bars of `symbols` (None: all) from `start` to before `end` (None: open), adjusted as `adjust` says.

    Longer timeframes, whose trends a strategy may wait for, are read from their beginning.
    """

    timeframe: Timeframe
    symbols: list[str] | None
    start: datetime | None
    end: datetime | None
    adjust: str
    url: str | None
    calendars: pl.DataFrame = field(init=False)
    bars_per_year: pl.DataFrame = field(init=False)
    flags: pl.DataFrame = field(init=False)
    _known: dict[Timeframe, _Read] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.symbols is not None and not self.symbols:
            raise ConfigurationError("`symbols` must name one at least, or be left out for all; received none")
        bars = self.bars(self.timeframe)
        if bars.is_empty():
            of = f" of {first_of(self.symbols, _NAMED)}" if self.symbols else ""
            raise ConfigurationError(f"there are no bars{of} on {self.timeframe.key} in that time to try anything on")

    def bars(self, timeframe: Timeframe) -> pl.DataFrame:
        """Return symbol, ts, open, high, low, close, volume on `timeframe`; sorted by symbol and ts."""
        return self._read(timeframe).bars

    def check_trends(self, higher: Timeframe, expected: Collection[str]) -> None:
        """Refuse `higher` as a timeframe whose trend a strategy waits for if a traded symbol has no bars on it.

        The `expected` symbols have it on the watchlist: they may have begun too late to have a bar.

        Raises:
            ConfigurationError: naming the symbols without bars.
        """
        lacking = self.bars(self.timeframe).join(self.bars(higher), on="symbol", how="anti")["symbol"].unique().sort()
        if others := [symbol for symbol in lacking if symbol not in expected]:
            raise ConfigurationError(
                f"`higher_timeframe` must have bars of each symbol, received {higher.key!r}, which has none of "
                f"{first_of(others, _NAMED)}"
            )

    def placed(self, bars: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
        """Return `bars` with calendar, session, is_session_last and ts_end."""
        return place(
            bars.join(self.calendars, on="symbol", how="left", maintain_order="left"),
            timeframe,
            self._read(timeframe).trading,
        )

    def _read(self, timeframe: Timeframe) -> _Read:
        if timeframe not in self._known:
            self._known[timeframe] = self._from_store(timeframe)
        return self._known[timeframe]

    def _from_store(self, timeframe: Timeframe) -> _Read:
        with database_of(self.url) as database, database.transaction() as transaction:
            transaction.read_one_moment()
            self.symbols = stored_symbols(transaction, self.symbols)
            argument = "timeframe" if timeframe == self.timeframe else "higher_timeframe"
            check_timeframe(transaction, tables.BARS, timeframe, argument)
            start = self.start if timeframe == self.timeframe else None
            bars = adjusted_bars(transaction, timeframe, self.symbols, start, self.end, self.adjust)
            if timeframe == self.timeframe:
                self.calendars = sessions.calendars_of(transaction, bars["symbol"].unique().to_list())
                self.bars_per_year = results.bars_per_year(transaction, timeframe, self.symbols)
                self.flags = quality_reports.flags_of(transaction, timeframe.key, self.symbols, start, self.end)
            return _Read(bars, sessions_of(transaction, self.calendars, bars, timeframe))
