"""An in-memory provider for the tests, and helpers that query the database."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from ema_assets.config.watchlist import Watchlist
from ema_assets.market.calendars import bar_grid
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.model.asset_names import CHAIN
from ema_assets.model.errors import ProviderError, ProviderUnavailable
from ema_assets.model.schemas import BAR_SCHEMA
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations.refresh_all import refresh_all
from ema_assets.providers.declaration import LongHistory, Publication
from ema_assets.providers.fetching.base import NO_ACTIONS, BarRequest, FetchBatch, SeriesFailure
from ema_assets.refresh.depths import depths
from ema_assets.refresh.graph import Graph
from ema_assets.refresh.outcome import Outcome
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.store.database import Database
from ema_assets_tests.core import CORE
from ema_assets_tests.timeframes import D1, FEW, M1, M5

TABLES = {
    "ohlc": "ts",
    "ema_signals": "ts",
    "ema_trend": "ts",
    "strategy_9_30_ema": "entry_ts",
}


def utc(text: str) -> datetime:
    """A UTC time from text without a zone."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@cache
def grid_of(calendar: str, timeframe: Timeframe, first: date, last: date) -> pl.DataFrame:
    """Every bar that should exist from `first` to `last`. Cached, because the calendar library is slow."""
    return bar_grid(exchange_sessions(calendar, first, last), timeframe)


def bars_on(
    calendar: str, symbol: str, timeframe: Timeframe, first: date, last: date, seed: int = 0, missing: float = 0.0
) -> pl.DataFrame:
    """One bar for each slot of the grid from `first` to `last`, except for a random share of `missing` bars."""
    grid = grid_of(calendar, timeframe, first, last)
    random = np.random.default_rng(seed)
    grid = grid.filter(pl.Series(random.random(grid.height) >= missing, dtype=pl.Boolean))
    closes = np.round(100 * np.exp(np.cumsum(random.normal(0, 0.02, grid.height))), 4)
    opens = np.concatenate([closes[:1], closes[:-1]])
    return grid.select(
        pl.lit(symbol).alias("symbol"),
        pl.lit(timeframe.key).alias("timeframe"),
        "ts",
        pl.Series("open", opens),
        pl.Series("high", np.maximum(opens, closes) + 1),
        pl.Series("low", np.minimum(opens, closes) * 0.99),
        pl.Series("close", closes),
        pl.Series("volume", random.integers(1, 5000, grid.height).astype(float)),
    )


def moved(bars: pl.DataFrame, factor: float) -> pl.DataFrame:
    """`bars` with all prices multiplied by `factor`."""
    return bars.with_columns(pl.col("open", "high", "low", "close") * factor)


def by_clock(base: pl.DataFrame, first: str, last: str) -> pl.DataFrame:
    """Hourly bars aligned to the clock, as many vendors cut them: the first starts half an hour before the open."""
    days = base.filter(pl.col("ts").is_between(utc(first), utc(f"{last} 23:59")))
    hours = summed_up(days, pl.col("ts").dt.truncate("1h"))
    return hours.with_columns(timeframe=pl.lit("1h")).select(list(BAR_SCHEMA))


def summed_up(bars: pl.DataFrame, start: pl.Expr) -> pl.DataFrame:
    """One bar for all `bars` of a symbol with the same `start`, without a timeframe; `bars` are sorted by ts."""
    return bars.group_by("symbol", ts=start, maintain_order=True).agg(
        pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last(), pl.sum("volume")
    )


class MemoryExchange:
    """Bars in memory, and a provider that answers from them.

    `bars` (BAR_SCHEMA) may be replaced at any time. Requests for `failing` symbols fail. The last page of `silent`
    symbols never arrives. `actions` (ACTION_SCHEMA) come with every answer. `asked` lists all requests received.
    """

    name = "memory"

    def __init__(self, *frames: pl.DataFrame, page_rows: int | None = None) -> None:
        self.bars = pl.concat(frames) if frames else BAR_SCHEMA.to_frame()
        self.actions = NO_ACTIONS
        self.failing: dict[str, str] = {}
        self.failure: type[ProviderError] = ProviderUnavailable
        # Only requests for this timeframe fail; None means requests for all timeframes.
        self.failing_timeframe: Timeframe | None = None
        self.silent: set[str] = set()
        self.asked: list[BarRequest] = []
        self.calls = 0
        self.closed = 0
        self.between_pages: Callable[[], None] | None = None
        self._page_rows = page_rows

    def __call__(self, name: str | None = None) -> "MemoryExchange":
        """Take the place of `open_provider`. Each run counts its own calls."""
        self.calls = 0
        return self

    def correct(self, changed: pl.DataFrame) -> None:
        """Publish `changed`. It replaces bars with the same keys."""
        self.bars = pl.concat([self.bars, changed]).unique(["symbol", "timeframe", "ts"], keep="last")

    async def fetch(self, requests: Sequence[BarRequest]) -> AsyncIterator[FetchBatch]:
        """Answer all requests. With `page_rows`, pages end in the middle of a series, as those of a vendor do."""
        self.asked += requests
        self.calls += 1
        good = [
            each
            for each in requests
            if each.instrument.symbol not in self.failing or self.failing_timeframe not in (None, each.timeframe)
        ]
        failures = tuple(
            SeriesFailure(each, self.failure(self.failing[each.instrument.symbol], provider=self.name))
            for each in requests
            if each not in good
        )
        answers = [(each, self._of(each)) for each in sorted(good, key=lambda each: each.instrument.symbol)]
        if self._page_rows is None:
            whole = pl.concat([BAR_SCHEMA.to_frame(), *(bars for _, bars in answers)])
            yield FetchBatch(whole, self._heard(good), failures, actions=self.actions)
            return
        yield FetchBatch(BAR_SCHEMA.to_frame(), (), failures)
        for request, bars in answers:
            pages = list(bars.iter_slices(self._page_rows)) or [bars]
            for number, page in enumerate(pages):
                if self.between_pages is not None:
                    self.between_pages()
                yield FetchBatch(page, self._heard([request]) if number == len(pages) - 1 else (), ())

    def _heard(self, requests: Iterable[BarRequest]) -> tuple[BarRequest, ...]:
        return tuple(each for each in requests if each.instrument.symbol not in self.silent)

    def _of(self, request: BarRequest) -> pl.DataFrame:
        return self.bars.filter(
            pl.col("symbol") == request.instrument.symbol,
            pl.col("timeframe") == request.timeframe.key,
            pl.col("ts") >= request.start,
            pl.col("ts") < request.end,
        ).sort("ts")

    async def aclose(self) -> None:
        """Count how often the provider was closed."""
        self.closed += 1


def watch(
    calendars: Mapping[str, str],
    *,
    m5_days: int = 30,
    d1_days: int = 120,
    provider: str | None = None,
    timeframes: Sequence[Timeframe] = FEW,
) -> Watchlist:
    """A watchlist that assigns symbols to calendars and has only the assets of the chain."""
    instruments = tuple(
        Instrument(symbol, calendar, provider, timeframes=tuple(sorted(timeframes)))
        for symbol, calendar in calendars.items()
    )
    return Watchlist(instruments, {M1: 2, M5: m5_days, D1: d1_days}, **CORE)


def refresh(
    database: Database,
    watched: Watchlist,
    exchange: MemoryExchange,
    now: datetime,
    *,
    symbols: Sequence[str] | None = None,
    timeframes: Sequence[Timeframe] | None = None,
    everything: bool = False,
    delay: timedelta = timedelta(0),
    graph: Graph | None = None,
    long: LongHistory | None = None,
) -> dict[tuple[str, Timeframe], Outcome]:
    """Refresh everything watched at `now`. `long` is the long history that the provider offers."""
    return {
        (asset, timeframe): outcome
        for asset, timeframe, outcome in refresh_all(
            database,
            watched,
            exchange,
            FetchRules(
                watched.history_days,
                {None: Publication(delay)},
                {} if long is None else {None: long},
                depths=depths(watched.history_days, watched.with_bars),
            ),
            symbols if symbols is not None else watched.symbols,
            timeframes if timeframes is not None else watched.with_bars,
            graph=graph,
            everything=everything,
            clock=lambda: now,
        )
    }


def tables_of(database: Database) -> dict[str, pl.DataFrame]:
    """All rows of the four assets, sorted by key, without the time and the source of their storage."""
    with database.transaction() as transaction:
        return {
            asset: transaction.query(f"SELECT * FROM market.{asset}")
            .drop("stored_at", "source_id", strict=False)
            .sort("symbol", "timeframe", TABLES[asset])
            for asset in CHAIN
        }


def versions_of(database: Database) -> dict[str, set[tuple[Any, ...]]]:
    """The key and version of every row. A row that is written again gets another version."""
    with database.transaction() as transaction:
        return {
            asset: set(
                transaction.query(
                    f"SELECT symbol, timeframe, {time}, xmin::text || ctid::text AS version FROM market.{asset}"
                ).rows()
            )
            for asset, time in TABLES.items()
        }


def state_of(database: Database, symbol: str, timeframe: Timeframe, asset: str = "ohlc") -> dict[str, Any]:
    """One row of the ledger."""
    with database.transaction() as transaction:
        return transaction.query(
            "SELECT * FROM market.series_state WHERE asset = $1 AND symbol = $2 AND timeframe = $3",
            asset,
            symbol,
            timeframe.key,
        ).row(0, named=True)


def rows_of(database: Database, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """All rows of one query."""
    with database.transaction() as transaction:
        return transaction.query(sql, *values).rows()
