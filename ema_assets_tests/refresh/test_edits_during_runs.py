"""The watchlist may be edited while a run waits for bars: what it brings counts only if it still answers the question."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.asset_names import EMA_SIGNALS, EMA_TREND, OHLC
from ema_assets.model.schemas import BAR_SCHEMA
from ema_assets.model.special_days import SpecialDays
from ema_assets.model.symbols import FROM_FILES
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.operations import roll_up_files
from ema_assets.operations.ingest import store_file
from ema_assets.operations.sync_watchlist import sync
from ema_assets.providers.declaration import LongHistory
from ema_assets.refresh.fetch import refresh_fetched
from ema_assets.refresh.plan_requests import FetchRules
from ema_assets.store import ledger
from ema_assets.store.database import Database, Transaction
from ema_assets_tests.conftest import Databases, mostly_broad
from ema_assets_tests.refresh.exchange import (
    MemoryExchange,
    bars_on,
    refresh,
    rows_of,
    state_of,
    summed_up,
    tables_of,
    utc,
    watch,
)
from ema_assets_tests.store.test_ledger import begun, results
from ema_assets_tests.timeframes import D1, H1, M5, M15, M30

FIRST = date(2026, 11, 23)
# Monday to Wednesday; Thanksgiving follows.
MIDDAY = utc("2026-11-25 17:00")
LATER = utc("2026-11-25 17:10")
TIMEFRAMES = [M5, M15, H1, D1, by_key("1w")]


def watched(calendar: str = "XNYS", *, d1_days: int = 40, provider: str | None = None) -> Watchlist:
    return watch({"AAPL": calendar}, m5_days=3, d1_days=d1_days, provider=provider, timeframes=TIMEFRAMES)


REGULAR, EXTENDED = watched(), watched("XNYS extended")
CLOSED_TUESDAY = replace(REGULAR, special_days={"XNYS": SpecialDays(closed=frozenset({date(2026, 11, 24)}))})


def exchange() -> MemoryExchange:
    return MemoryExchange(
        bars_on("XNYS extended", "AAPL", M5, FIRST, MIDDAY.date(), 1).filter(pl.col("ts") < MIDDAY),
        bars_on("XNYS", "AAPL", D1, FIRST - timedelta(days=60), FIRST, 2),
        page_rows=1_000,
    )


def once(edit: Callable[[], object]) -> Callable[[], None]:
    """Edit the watchlist at the first page of bars, and not again."""
    edits = [edit]

    def between_pages() -> None:
        if edits:
            edits.pop()()

    return between_pages


@pytest.mark.parametrize("is_loaded", mostly_broad([True, False]))
@pytest.mark.parametrize(
    ("before", "after"),
    mostly_broad(
        [
            pytest.param(REGULAR, EXTENDED, id="longer hours"),
            pytest.param(CLOSED_TUESDAY, REGULAR, id="one more day"),
            pytest.param(watched(d1_days=10), REGULAR, id="more history"),
            pytest.param(EXTENDED, REGULAR, id="shorter hours"),
            pytest.param(REGULAR, CLOSED_TUESDAY, id="one day less"),
        ],
        count=3,
    ),
)
def test_the_tables_end_as_if_the_last_watchlist_had_been_in_use_from_the_beginning(
    database: Database, before: Watchlist, after: Watchlist, *, is_loaded: bool
) -> None:
    source = exchange()
    if is_loaded:
        refresh(database, before, source, MIDDAY - timedelta(hours=20))
    source.between_pages = once(lambda: sync(database, after, MIDDAY))
    refresh(database, before, source, MIDDAY)
    assert source.asked
    for _ in range(2):
        refresh(database, after, exchange(), LATER)
    found = tables_of(database)
    refresh(database, after, exchange(), LATER, everything=True)
    for asset, rows in tables_of(database).items():
        assert_frame_equal(found[asset], rows, check_exact=True)
    assert set(found["ohlc"]["timeframe"]) == {"5m", "15m", "1h", "1d", "1w"}


def test_a_run_that_has_asked_about_other_hours_stores_nothing_and_says_so(database: Database) -> None:
    """Its series is neither done nor failed: the next run asks about the hours of now."""
    source = exchange()
    sync(database, REGULAR, MIDDAY)
    source.between_pages = once(lambda: sync(database, EXTENDED, MIDDAY))
    outcome = refresh_fetched(database, source, M5, ["AAPL"], FetchRules(REGULAR.history_days), MIDDAY)
    assert (set(outcome.done), outcome.errors, outcome.rows) == (set(), {}, 0)
    assert rows_of(database, "SELECT count(*) FROM market.ohlc") == [(0,)]
    assert rows_of(database, "SELECT count(*) FROM market.series_state WHERE checked_through IS NOT NULL") == [(0,)]


def test_a_long_load_does_not_ask_for_symbols_that_an_edit_has_moved_or_removed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks batch by batch. The edit comes with the first answer."""
    monkeypatch.setattr("ema_assets.refresh.fetch.BARS_PER_BATCH", 1)
    before = watch({"AAPL": "XNYS", "KO": "XNYS", "MSFT": "XNYS", "XOM": "XNYS"}, timeframes=TIMEFRAMES)
    after = watch({"AAPL": "XNYS", "KO": "XNYS extended", "XOM": "XNYS"}, timeframes=TIMEFRAMES)
    source = exchange()
    sync(database, before, MIDDAY)
    source.between_pages = once(lambda: sync(database, after, MIDDAY))
    outcome = refresh_fetched(
        database, source, M5, before.symbols, FetchRules(before.history_days), MIDDAY, older=False
    )
    assert [each.instrument.symbol for each in source.asked] == ["AAPL", "XOM"]
    assert source.calls == 2
    assert (sorted(outcome.done), outcome.errors) == (["AAPL", "XOM"], {})


def test_long_history_of_other_hours_is_not_stored(database: Database) -> None:
    """Of a symbol that moved to another calendar while the provider was asked for it; it is requested again."""
    hours = bars_on("XNYS extended", "AAPL", H1, FIRST - timedelta(days=30), FIRST, 3)
    source = MemoryExchange(exchange().bars, hours, page_rows=1_000)
    rules = FetchRules(REGULAR.history_days, long_histories={None: LongHistory("1h", "60m")})

    def move() -> None:
        if source.asked[-1].timeframe == H1:
            sync(database, EXTENDED, MIDDAY)

    sync(database, REGULAR, MIDDAY)
    source.between_pages = move
    refresh_fetched(database, source, M5, ["AAPL"], rules, MIDDAY)
    assert source.asked[-1].timeframe == H1
    assert rows_of(database, "SELECT count(*) FROM market.long_bar") == [(0,)]


def test_what_a_run_computes_of_a_removed_symbol_is_known_to_its_readers_when_the_symbol_is_back(
    database: Database,
) -> None:
    """With the symbol, the list lost the only use of a timeframe. A run was computing an average on it."""
    without = watch({"MSFT": "XNYS"}, m5_days=3, d1_days=40, timeframes=[M5])
    refresh(database, REGULAR, exchange(), MIDDAY)
    with Database(database.url) as other, database.transaction() as run:
        assert ledger.claim(run, EMA_SIGNALS, H1, ["AAPL"], everything=True).height == 1
        sync(other, without, MIDDAY)
        ledger.complete(run, EMA_SIGNALS, H1, results(["AAPL"], changed_from=MIDDAY), "1")
    sync(database, REGULAR, MIDDAY)
    assert state_of(database, "AAPL", H1, EMA_TREND)["dirty_from"] is not None


@pytest.mark.parametrize(
    ("after", "asset", "timeframe"),
    [
        pytest.param(
            replace(REGULAR, signals_off=tuple(set(REGULAR.signals_off) - {"rsi"})), "rsi", M5, id="signal on"
        ),
        pytest.param(watch({"AAPL": "XNYS"}, timeframes=[*TIMEFRAMES, M30]), OHLC, M30, id="timeframe on"),
    ],
)
def test_what_is_switched_on_while_the_first_bars_are_written_is_computed(
    database: Database, after: Watchlist, asset: str, timeframe: Timeframe
) -> None:
    """The sync waits for the run: its new rows would not see these bars, nor would the run mark these rows."""
    sync(database, REGULAR, MIDDAY)
    first = results(["AAPL"], changed_from=MIDDAY, first_ts=MIDDAY, last_ts=MIDDAY)
    with Database(database.url) as other, ThreadPoolExecutor() as pool:
        with database.transaction() as run:
            ledger.lock(run, OHLC, M5, ["AAPL"])
            ledger.complete(run, OHLC, M5, first, "1")
            synced = begun(pool, run, sync, other, after, MIDDAY)
        synced.result()
    assert state_of(database, "AAPL", timeframe, asset)["dirty_from"] is not None


def test_bars_of_a_file_are_rolled_up_by_the_sessions_of_a_sync_that_comes_between(
    database: Database, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is stored in one transaction, and longer bars are made of it in others. The sync has made them anew."""
    quarters = summed_up(exchange().bars.filter(timeframe="5m"), pl.col("ts").dt.truncate("15m"))
    bars = quarters.with_columns(timeframe=pl.lit("15m")).select(list(BAR_SCHEMA))
    before, after = (watched(calendar, provider=FROM_FILES) for calendar in ("XNYS", "XNYS extended"))
    plan = roll_up_files._planned

    def planned(
        transaction: Transaction, source: Timeframe, starts: pl.DataFrame
    ) -> list[tuple[Timeframe, pl.DataFrame]]:
        found = list(plan(transaction, source, starts))
        monkeypatch.setattr(roll_up_files, "_planned", plan)
        with Database(database.url) as other:
            sync(other, after, MIDDAY)
        return found

    sync(database, before, MIDDAY)
    monkeypatch.setattr(roll_up_files, "_planned", planned)
    store_file(database, bars, "a file", MIDDAY)
    found = tables_of(database)["ohlc"]
    with Database(databases.make()) as one_by_one:
        sync(one_by_one, before, MIDDAY)
        store_file(one_by_one, bars, "a file", MIDDAY)
        sync(one_by_one, after, MIDDAY)
        assert_frame_equal(found, tables_of(one_by_one)["ohlc"])
    assert set(found["timeframe"]) == {"15m", "1h", "1d"}
