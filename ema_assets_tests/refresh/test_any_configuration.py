"""The watchlist may be edited while bars arrive: the tables end as if the last watchlist had always been in use."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.special_days import SpecialDays
from ema_assets.model.timeframes import by_key
from ema_assets.operations.ingest import store_file
from ema_assets.refresh.graph import Graph, build
from ema_assets.signals.discovery import discover
from ema_assets.store.database import Database
from ema_assets_tests.conftest import empty, heavy
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, watch
from ema_assets_tests.refresh.test_increments import SEEDS, some_of, stale_at
from ema_assets_tests.timeframes import D1, M5

CALENDARS = {"AAPL": "XNYS", "0700.HK": "XHKG", "BTC-USD": "24/7"}
EXTENDED = "XNYS extended"
TIMEFRAMES = ("15m", "1h", "2h", "4h", "1d", "1w")
# Signals that the test switches on and off, and whose parameters it changes.
SOME = ("rsi", "atr", "bollinger", "wma")
FIRST = date(2026, 11, 18)
BEGIN = datetime(2026, 11, 18, tzinfo=UTC)
MINUTES = 8 * 24 * 60
# Columns that record when and by whom a row was written.
WRITTEN = ("stored_at", "source_id", "computed_at")


def rows_of_strategies(data: st.DataObject, longer: list[str]) -> tuple[Mapping[str, Any], ...]:
    """The `[[strategy]]` rows of a watchlist: the built-in variants, and a variant with other spans and filters."""
    fast, slow = data.draw(st.sampled_from([(9, 30), (5, 13), (12, 26)]), "spans")
    variant: dict[str, Any] = {"name": "mine", "fast": fast, "slow": slow, "side": "both", "entries": "all"}
    variant["rule"] = data.draw(st.sampled_from(["crossover", "pullback"]), "rule")
    if longer:
        higher: str | None = data.draw(st.sampled_from([None, *longer]), "higher timeframe")
        variant |= {} if higher is None else {"higher_timeframe": higher}
    if data.draw(st.booleans(), "has a target"):
        variant |= {"atr_stop": 2, "atr_target": 3}
    return (
        {"name": "crossover", "entries": "all", "cost_bps": data.draw(st.sampled_from([0, 2]), "cost")},
        {"name": "pullback", "entries": "all", "enabled": data.draw(st.booleans(), "pullback")},
        {**variant, "enabled": data.draw(st.booleans(), "mine")},
    )


def configuration(data: st.DataObject) -> Watchlist:
    """A watchlist of some symbols on some timeframes, with some signals and strategies."""
    keys = sorted(data.draw(st.sets(st.sampled_from(TIMEFRAMES)), "timeframes"), key=TIMEFRAMES.index)
    symbols = data.draw(st.sets(st.sampled_from(sorted(CALENDARS)), min_size=1), "symbols")
    timeframes = [M5, *map(by_key, keys)]
    calendars = {**CALENDARS, "AAPL": data.draw(st.sampled_from(["XNYS", EXTENDED]), "hours")}
    watched = watch({name: calendars[name] for name in sorted(symbols)}, timeframes=timeframes)
    if data.draw(st.booleans(), "a day off in Hong Kong"):
        watched = replace(watched, special_days={"XHKG": SpecialDays(closed=frozenset({FIRST + timedelta(days=5)}))})
    off = data.draw(st.sets(st.sampled_from(SOME)), "off")
    needed = {"ema_signals", "ema_trend", *SOME}
    strategies = rows_of_strategies(data, [key for key in keys if by_key(key) > M5])
    if any(row["enabled"] for row in strategies[1:] if row.get("rule", "pullback") == "pullback"):
        off -= {"wma"}
    if any(row["enabled"] and "atr_target" in row for row in strategies[1:]):
        off -= {"atr"}
    return replace(
        watched,
        ema_seed=data.draw(st.sampled_from(["sma", "first"]), "seed"),
        signals_off=tuple(name for name in discover() if name not in needed or name in off),
        signal_params={} if "rsi" in off else {"rsi": {"span": data.draw(st.sampled_from([7, 14]), "rsi")}},
        strategies=strategies,
    )


def corrected_each(bars: pl.DataFrame) -> pl.DataFrame:
    """`bars`, each multiplied by another factor. With one factor for all, a file counts as one on another scale."""
    return bars.with_columns(pl.col("open", "high", "low", "close") * (1.001 + pl.int_range(pl.len()) / 200))


def results(database: Database, graph: Graph, watched: Watchlist) -> dict[str, pl.DataFrame]:
    """The sorted rows of all enabled assets for the watched series, including the states of strategies."""
    wanted = pl.DataFrame(
        [(each.symbol, timeframe.key) for each in watched.instruments for timeframe in each.timeframes],
        schema=["symbol", "timeframe"],
        orient="row",
    )
    found = {}
    with database.transaction() as transaction:
        for node in graph.on:
            rows = transaction.query(f"SELECT * FROM market.{node.name}").drop(*WRITTEN, strict=False)
            keys = [name for name in ("symbol", "timeframe", "ts", "entry_ts") if name in rows.columns]
            found[node.name] = rows.join(wanted, on=["symbol", "timeframe"], how="semi").sort(keys)
    return found


@pytest.mark.broad
@heavy(12)
@given(st.data())
def test_any_order_of_edits_ends_as_one_computation_with_the_last_watchlist(
    module_database: Database, data: st.DataObject
) -> None:
    """The edits change symbols, timeframes, hours, days off, signals, parameters and strategies while bars arrive."""
    truth = pl.concat(
        bars_on(calendar, symbol, timeframe, start, FIRST + timedelta(days=8), data.draw(SEEDS, "history"), 0.05)
        for symbol, calendar in {**CALENDARS, "AAPL": EXTENDED}.items()
        for timeframe, start in ((M5, FIRST), (D1, FIRST - timedelta(days=90)))
    )
    exchange = MemoryExchange(truth)
    empty(module_database)
    moments = sorted(data.draw(st.sets(st.integers(300, MINUTES), min_size=2, max_size=4), "minutes"))
    for moment in moments:
        now, watched = BEGIN + timedelta(minutes=moment), configuration(data)
        refresh(module_database, watched, exchange, now)
        if data.draw(st.booleans(), "corrections"):
            corrected = exchange.bars.filter(
                pl.col("timeframe") == "5m", pl.col("ts") < now, pl.col("symbol").is_in(watched.symbols)
            )
            corrected = corrected_each(some_of(corrected, data.draw(SEEDS), 0.002))
            exchange.correct(corrected)
            store_file(module_database, corrected, "a file", now)
    end = BEGIN + timedelta(minutes=MINUTES + 60)
    for _ in range(3):
        refresh(module_database, watched, exchange, end)
    assert set(stale_at(module_database, end)["reason"]) <= {"bars missing", "older bars"}
    graph = build(watched)
    found = results(module_database, graph, watched)

    empty(module_database)
    refresh(module_database, watched, exchange, end)
    for asset, rows in results(module_database, graph, watched).items():
        assert_frame_equal(found[asset], rows, check_exact=True)
    assert found["ohlc"].height > 0
