"""Tests of what is recorded about older bars: for the given series, and no others."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from ema_assets.model.asset_names import OHLC
from ema_assets.model.schemas import UTC_TIME
from ema_assets.model.symbols import Instrument
from ema_assets.store import ledger, older_history
from ema_assets.store.database import Database, Transaction
from ema_assets_tests.timeframes import D1, H1, M5

NOW = datetime(2026, 11, 25, 15, 30, tzinfo=UTC)
START = NOW - timedelta(days=90)
BOTH = ["AAPL", "MSFT"]


@pytest.fixture
def transaction(database: Database) -> Iterator[Transaction]:
    """Two symbols whose older bars are due."""
    with database.transaction() as begun:
        ledger.sync_instruments(begun, [Instrument(each, timeframes=(M5, H1, D1)) for each in BOTH])
        for timeframe in (M5, D1):
            asked = pl.DataFrame({"symbol": BOTH, "start": START}, schema={"symbol": pl.String(), "start": UTC_TIME})
            older_history.begin(begun, timeframe, asked, NOW, is_anew=True)
        yield begun


def test_pauses_of_older_bars_end_for_the_given_series_and_no_others(transaction: Transaction) -> None:
    until = NOW + timedelta(hours=1)
    for timeframe in (M5, D1):
        older_history.fail(transaction, timeframe, dict.fromkeys(BOTH, "down"), NOW, until)
    older_history.end_pauses(transaction, ["AAPL"], [M5], NOW)
    due = transaction.query("SELECT symbol, timeframe, due_at FROM market.older_history ORDER BY 1, 2 DESC").rows()
    assert due == [("AAPL", "5m", NOW), *((*each, until) for each in (("AAPL", "1d"), ("MSFT", "5m"), ("MSFT", "1d")))]


def test_a_note_stays_until_another_one_comes_and_that_of_a_failure_until_it_is_over(transaction: Transaction) -> None:
    def settled(note: str | None) -> str | None:
        schema = {"symbol": pl.String(), "asked_from": UTC_TIME, "long_from": UTC_TIME, "note": pl.String()}
        frame = pl.DataFrame([("AAPL", None, None, note)], schema=schema, orient="row")
        older_history.settle(transaction, M5, frame, None, NOW)
        found = older_history.notes(transaction, "AAPL")["note"].to_list()
        return found[0] if found else None

    assert settled("it is on another scale") == settled(None) == "it is on another scale"
    assert settled("there is none") == "there is none"
    older_history.fail(transaction, M5, {"AAPL": "down"}, NOW)
    assert settled(None) is None


def test_series_that_begin_with_long_history_are_rolled_up_again_from_there(transaction: Transaction) -> None:
    rows = [(symbol, "1h", START) for symbol in BOTH]
    schema = {"symbol": pl.String(), "timeframe": pl.String(), "from_ts": UTC_TIME}
    older_history.reach_back(transaction, pl.DataFrame(rows, schema=schema, orient="row"))
    transaction.execute("UPDATE market.series_state SET dirty_from = NULL, dirty_end = NULL")
    older_history.mark_dirty(transaction, M5, ["AAPL"])
    dirty = (
        "SELECT asset, symbol, timeframe, dirty_from, dirty_end FROM market.series_state WHERE dirty_from IS NOT NULL"
    )
    assert transaction.query(dirty).rows() == [(OHLC, "AAPL", "1h", START, START)]
