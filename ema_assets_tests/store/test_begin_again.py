"""Tests of series that begin again on another calendar: what is deleted, what stays, and what the ledger says then."""

from datetime import UTC, date, datetime

import pytest

from ema_assets.model.asset_names import EMA_TREND, OHLC
from ema_assets.model.symbols import FROM_FILES, Instrument
from ema_assets.operations.sync_watchlist import cover
from ema_assets.store import ledger
from ema_assets.store.database import Database
from ema_assets_tests.refresh.exchange import rows_of, state_of
from ema_assets_tests.timeframes import D1, FEW, H1, M5

# The first day of Christmas: one before the first stored session in New York, and one of the days of 24/7.
LONG_AGO, THURSDAY = datetime(2024, 12, 25, 15, tzinfo=UTC), datetime(2026, 11, 19, 15, tzinfo=UTC)
# The open of a session in New York, and of a whole day everywhere.
OPEN, MIDNIGHT = datetime(2026, 11, 19, 14, 30, tzinfo=UTC), datetime(2026, 11, 19, tzinfo=UTC)
CLOSE = datetime(2026, 11, 19, 21, tzinfo=UTC)
SATURDAY, NOW = datetime(2026, 11, 21, 15, tzinfo=UTC), datetime(2026, 11, 25, 15, 30, tzinfo=UTC)
MOVED, OTHER = "AAPL", "MSFT"
STORED = {"5m": (LONG_AGO, OPEN, THURSDAY, CLOSE, SATURDAY), "1h": (THURSDAY,), "1d": (MIDNIGHT, OPEN)}


def watch(database: Database, calendar: str, *, other: str = "XNYS", provider: str | None = None) -> None:
    with database.transaction() as transaction:
        instruments = [Instrument(MOVED, calendar, provider, timeframes=FEW), Instrument(OTHER, other, timeframes=FEW)]
        ledger.sync_instruments(transaction, instruments)


def fill(database: Database) -> None:
    """Store the same bars, a gap and the same state of the ledger for both symbols."""
    with database.transaction() as transaction:
        for timeframe, times in STORED.items():
            transaction.execute(
                """
                INSERT INTO market.ohlc (symbol, timeframe, ts, open, high, low, close, volume, missing_bars)
                SELECT symbol, $2, ts, 1, 3, 1, 2, 5, CASE WHEN $2 = '1h' THEN 0 END
                FROM market.instrument CROSS JOIN unnest($1::timestamptz[]) AS t(ts)
                """,
                list(times),
                timeframe,
            )
        transaction.execute(
            """
            INSERT INTO market.bar_gap (symbol, timeframe, first_ts, last_ts, bars, status, next_attempt_at, found_at)
            SELECT symbol, '5m', $1, $1, 1, 'open', $1, $1 FROM market.instrument
            """,
            THURSDAY,
        )
        transaction.execute(
            """
            UPDATE market.series_state SET first_ts = $1, last_ts = $2, checked_through = $3, dirty_from = $2,
                   dirty_end = $3, failures = 3, next_attempt_at = $3, last_error = 'no', updated_at = $1
            """,
            LONG_AGO,
            SATURDAY,
            NOW,
        )


def bars_of(database: Database, symbol: str) -> dict[str, tuple[datetime, ...]]:
    sql = "SELECT timeframe, array_agg(ts ORDER BY ts) FROM market.ohlc WHERE symbol = $1 GROUP BY 1"
    return {timeframe: tuple(times) for timeframe, times in rows_of(database, sql, symbol)}


def test_a_symbol_on_another_calendar_loses_the_bars_that_do_not_exist_there(database: Database) -> None:
    """Bars from before the first session of the new calendar stay. Rolled-up bars are made again."""
    watch(database, "24/7")
    fill(database)
    watch(database, "XNYS")
    assert bars_of(database, MOVED) == {"5m": (LONG_AGO, OPEN, THURSDAY), "1d": (OPEN,)}
    watch(database, "24/7")
    assert bars_of(database, MOVED) == {"5m": (LONG_AGO, OPEN, THURSDAY)}


def test_a_symbol_that_moves_to_tokyo_loses_the_bars_of_its_lunch_break(database: Database) -> None:
    nine, half_past_eleven, noon, half_past_twelve = (
        datetime(2026, 11, 19, *time, tzinfo=UTC) for time in ((0, 0), (2, 30), (3, 0), (3, 30))
    )
    watch(database, "24/7")
    with database.transaction() as transaction:
        cover(transaction, "XTKS", date(2026, 11, 1), date(2026, 11, 25))
        transaction.execute(
            "INSERT INTO market.ohlc SELECT $1, '5m', ts, 1, 3, 1, 2, 5 FROM unnest($2::timestamptz[]) AS t(ts)",
            MOVED,
            [nine, half_past_eleven, noon, half_past_twelve],
        )
    watch(database, "XTKS")
    assert bars_of(database, MOVED) == {"5m": (nine, half_past_twelve)}


@pytest.mark.parametrize(("before", "after"), [("24/7", "XNYS"), ("XNYS", "24/7")])
def test_other_symbols_keep_all_they_have_when_one_moves_to_another_calendar(
    database: Database, before: str, after: str
) -> None:
    watch(database, before)
    fill(database)
    ledger_of = "SELECT * FROM market.series_state WHERE symbol = $1 ORDER BY asset, timeframe"
    known = rows_of(database, ledger_of, OTHER)
    watch(database, after)
    assert bars_of(database, OTHER) == STORED
    assert rows_of(database, ledger_of, OTHER) == known
    assert rows_of(database, "SELECT symbol FROM market.bar_gap") == [(OTHER,)]


def test_a_symbol_that_moves_to_another_calendar_keeps_the_bars_that_exist_there(database: Database) -> None:
    watch(database, "XNYS")
    fill(database)
    watch(database, "24/7")
    assert bars_of(database, MOVED) == {"5m": STORED["5m"], "1d": (MIDNIGHT,)}


def test_the_ledger_of_a_symbol_that_moved_asks_for_its_bars_and_computes_the_rest_from_the_beginning(
    database: Database,
) -> None:
    watch(database, "24/7")
    fill(database)
    watch(database, "XNYS")
    columns = ("first_ts", "last_ts", "checked_through", "dirty_from", "dirty_end")
    expected = {
        (OHLC, M5): (LONG_AGO, THURSDAY, None, None, None),
        (OHLC, D1): (OPEN, OPEN, None, None, None),
        (OHLC, H1): (None, None, NOW, ledger.BEGINNING, ledger.BEGINNING),
        (EMA_TREND, M5): (LONG_AGO, SATURDAY, None, ledger.BEGINNING, None),
        (EMA_TREND, H1): (LONG_AGO, SATURDAY, NOW, ledger.BEGINNING, None),
    }
    for (asset, timeframe), values in expected.items():
        state = state_of(database, MOVED, timeframe, asset)
        assert tuple(state[name] for name in columns) == values, (asset, timeframe)
        assert state["updated_at"] > LONG_AGO
        assert (state["failures"], state["next_attempt_at"], state["last_error"]) == (0, None, None)


def test_what_the_files_of_a_symbol_cover_is_known_on_its_new_calendar_too(database: Database) -> None:
    """Its bars would never be rolled up again otherwise, because no provider is asked for them."""
    watch(database, "24/7", provider=FROM_FILES)
    fill(database)
    watch(database, "XNYS", provider=FROM_FILES)
    assert state_of(database, MOVED, M5)["checked_through"] == NOW
