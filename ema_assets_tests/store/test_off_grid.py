"""Tests of sessions that changed: which stored bars are deleted, moved or kept, and what the ledger says then."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ema_assets.config.watchlist import Watchlist
from ema_assets.model.asset_names import EMA_TREND, OHLC
from ema_assets.model.symbols import FROM_FILES, Instrument
from ema_assets.model.timeframes import Timeframe
from ema_assets.operations import sync_watchlist
from ema_assets.refresh.graph import build
from ema_assets.store import ledger
from ema_assets.store.database import Database, Transaction
from ema_assets.store.ledger.begin_again import go_back
from ema_assets.store.ledger.off_grid import delete_off_grid, move_to_opens
from ema_assets_tests.core import CORE
from ema_assets_tests.timeframes import D1, H1, M5, W1

TIMEFRAMES = (M5, H1, D1, W1)


def at(text: str) -> datetime:
    """Return a time of November 2026, such as `24 14:30`."""
    return datetime.strptime(f"2026-11-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


# The open of a Tuesday in New York; Thursday is a holiday.
SINCE, LONG_AGO = at("24 14:30"), at("02 14:30")


@pytest.fixture
def transaction(database: Database) -> Iterator[Transaction]:
    """Two symbols of New York and one that trades around the clock, without bars."""
    with database.transaction() as begun:
        sync_watchlist.adopt_graph(begun, replace(build(Watchlist((), {}, **CORE)), timeframes=TIMEFRAMES))
        symbols = {"AAPL": "XNYS", "MSFT": "XNYS", "COIN": "24/7"}
        ledger.sync_instruments(begun, [Instrument(*each, timeframes=TIMEFRAMES) for each in symbols.items()])
        yield begun


def store(transaction: Transaction, symbol: str, timeframe: Timeframe, *times: str, of_file: bool = False) -> None:
    transaction.execute(
        """
        INSERT INTO market.ohlc (symbol, timeframe, ts, open, high, low, close, volume, missing_bars)
        SELECT $1, $2, ts, 1, 3, 1, 2, 5, CASE WHEN $4 THEN 0 END FROM unnest($3::timestamptz[]) AS t(ts)
        """,
        symbol,
        timeframe.key,
        [at(each) for each in times],
        not (of_file or timeframe.is_fetched),
    )


def store_long(transaction: Transaction, symbol: str, timeframe: Timeframe, time: str) -> None:
    transaction.execute("INSERT INTO market.source (name) VALUES ('memory') ON CONFLICT DO NOTHING")
    transaction.execute(
        "INSERT INTO market.long_bar SELECT $1, $2, $3, 1, 3, 1, 2, 5, id FROM market.source WHERE name = 'memory'",
        symbol,
        timeframe.key,
        at(time),
    )


def stored(transaction: Transaction, symbol: str, timeframe: Timeframe) -> list[datetime]:
    found = transaction.query(
        "SELECT ts FROM market.ohlc WHERE symbol = $1 AND timeframe = $2 ORDER BY ts", symbol, timeframe.key
    )
    return found["ts"].to_list()


def test_rolled_up_bars_go_when_their_time_or_their_source_has_gone(transaction: Transaction) -> None:
    store(transaction, "AAPL", M5, "24 14:30", "24 15:05", "24 16:30", "24 21:00")
    # The hour at 17:30 ends before the longer bar, and those from 19:30 on have bars of others or after the close only.
    store_long(transaction, "AAPL", M5, "24 18:30")
    store_long(transaction, "AAPL", H1, "24 19:30")
    store_long(transaction, "MSFT", M5, "24 19:30")
    store(transaction, "MSFT", M5, "24 15:35", "24 19:35")
    hours = [f"24 {hour}:30" for hour in range(14, 21)]
    store(transaction, "AAPL", H1, "23 15:00", "24 15:00", "24 16:00", *hours)
    store(transaction, "MSFT", H1, "24 14:30", "24 15:30")
    store(transaction, "COIN", H1, "24 15:00")
    delete_off_grid(transaction, H1, "XNYS", SINCE)
    assert stored(transaction, "AAPL", H1) == [
        at(f"{each}") for each in ("23 15:00", *hours[:1], *hours[2:3], hours[4])
    ]
    assert stored(transaction, "MSFT", H1) == [at("24 15:30")]
    assert stored(transaction, "COIN", H1) == [at("24 15:00")]


def test_rolled_up_timeframes_keep_the_bars_of_files(transaction: Transaction) -> None:
    store(transaction, "AAPL", H1, "24 15:00", of_file=True)
    delete_off_grid(transaction, H1, "XNYS", SINCE)
    assert stored(transaction, "AAPL", H1) == [at("24 15:00")]


def test_bars_of_days_move_to_the_opens_of_their_sessions(transaction: Transaction) -> None:
    """A second bar of a session is deleted, and one that is not near any session stays, as do those before."""
    store(transaction, "AAPL", D1, "23 05:00", "24 05:00", "25 14:30", "25 16:00", "27 13:30", "27 17:30", "28 14:30")
    # Two of them are twelve hours from the next open. One session of these closes within a day, the other one does not.
    store(transaction, "MSFT", D1, "24 14:30", "25 16:00", "26 02:30", "27 02:30")
    store(transaction, "COIN", D1, "24 05:00")
    move_to_opens(transaction, D1, "XNYS", SINCE - timedelta(hours=9, minutes=30))
    days = ["23 05:00", "24 14:30", "25 14:30", "27 14:30", "27 17:30", "28 14:30"]
    assert stored(transaction, "AAPL", D1) == [at(each) for each in days]
    assert stored(transaction, "MSFT", D1) == [at(each) for each in ("24 14:30", "25 14:30", "26 02:30", "27 14:30")]
    assert stored(transaction, "COIN", D1) == [at("24 05:00")]


def put(transaction: Transaction, changes: str, *values: object) -> None:
    transaction.execute(f"UPDATE market.series_state SET {changes}", *values)


def state(transaction: Transaction, asset: str, symbol: str, timeframe: Timeframe, *columns: str) -> tuple[object, ...]:
    return transaction.query(
        f"SELECT {', '.join(columns)} FROM market.series_state WHERE asset = $1 AND symbol = $2 AND timeframe = $3",
        asset,
        symbol,
        timeframe.key,
    ).row(0)


def test_series_whose_days_moved_have_a_new_revision_and_new_ends(transaction: Transaction) -> None:
    columns = ("first_ts", "last_ts", "revision", "computed_at > now() - interval '1 hour'")
    put(transaction, "first_ts = $1, last_ts = $2, revision = 7, computed_at = $1", LONG_AGO, at("25 16:00"))
    before = (LONG_AGO, at("25 16:00"), 7, False)
    store(transaction, "AAPL", D1, "24 05:00", "25 16:00")
    store(transaction, "MSFT", D1, "24 14:30")
    move_to_opens(transaction, D1, "XNYS", at("24 05:00"))
    assert state(transaction, OHLC, "AAPL", D1, *columns) == (at("24 14:30"), at("25 14:30"), 8, True)
    assert state(transaction, EMA_TREND, "AAPL", D1, *columns) == (LONG_AGO, at("25 14:30"), 7, False)
    assert state(transaction, OHLC, "AAPL", H1, *columns) == before
    assert state(transaction, OHLC, "MSFT", D1, *columns) == before
    put(transaction, "last_ts = $1 WHERE asset = 'ema_trend'", LONG_AGO)
    store(transaction, "AAPL", D1, "27 05:00")
    move_to_opens(transaction, D1, "XNYS", SINCE)
    assert state(transaction, EMA_TREND, "AAPL", D1, "last_ts") == (LONG_AGO,)


def test_only_longer_bars_that_reach_into_the_changed_sessions_are_deleted(transaction: Transaction) -> None:
    for symbol in ("AAPL", "COIN"):
        store(transaction, symbol, W1, "17 14:30", "17 14:31", "24 14:30")
    store(transaction, "MSFT", W1, "24 14:30", of_file=True)
    go_back(transaction, "XNYS", SINCE)
    assert stored(transaction, "AAPL", W1) == [at("17 14:30")]
    assert stored(transaction, "MSFT", W1) == [SINCE]
    assert len(stored(transaction, "COIN", W1)) == 3


@pytest.mark.parametrize(
    ("dirty", "end", "expected"),
    [
        (None, None, SINCE),
        (SINCE, at("30 14:30"), SINCE),
        (at("23 14:30"), at("23 15:30"), at("23 14:30")),
        (at("25 14:30"), at("25 15:30"), SINCE),
    ],
    ids=["clean", "from the same time", "from before", "from later"],
)
def test_series_of_changed_sessions_are_computed_again_from_there(
    transaction: Transaction, dirty: datetime | None, end: datetime | None, expected: datetime
) -> None:
    put(transaction, "first_ts = $1, updated_at = $1, checked_through = $2", LONG_AGO, at("30 21:00"))
    put(transaction, "dirty_from = $1::timestamptz, dirty_end = $2::timestamptz", dirty, end)
    go_back(transaction, "XNYS", SINCE)
    columns = ("dirty_from", "dirty_end", "checked_through", "updated_at > now() - interval '1 hour'")
    found = {
        (asset, timeframe): state(transaction, asset, "AAPL", timeframe, *columns)
        for asset in (OHLC, EMA_TREND)
        for timeframe in (M5, H1, W1)
    }
    assert found == {
        (OHLC, M5): (dirty, None, SINCE, True),
        (OHLC, H1): (expected, ledger.BEGINNING, SINCE, True),
        (OHLC, W1): (ledger.BEGINNING, ledger.BEGINNING, SINCE, True),
        (EMA_TREND, M5): (expected, None, SINCE, True),
        (EMA_TREND, H1): (expected, None, SINCE, True),
        (EMA_TREND, W1): (ledger.BEGINNING, None, SINCE, True),
    }
    assert state(transaction, OHLC, "COIN", H1, *columns) == (dirty, end, at("30 21:00"), False)


def test_what_was_requested_before_the_change_or_came_from_files_is_not_requested_again(
    transaction: Transaction,
) -> None:
    files = Instrument("MSFT", "XNYS", FROM_FILES, timeframes=TIMEFRAMES)
    ledger.sync_instruments(transaction, [Instrument("AAPL", timeframes=TIMEFRAMES), files])
    put(transaction, "first_ts = $1, checked_through = $1", LONG_AGO)
    put(transaction, "checked_through = $1 WHERE symbol = 'MSFT'", at("30 21:00"))
    put(transaction, "first_ts = NULL, checked_through = $1 WHERE symbol = 'AAPL' AND timeframe = '1d'", at("30 21:00"))
    go_back(transaction, "XNYS", SINCE)
    assert state(transaction, OHLC, "AAPL", M5, "checked_through") == (LONG_AGO,)
    assert state(transaction, OHLC, "MSFT", M5, "checked_through") == (at("30 21:00"),)
    # Nothing is stored of this one: perhaps because its only day was none.
    assert state(transaction, OHLC, "AAPL", D1, "checked_through", "dirty_from") == (SINCE, None)
    # A symbol that was moved to the calendar in the same sync is requested from the beginning.
    put(transaction, "first_ts = $1, checked_through = NULL", LONG_AGO)
    go_back(transaction, "XNYS", SINCE)
    assert state(transaction, OHLC, "AAPL", M5, "checked_through") == (None,)
