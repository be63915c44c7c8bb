"""Signals and strategies through the store: from declaration to table, ledger and views."""

from datetime import date, timedelta

import polars as pl
import pytest

from ema_assets.keys import Instrument
from ema_assets.pipeline.graph import Graph, build
from ema_assets.store.database import Database
from ema_assets.timeframes import FETCHED, ORDER, Timeframe
from ema_assets.watchlist import Watchlist
from ema_assets_tests.pipeline.exchange import MemoryExchange, bars_on, moved, refresh, rows_of, utc

STEP = timedelta(minutes=5)
CALENDARS = {"AAPL": "XNYS", "0700.HK": "XHKG", "BTC-USD": "24/7"}
# Three variants beside the two defaults, so that every option goes through the store.
STRATEGIES = (
    {"name": "guarded", "rule": "crossover", "side": "both", "fill": "next_open", "cost_bps": 5, "atr_stop": 1.0},
    {"name": "with_the_hour", "rule": "crossover", "side": "both", "higher_timeframe": "1h"},
    {"name": "intraday", "rule": "pullback", "side": "both", "exit_at_session_end": True, "atr_target": 2.0},
)
WATCHED = Watchlist(
    tuple(Instrument(symbol, calendar) for symbol, calendar in CALENDARS.items()),
    dict(zip(FETCHED, (12, 60), strict=True)),
    strategies=STRATEGIES,
)
GRAPH = build(WATCHED)


def exchange(first: date = date(2026, 11, 16), last: date = date(2026, 11, 20)) -> MemoryExchange:
    return MemoryExchange(
        *(
            bars_on(calendar, symbol, timeframe, first if timeframe is Timeframe.M5 else date(2026, 9, 1), last, seed)
            for seed, (symbol, calendar) in enumerate(CALENDARS.items())
            for timeframe in FETCHED
        )
    )


def contents(database: Database, graph: Graph = GRAPH) -> dict[str, pl.DataFrame]:
    """Every row of everything that is computed, sorted by key."""
    with database.transaction() as transaction:
        return {
            node.name: transaction.query(f"SELECT * FROM market.{node.name}").sort("symbol", "timeframe", node.table.time)
            for node in graph.computed
        }


def assert_same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    for name, rows in expected.items():
        assert found[name].equals(rows), name


def test_increments_and_corrections_end_as_one_computation_of_everything(database: Database, databases) -> None:
    market = exchange()
    moments = [utc("2026-11-18 02:31"), utc("2026-11-18 15:00"), utc("2026-11-18 15:05"), utc("2026-11-19 21:00")]
    for now in moments:
        refresh(database, WATCHED, market, now)
    early = market.bars.filter(symbol="AAPL", timeframe="5m").filter(pl.col("ts") < moments[1])
    market.correct(moved(early.sample(3, seed=1), 1.07))
    refresh(database, WATCHED, market, utc("2026-11-20 15:00"), everything=True, timeframes=[Timeframe.M5])
    end = utc("2026-11-20 22:00")
    refresh(database, WATCHED, market, end)
    found = contents(database)
    assert all(rows.height for name, rows in found.items()), {name: rows.height for name, rows in found.items()}
    once = databases.make()
    with Database(once) as whole:
        refresh(whole, WATCHED, market, end)
        assert_same(found, contents(whole))
    databases.drop(once)


def test_a_whole_recomputation_writes_nothing_new(database: Database) -> None:
    market, now = exchange(), utc("2026-11-18 15:00")
    refresh(database, WATCHED, market, now - STEP)
    refresh(database, WATCHED, market, now)
    before = contents(database)
    again = refresh(database, WATCHED, market, now, everything=True)
    assert sum(outcome.rows for (name, _), outcome in again.items()) == 0
    assert_same(contents(database), before)
