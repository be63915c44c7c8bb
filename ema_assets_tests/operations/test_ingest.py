"""Tests of storing bars from files. Reading them is tested in `files/`, their times in `test_file_times`."""

from datetime import date

import polars as pl
import pytest

from ema_assets.market.repair import MISSING_VALUE, OUTSIDE_RANGE
from ema_assets.model.asset_names import OHLC, STRATEGY
from ema_assets.model.schemas import BAR_SCHEMA
from ema_assets.model.symbols import FROM_FILES
from ema_assets.operations import ingest
from ema_assets.operations.ingest import IngestedSeries, store_file
from ema_assets.operations.sync_watchlist import sync
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import (
    MemoryExchange,
    bars_on,
    moved,
    refresh,
    rows_of,
    state_of,
    tables_of,
    utc,
    watch,
)
from ema_assets_tests.timeframes import D1, FEW, H1, M5, ORDER, ROLLED_UP

NOW = utc("2026-11-28 12:00")

FILES = watch({"AAPL": "XNYS", "BTC-USD": "24/7"}, provider="file", timeframes=ORDER)
WEEK = (date(2026, 11, 23), date(2026, 11, 27))


def line(ts: str | None, symbol: str = "AAPL", timeframe: str = "5m", **values: float | None) -> pl.DataFrame:
    sound = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 5.0}
    row = {"symbol": symbol, "timeframe": timeframe, "ts": utc(ts) if ts else None, **sound, **values}
    return pl.DataFrame([row], schema=BAR_SCHEMA)


@pytest.mark.broad
def test_every_row_of_a_file_is_counted_as_stored_equal_skipped_or_rejected(database: Database) -> None:
    sync(database, FILES, NOW)
    store_file(database, pl.concat([line("2026-11-25 15:00"), line("2026-11-25 15:05")]), "first.csv", NOW)
    summaries = store_file(
        database,
        pl.concat(
            [
                line("2026-11-25 15:00"),
                line("2026-11-25 15:05", close=11.5),
                line("2026-11-25 15:10"),
                line("2026-11-25 13:00"),
                line("2026-11-25 22:00"),
                line("2026-11-30 15:00"),
                line("2026-11-25 15:15", close=None),
                line("2026-11-25 15:20", close=30.0),
                line("2026-11-25 15:25"),
                line("2026-11-25 15:25"),
                line(None),
                line("2026-11-25 03:00", "BTC-USD"),
                line("2026-11-25 00:00", timeframe="1d"),
            ]
        ),
        "second.csv",
        NOW,
    )
    assert summaries == [
        IngestedSeries(
            "AAPL",
            "5m",
            read=11,
            stored=3,
            corrected=1,
            equal=1,
            # 15:15 and 15:20, which were rejected.
            missing=2,
            skipped={"not closed yet": 1, "outside the session": 2},
            rejected={"duplicate ts": 1, OUTSIDE_RANGE: 1, MISSING_VALUE: 2},
        ),
        IngestedSeries("BTC-USD", "5m", read=1, stored=1),
        IngestedSeries("AAPL", "1d", read=1, stored=1),
    ]
    for each in summaries:
        assert each.read == each.stored + each.equal + sum(each.skipped.values()) + sum(each.rejected.values())
    with database.transaction() as transaction:
        rejected = transaction.query("SELECT reason, source FROM market.bar_rejected")
    assert rejected.height == 4
    assert set(rejected["source"]) == {"second.csv"}


def test_the_rows_of_a_file_without_any_valid_time_are_rejected(database: Database) -> None:
    sync(database, FILES, NOW)
    (summary,) = store_file(database, pl.concat([line(None), line(None, close=11.5)]), "x.csv", NOW)
    assert summary == IngestedSeries("AAPL", "5m", read=2, rejected={MISSING_VALUE: 2})


def test_series_are_reported_in_the_order_of_the_file_and_reasons_by_name(database: Database) -> None:
    names = ["T", "MSFT", "F", "AAPL", "KO", "C"]
    sync(database, watch(dict.fromkeys(names, "XNYS"), provider="file", timeframes=FEW), NOW)
    times = ["2026-11-30 15:00", "2026-11-25 13:00", "2026-11-25 15:00"]
    summaries = store_file(database, pl.concat(line(ts, name) for name in names for ts in times), "x.csv", NOW)
    assert [each.symbol for each in summaries] == names
    assert [list(each.skipped) for each in summaries] == [["not closed yet", "outside the session"]] * len(names)


@pytest.mark.broad
def test_a_file_named_like_a_provider_is_recorded_as_a_file(database: Database) -> None:
    """Alerts are raised about bars of providers, not about bars of files."""
    sync(database, FILES, NOW)
    for name in ("sandbox", "sandbox.csv"):
        store_file(database, line("2026-11-25 15:00", close=11.0 + len(name) / 10), name, NOW)
    assert rows_of(database, "SELECT name FROM market.source ORDER BY id") == [("./sandbox",), ("sandbox.csv",)]


@pytest.mark.broad
def test_ingesting_a_file_again_changes_nothing_and_rejects_no_bar_twice(database: Database) -> None:
    sync(database, FILES, NOW)
    bars = pl.concat([line("2026-11-25 15:00"), line("2026-11-25 15:05", close=None), line(None)])
    store_file(database, bars, "bars.csv", NOW)
    revision = state_of(database, "AAPL", M5)["revision"]
    (again,) = store_file(database, bars, "bars.csv", NOW)
    assert again == IngestedSeries("AAPL", "5m", read=3, equal=1, rejected={MISSING_VALUE: 2})
    assert state_of(database, "AAPL", M5)["revision"] == revision == 1
    with database.transaction() as transaction:
        assert transaction.query("SELECT count(*) AS n FROM market.bar_rejected").item() == 2


@pytest.mark.broad
def test_a_file_of_5m_bars_gives_all_timeframes(database: Database) -> None:
    sync(database, FILES, NOW)
    bars = pl.concat([bars_on("XNYS", "AAPL", M5, *WEEK), bars_on("24/7", "BTC-USD", M5, *WEEK, seed=1)])
    store_file(database, bars, "bars.csv", NOW)
    exchange = MemoryExchange()
    outcomes = refresh(database, FILES, exchange, NOW)
    assert exchange.asked == []
    for timeframe in ROLLED_UP:
        assert sorted(outcomes[OHLC, timeframe].done) == ["AAPL", "BTC-USD"]
    assert outcomes[STRATEGY, H1].rows > 0
    whole = tables_of(database)
    again = store_file(database, bars.sample(fraction=1.0, shuffle=True, seed=3), "bars.csv", NOW)
    assert [(each.timeframe, each.stored) for each in again] == [("5m", 0), ("5m", 0), ("1d", 0), ("1d", 0)]
    refresh(database, FILES, exchange, NOW)
    assert all(whole[asset].equals(rows) for asset, rows in tables_of(database).items())


@pytest.mark.broad
def test_a_corrected_file_is_rolled_up_again_from_the_changed_bucket_on(database: Database) -> None:
    sync(database, FILES, NOW)
    bars = bars_on("XNYS", "AAPL", M5, *WEEK)
    store_file(database, bars, "bars.csv", NOW)
    refresh(database, FILES, MemoryExchange(), NOW)
    store_file(database, moved(bars.filter(pl.col("ts") == utc("2026-11-25 15:50")), 3.0), "bars.csv", NOW)
    state = state_of(database, "AAPL", H1)
    assert (state["dirty_from"], state["dirty_end"]) == (utc("2026-11-25 15:30"), utc("2026-11-25 16:30"))
    outcomes = refresh(database, FILES, MemoryExchange(), NOW)
    assert outcomes[OHLC, H1].written == {"AAPL": 1}


@pytest.mark.broad
def test_clock_hours_are_stored_as_they_are(database: Database) -> None:
    sync(database, FILES, NOW)
    hours = pl.concat([line(f"2026-11-25 {hour}:00", timeframe="1h") for hour in range(13, 22)])
    summary, day = store_file(database, hours, "hours.csv", NOW)
    assert (summary.stored, summary.skipped) == (7, {"outside the session": 2})
    assert (day.timeframe, day.stored) == ("1d", 1)
    outcomes = refresh(database, FILES, MemoryExchange(), NOW)
    assert outcomes["ema_signals", H1].written == {"AAPL": 7}
    stored = tables_of(database)[OHLC].filter(timeframe="1h")["ts"].to_list()
    assert stored == [utc(f"2026-11-25 {hour}:00") for hour in range(14, 21)]


@pytest.mark.broad
def test_hours_from_a_file_do_not_change_the_pending_rollup(database: Database) -> None:
    sync(database, FILES, NOW)
    store_file(database, bars_on("XNYS", "AAPL", M5, *WEEK), "bars.csv", NOW)
    store_file(database, line("2026-11-25 14:30", timeframe="1h"), "hours.csv", NOW)
    state = state_of(database, "AAPL", H1)
    assert (state["dirty_from"], state["dirty_end"]) == (utc("2026-11-23 14:30"), utc("2026-11-23 15:30"))
    outcomes = refresh(database, FILES, MemoryExchange(), NOW, timeframes=[H1])
    assert outcomes[OHLC, H1].corrected == 0
    closes = tables_of(database)[OHLC].filter(timeframe="1h", ts=utc("2026-11-25 14:30"))["close"].to_list()
    assert closes == line("2026-11-25 14:30", timeframe="1h")["close"].to_list()


@pytest.mark.broad
def test_bars_older_than_any_stored_session_are_stored(database: Database) -> None:
    sync(database, FILES, NOW)
    old = bars_on("XNYS", "AAPL", D1, date(1999, 11, 22), date(1999, 12, 3))
    (summary,) = store_file(database, old, "old.csv", NOW)
    assert (summary.stored, summary.skipped) == (9, {})


def test_series_are_stored_in_batches_of_whole_series(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    sync(database, FILES, NOW)
    monkeypatch.setattr(ingest, "_BARS_A_BATCH", 1)
    bars = pl.concat([line("2026-11-25 15:00"), line("2026-11-25 15:00", "BTC-USD"), line("2026-11-25 15:05")])
    assert [(each.symbol, each.stored) for each in store_file(database, bars, "x.csv", NOW)] == [
        ("AAPL", 2),
        ("BTC-USD", 1),
    ]


@pytest.mark.broad
def test_a_file_for_a_fetched_symbol_does_not_hide_bars_that_were_not_requested(database: Database) -> None:
    """The store has bars up to Tuesday and a file has Friday. Wednesday must still be requested."""
    fetched = watch({"AAPL": "XNYS"}, timeframes=ORDER)
    exchange = MemoryExchange(bars_on("XNYS", "AAPL", M5, *WEEK))
    refresh(database, fetched, exchange, utc("2026-11-24 21:00"))
    friday = exchange.bars.filter(pl.col("ts") > utc("2026-11-27 00:00"))
    store_file(database, friday, "friday.csv", NOW)
    refresh(database, fetched, exchange, NOW)
    stored = tables_of(database)[OHLC].filter(timeframe="5m")
    assert stored.height == exchange.bars.height


@pytest.mark.broad
def test_a_file_for_a_symbol_never_requested_leaves_its_history_to_the_provider(database: Database) -> None:
    fetched = watch({"AAPL": "XNYS"}, timeframes=ORDER)
    sync(database, fetched, NOW)
    exchange = MemoryExchange(bars_on("XNYS", "AAPL", M5, *WEEK))
    store_file(database, exchange.bars.tail(10), "friday.csv", NOW)
    outcomes = refresh(database, fetched, exchange, NOW)
    assert outcomes[OHLC, M5].written == {"AAPL": exchange.bars.height - 10}
    assert outcomes[OHLC, H1].done == ["AAPL"]


@pytest.mark.parametrize("provider", [None, FROM_FILES])
def test_a_provider_continues_after_a_file_that_ends_before_its_depth(database: Database, provider: str | None) -> None:
    """No hole is left between the file and the days that a new series has; from files only, until it has a provider."""
    exchange = MemoryExchange(bars_on("XNYS", "AAPL", M5, date(2026, 11, 2), WEEK[1]))
    sync(database, watch({"AAPL": "XNYS"}, m5_days=3, timeframes=FEW, provider=provider), NOW)
    store_file(database, exchange.bars.filter(pl.col("ts") < utc("2026-11-10 00:00")), "old.csv", NOW)
    refresh(database, watch({"AAPL": "XNYS"}, m5_days=3, timeframes=FEW), exchange, NOW, timeframes=[M5])
    assert tables_of(database)[OHLC].filter(timeframe="5m").height == exchange.bars.height
    assert f"{exchange.asked[0].start:%m-%d %H:%M}" == "11-09 20:40"


@pytest.mark.broad
@pytest.mark.parametrize(
    ("first", "continues"),
    [("2026-11-24 16:00", True), ("2026-11-24 18:00", True), ("2026-11-24 18:05", False)],
    ids=["overlaps", "follows", "a gap"],
)
def test_bars_of_a_file_that_continue_the_store_are_not_requested_again(
    database: Database, first: str, continues: bool
) -> None:
    fetched = watch({"AAPL": "XNYS"}, timeframes=FEW)
    exchange = MemoryExchange(bars_on("XNYS", "AAPL", M5, *WEEK))
    refresh(database, fetched, exchange, utc("2026-11-24 18:00"))
    store_file(database, exchange.bars.filter(pl.col("ts") >= utc(first)), "rest.csv", NOW)
    through = utc("2026-11-27 18:00") if continues else utc("2026-11-24 18:00")
    assert state_of(database, "AAPL", M5)["checked_through"] == through
