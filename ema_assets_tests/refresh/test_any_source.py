"""The stored results follow from the stored bars, whichever source brings the bars and in whichever order."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.schemas import BAR_SCHEMA
from ema_assets.model.symbols import FROM_FILES, Instrument
from ema_assets.model.timeframes import by_key
from ema_assets.operations.ingest import store_file
from ema_assets.refresh.graph import build
from ema_assets.store.database import Database
from ema_assets_tests.conftest import empty, heavy
from ema_assets_tests.core import CORE
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, moved, refresh
from ema_assets_tests.refresh.test_any_configuration import corrected_each, results
from ema_assets_tests.refresh.test_increments import SEEDS, some_of, stale_at
from ema_assets_tests.timeframes import D1, M1, M5

CALENDARS = {"AAPL": "XNYS", "0700.HK": "XHKG", "BTC-USD": "24/7"}
TIMEFRAMES = tuple(by_key(key) for key in ("5m", "15m", "1h", "4h", "1d", "1w"))
FIRST = date(2026, 11, 18)
BEGIN = datetime(2026, 11, 18, tzinfo=UTC)
DAYS = 8


def watched_by(data: st.DataObject) -> Watchlist:
    """All symbols. Each comes from the default provider, another provider or files; AAPL may have extended hours."""
    instruments = []
    for symbol, calendar in CALENDARS.items():
        provider = data.draw(st.sampled_from([None, None, "yahoo", FROM_FILES]), f"provider of {symbol}")
        is_extended = symbol == "AAPL" and data.draw(st.booleans(), "extended hours")
        hours = f"{calendar} extended" if is_extended else calendar
        instruments.append(Instrument(symbol, hours, provider, timeframes=TIMEFRAMES))
    return Watchlist(tuple(instruments), {M1: 2, M5: 30, D1: 120}, **CORE)


def file_of(data: st.DataObject, exchange: MemoryExchange, now: datetime) -> pl.DataFrame:
    """Part of the bars of one symbol, as a file has them: some days of a timeframe, or single corrected bars."""
    symbol = data.draw(st.sampled_from(sorted(CALENDARS)), "symbol of the file")
    key = data.draw(st.sampled_from(["5m", "5m", "15m", "1h", "1d"]), "timeframe of the file")
    first = data.draw(st.integers(0, DAYS - 1), "first day of the file")
    days = data.draw(st.integers(1, DAYS), "days of the file")
    source = D1 if key == "1d" else M5
    begin = BEGIN + timedelta(days=first - (60 if key == "1d" else 0))
    bars = exchange.bars.filter(
        pl.col("symbol") == symbol,
        pl.col("timeframe") == source.key,
        pl.col("ts").is_between(begin, min(begin + timedelta(days=days), now), closed="left"),
    ).sort("ts")
    if key in ("15m", "1h"):
        bars = (
            bars.group_by("symbol", ts=pl.col("ts").dt.truncate(key), maintain_order=True)
            .agg(
                pl.col("open").first(),
                pl.col("high").max(),
                pl.col("low").min(),
                pl.col("close").last(),
                pl.sum("volume"),
            )
            .with_columns(timeframe=pl.lit(key))
            .select(list(BAR_SCHEMA))
        )
    if data.draw(st.booleans(), "corrected"):
        bars = corrected_each(some_of(bars, data.draw(SEEDS), 0.02))
    return bars.reverse() if data.draw(st.booleans(), "newest first") else bars


@pytest.mark.broad
@heavy(24)
@given(st.data())
def test_files_and_providers_in_any_order_end_as_one_computation_from_the_stored_bars(
    module_database: Database, data: st.DataObject
) -> None:
    """The bars come from files of any timeframe, corrections, other scales and changing providers.

    A refresh of everything at the end changes nothing.
    """
    exchange = MemoryExchange(
        pl.concat(
            bars_on(calendar, symbol, timeframe, start, FIRST + timedelta(days=DAYS), data.draw(SEEDS, "history"), 0.05)
            for symbol, calendar in {**CALENDARS, "AAPL": "XNYS extended"}.items()
            for timeframe, start in ((M5, FIRST), (D1, FIRST - timedelta(days=60)))
        )
    )
    empty(module_database)
    minutes = sorted(data.draw(st.sets(st.integers(300, DAYS * 1440), min_size=2, max_size=5), "minutes"))
    for minute in minutes:
        now, watched = BEGIN + timedelta(minutes=minute), watched_by(data)
        refresh(module_database, watched, exchange, now)
        fetched = sorted(each.symbol for each in watched.instruments if each.is_fetched)
        # Early enough that later bars are fetched. They reveal the new scale.
        if fetched and minute < 6 * 1440 and data.draw(st.booleans(), "another scale"):
            symbol, factor = (
                data.draw(st.sampled_from(fetched), "of"),
                data.draw(st.sampled_from([0.5, 2.0, 4.0]), "by"),
            )
            whole = exchange.bars.filter(symbol=symbol)
            exchange.correct(moved(whole, factor))
            refresh(module_database, watched, exchange, now + timedelta(minutes=7))
        for _ in range(data.draw(st.integers(0, 2), "files")):
            file = file_of(data, exchange, now)
            taken = {each.timeframe for each in store_file(module_database, file, "a file", now) if not each.refused}
            exchange.correct(file.filter(pl.col("timeframe").is_in(list(taken & {"5m", "1d"}))))
    end = BEGIN + timedelta(days=DAYS, hours=1)
    for _ in range(3):
        refresh(module_database, watched, exchange, end)
    assert set(stale_at(module_database, end)["reason"]) <= {"bars missing", "older bars"}
    graph = build(watched)
    found = results(module_database, graph, watched)
    refresh(module_database, watched, exchange, end, everything=True)
    for asset, rows in results(module_database, graph, watched).items():
        assert_frame_equal(found[asset], rows, check_exact=True)
