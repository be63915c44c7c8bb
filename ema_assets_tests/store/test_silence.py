"""Tests of what the ledger notes about providers: which symbols are silent, and how far each one is behind."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest

from ema_assets.model.asset_names import OHLC
from ema_assets.model.symbols import FROM_FILES, Instrument
from ema_assets.operations.sync_watchlist import cover
from ema_assets.store import ledger
from ema_assets.store.database import Database, Transaction
from ema_assets_tests.timeframes import D1, M5

INSTRUMENTS = (
    Instrument("AAPL", timeframes=(M5, D1)),
    Instrument("MSFT", timeframes=(M5, D1)),
    Instrument("FILE", "XNYS", FROM_FILES, timeframes=(M5, D1)),
    Instrument("COIN", "24/7", timeframes=(M5, D1)),
    Instrument("EARLY", "XNYS extended", timeframes=(M5, D1)),
)


def at(text: str) -> datetime:
    """Return a time of November 2026, such as `16 14:30`: New York opens on that Monday then, and closes at 21:00."""
    return datetime.strptime(f"2026-11-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


@pytest.fixture
def transaction(database: Database) -> Iterator[Transaction]:
    """Symbols of three calendars without bars, and the sessions of November."""
    with database.transaction() as begun:
        ledger.sync_instruments(begun, INSTRUMENTS)
        for calendar in ("XNYS", "24/7", "XNYS extended"):
            cover(begun, calendar, date(2026, 11, 2), date(2026, 11, 30))
        yield begun


def reach(transaction: Transaction, bars: tuple[str, str], requested: tuple[str, str]) -> None:
    """Write the newest 5m and 1d bars of all symbols, and up to when each of the two was requested."""
    for timeframe, last, checked in zip((M5, D1), bars, requested, strict=True):
        transaction.execute(
            "UPDATE market.series_state SET last_ts = $3, checked_through = $4 WHERE asset = $1 AND timeframe = $2",
            OHLC,
            timeframe.key,
            at(last),
            at(checked),
        )


def silent(transaction: Transaction) -> dict[str, datetime]:
    found = transaction.query("SELECT symbol, silent_since FROM market.instrument WHERE silent_since IS NOT NULL")
    return dict(found.iter_rows())


@pytest.mark.parametrize(
    ("bars", "requested", "since"),
    [
        # Two sessions have closed since then, and the third one has not.
        (("16 14:30", "16 14:30"), ("19 20:55", "19 20:59"), None),
        (("16 20:55", "16 14:30"), ("19 21:00", "19 21:00"), "16 14:30"),
        # Newer 5m bars count, without the daily bar of their session. A weekend has no session.
        (("18 15:00", "16 14:30"), ("20 21:00", "22 21:00"), None),
        (("18 15:00", "16 14:30"), ("23 21:00", "23 21:00"), "18 14:30"),
        # The daily bars of the last sessions were not requested yet.
        (("16 20:55", "16 14:30"), ("25 21:00", "18 21:00"), None),
        (("16 20:55", "13 14:30"), ("25 21:00", "25 21:00"), "16 14:30"),
    ],
)
def test_a_symbol_is_silent_once_three_sessions_without_a_bar_were_requested(
    transaction: Transaction, bars: tuple[str, str], requested: tuple[str, str], since: str | None
) -> None:
    reach(transaction, bars, requested)
    ledger.note_silence(transaction, ["AAPL", "FILE"])
    assert silent(transaction) == ({} if since is None else {"AAPL": at(since)})


@pytest.mark.parametrize(
    ("symbol", "last", "since"),
    [
        ("AAPL", "18 14:30", "18 14:30"),
        ("COIN", "18 15:00", "18 00:00"),
        # A bar before the open on a Monday.
        ("EARLY", "23 10:00", "20 14:30"),
    ],
)
def test_silence_begins_with_the_last_session_that_has_opened_before_the_newest_bar(
    transaction: Transaction, symbol: str, last: str, since: str
) -> None:
    reach(transaction, (last, "16 00:00"), ("26 00:00", "26 00:00"))
    ledger.note_silence(transaction, [symbol])
    assert silent(transaction) == {symbol: at(since)}


def test_a_silent_symbol_with_a_new_bar_is_not_silent_any_more_and_others_stay_as_they_are(
    transaction: Transaction,
) -> None:
    reach(transaction, ("16 20:55", "16 14:30"), ("19 21:00", "19 21:00"))
    ledger.end_silence(transaction, ["AAPL"])
    assert silent(transaction) == {}, "only the request of a daily bar shows silence"
    ledger.note_silence(transaction, ["AAPL", "MSFT"])
    rows = "SELECT symbol, ctid::text FROM market.instrument ORDER BY 1"
    before = transaction.query(rows).rows()
    ledger.note_silence(transaction, ["AAPL", "MSFT"])
    ledger.end_silence(transaction, ["AAPL", "MSFT"])
    assert transaction.query(rows).rows() == before, "a row that does not change is not written"
    reach(transaction, ("19 15:00", "16 14:30"), ("19 21:00", "19 21:00"))
    ledger.end_silence(transaction, ["AAPL"])
    assert silent(transaction) == {"MSFT": at("16 14:30")}


def test_the_delay_of_each_symbol_is_noted_up_to_a_day(transaction: Transaction) -> None:
    ledger.note_delays(transaction, None, {"AAPL": 900, "COIN": 86_401})
    ledger.note_delays(transaction, None, {})
    found = transaction.query("SELECT symbol, delay_seconds FROM market.instrument ORDER BY 1").rows()
    assert found == [("AAPL", 900), ("COIN", 86_400), ("EARLY", 0), ("FILE", 0), ("MSFT", 0)]


def test_the_delay_of_a_provider_that_is_no_longer_that_of_the_symbol_is_not_noted(transaction: Transaction) -> None:
    """The watchlist was edited while the provider was asked."""
    transaction.execute("UPDATE market.instrument SET provider = 'yahoo' WHERE symbol = 'AAPL'")
    ledger.note_delays(transaction, None, {"AAPL": 900, "MSFT": 900})
    ledger.note_delays(transaction, "yahoo", {"MSFT": 60})
    found = transaction.query("SELECT symbol FROM market.instrument WHERE delay_seconds = 900").rows()
    assert found == [("MSFT",)]
    assert transaction.query("SELECT count(*) FROM market.instrument WHERE delay_seconds <> 0").item() == 1
