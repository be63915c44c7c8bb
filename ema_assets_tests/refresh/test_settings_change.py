"""How a change of the watchlist's settings affects series that exist already."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ema_assets.model.asset_names import EMA_SIGNALS, EMA_TREND, OHLC
from ema_assets.model.symbols import FROM_FILES
from ema_assets.operations.ingest import store_file
from ema_assets.operations.sync_watchlist import sync
from ema_assets.providers.declaration import Publication
from ema_assets.refresh.compute import refresh_computed
from ema_assets.refresh.fetch import refresh_fetched
from ema_assets.refresh.graph import build
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.store import ledger
from ema_assets.store.database import Database
from ema_assets_tests.conftest import empty
from ema_assets_tests.refresh.exchange import MemoryExchange, bars_on, refresh, rows_of, state_of, tables_of, utc, watch
from ema_assets_tests.timeframes import D1, M5


@pytest.mark.broad
def test_switching_extended_hours_on_or_off_ends_as_if_they_had_always_been_so(database: Database) -> None:
    """Early and late bars come and go with the setting. Rolled-up bars follow the session."""
    week = (date(2026, 11, 23), date(2026, 11, 27))
    now = utc("2026-11-28 12:00")
    exchange = MemoryExchange(bars_on("XNYS extended", "AAPL", M5, *week), bars_on("XNYS", "AAPL", D1, *week))
    regular, extended = watch({"AAPL": "XNYS"}), watch({"AAPL": "XNYS extended"})
    tables = {}
    for name, steps in (
        ("never", [regular]),
        ("off", [extended, regular]),
        ("always", [extended]),
        ("on", [regular, extended]),
    ):
        empty(database)
        for watched in steps:
            refresh(database, watched, exchange, now)
            refresh(database, watched, exchange, now)
        tables[name] = tables_of(database)
    for one, other in (("never", "off"), ("always", "on")):
        for asset, rows in tables[one].items():
            assert_frame_equal(tables[other][asset], rows, check_exact=True)
    bars = tables["on"][OHLC]
    wednesday = pl.col("ts").is_between(utc("2026-11-25 05:00"), utc("2026-11-26 05:00"))
    hours = bars.filter(pl.col("timeframe") == "1h", wednesday)["ts"]
    assert (hours.min(), hours.max(), hours.len()) == (utc("2026-11-25 09:00"), utc("2026-11-26 00:00"), 16)
    half_day = bars.filter(pl.col("timeframe") == "5m", pl.col("ts") > utc("2026-11-27 05:00"))["ts"]
    assert (half_day.min(), half_day.max()) == (utc("2026-11-27 09:00"), utc("2026-11-27 21:55"))
    daily = bars.filter(pl.col("timeframe") == "1d")["ts"].to_list()
    assert daily[-2:] == [utc("2026-11-25 14:30"), utc("2026-11-27 14:30")]
    assert bars.filter(pl.col("timeframe") == "5m").height == 3 * 192 + 156


@pytest.mark.broad
@pytest.mark.parametrize("hours", ["XNYS", "XNYS extended"])
def test_a_symbol_moved_from_files_back_to_its_provider_ends_as_one_computation(database: Database, hours: str) -> None:
    """Meanwhile nothing was requested, neither the bars that the files lack nor the sessions of other hours."""
    week = (date(2026, 11, 23), date(2026, 11, 27))
    now = utc("2026-11-28 12:00")
    exchange = MemoryExchange(bars_on("XNYS extended", "AAPL", M5, *week), bars_on("XNYS", "AAPL", D1, *week))
    refresh(database, watch({"AAPL": "XNYS"}), exchange, utc("2026-11-24 21:00"))
    sync(database, watch({"AAPL": hours}, provider=FROM_FILES), now)
    of_friday = pl.col("timeframe") == "5m", pl.col("ts") > utc("2026-11-27 09:00")
    store_file(database, exchange.bars.filter(*of_friday), "friday.csv", now)
    for _ in range(2):
        refresh(database, watch({"AAPL": hours}), exchange, now)
    found = tables_of(database)
    empty(database)
    refresh(database, watch({"AAPL": hours}), exchange, now)
    for asset, rows in tables_of(database).items():
        assert_frame_equal(found[asset], rows, check_exact=True)


@pytest.mark.broad
def test_another_ema_seed_recomputes_the_emas_and_everything_that_reads_them(database: Database) -> None:
    week = (date(2026, 11, 23), date(2026, 11, 27))
    now = utc("2026-11-28 12:00")
    exchange = MemoryExchange(bars_on("XNYS", "AAPL", M5, *week), bars_on("XNYS", "AAPL", D1, *week))
    watched = watch({"AAPL": "XNYS"})
    refresh(database, watched, exchange, now)
    seeded_by_mean = tables_of(database)
    outcomes = refresh(database, replace(watched, ema_seed="first"), exchange, now)
    assert outcomes[OHLC, M5].done == []
    assert outcomes[EMA_SIGNALS, M5].done == outcomes[EMA_TREND, M5].done == ["AAPL"]
    signals = (
        tables_of(database)["ema_signals"]
        .filter(timeframe="5m")
        .join(tables_of(database)[OHLC].filter(timeframe="5m"), on=["symbol", "ts"])
    )
    for span in (9, 30):
        theirs = pd.Series(signals["close"].to_list()).ewm(span=span, adjust=False).mean()
        assert np.allclose(signals[f"ema_{span}"].to_numpy(), theirs.to_numpy(), rtol=1e-12, atol=0)
    assert state_of(database, "AAPL", M5, EMA_SIGNALS)["code_version"] == "1 seed=first"
    refresh(database, watched, exchange, now)
    assert all(rows.equals(tables_of(database)[asset]) for asset, rows in seeded_by_mean.items())


def test_new_bars_wait_between_an_edit_of_the_configuration_and_its_sync(database: Database) -> None:
    """A process that has read the edited file must not append rows of the new version to rows of the old one."""
    week = (date(2026, 11, 23), date(2026, 11, 27))
    exchange = MemoryExchange(bars_on("XNYS", "AAPL", M5, *week), bars_on("XNYS", "AAPL", D1, *week))
    before, now, later = watch({"AAPL": "XNYS"}), utc("2026-11-27 15:00"), utc("2026-11-27 16:00")
    edited = replace(before, ema_seed="first")
    node = build(edited).nodes[EMA_SIGNALS]
    refresh(database, before, exchange, now)
    known = tables_of(database)[EMA_SIGNALS]
    rules = FetchRules(before.history_days, {None: Publication(timedelta(0))}, {})
    assert refresh_fetched(database, exchange, M5, ["AAPL"], rules, later).rows
    outcome = refresh_computed(database, node, M5, ["AAPL"], later)
    assert (outcome.done, outcome.errors) == ([], {})
    assert tables_of(database)[EMA_SIGNALS].equals(known)
    state = state_of(database, "AAPL", M5, EMA_SIGNALS)
    assert state["dirty_from"] is not None
    assert state["code_version"] == build(before).nodes[EMA_SIGNALS].code_version
    # A manual recomputation of everything produces the new version at once.
    assert refresh_computed(database, node, M5, ["AAPL"], later, everything=True).done == ["AAPL"]
    assert state_of(database, "AAPL", M5, EMA_SIGNALS)["dirty_from"] is None
    refresh(database, edited, exchange, later)
    found = tables_of(database)
    # A process with the old configuration computes no new bars. What it was about to finish is computed again.
    old = build(before).nodes[EMA_SIGNALS]
    with database.transaction() as transaction:
        ledger.start_again(transaction, [EMA_SIGNALS])
    assert refresh_computed(database, old, M5, ["AAPL"], later).done == []
    with database.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET code_version = $1 WHERE asset = $2", "1", EMA_SIGNALS)
    assert refresh_computed(database, old, M5, ["AAPL"], later, everything=True).done == ["AAPL"]
    assert state_of(database, "AAPL", M5, EMA_SIGNALS)["dirty_from"] == ledger.BEGINNING
    refresh(database, edited, exchange, later)
    assert all(rows.equals(tables_of(database)[asset]) for asset, rows in found.items())
    assert state_of(database, "AAPL", M5, EMA_SIGNALS)["dirty_from"] is None


@pytest.mark.broad
def test_a_longer_daily_history_is_recorded_with_its_reason_and_skips_no_bar(database: Database) -> None:
    """The detail states that older bars were requested. The source did not send them late, and no day is too new."""
    months = (date(2026, 6, 1), date(2026, 11, 27))
    now = utc("2026-11-28 12:00")
    # Labelled before the open, as vendors do. The short history begins on a Saturday.
    days = bars_on("XNYS", "AAPL", D1, *months).with_columns(pl.col("ts").dt.truncate("1d").dt.offset_by("5h"))
    exchange = MemoryExchange(days)
    short, long = (watch({"AAPL": "XNYS"}, d1_days=days, timeframes=[D1]) for days in (63, 150))
    refresh(database, short, exchange, now)
    refresh(database, long, exchange, now)
    refresh(database, long, exchange, now)
    stored = tables_of(database)[OHLC].filter(timeframe="1d")["ts"]
    assert (stored.min(), stored.len()) == (
        utc("2026-07-01 13:30"),
        days.filter(pl.col("ts") >= utc("2026-07-01")).height,
    )
    told = rows_of(database, "SELECT kind, detail FROM market.bar_revision")
    assert told == [("late bars", "the history reaches further back: older bars were requested")]
    assert rows_of(database, "SELECT symbol, reason FROM market.bar_skipped") == []
