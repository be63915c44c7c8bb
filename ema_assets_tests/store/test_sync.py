"""Tests of what a sync of the configuration changes in the ledger, and what it leaves as it is."""

from collections.abc import Iterator
from datetime import UTC, datetime

import polars as pl
import pytest

from ema_assets.model.asset_names import EMA_SIGNALS, EMA_TREND, OHLC, STRATEGY
from ema_assets.model.schemas import GRAPH_ASSETS_SCHEMA, GRAPH_INPUTS_SCHEMA, SchemaMismatch
from ema_assets.model.symbols import FROM_FILES, Instrument
from ema_assets.store import ledger
from ema_assets.store.database import Database, Transaction
from ema_assets_tests.timeframes import D1, H1, M5

NOW = datetime(2026, 11, 25, 15, 30, tzinfo=UTC)
ALL = (M5, H1, D1)
AAPL, MSFT = Instrument("AAPL", timeframes=ALL), Instrument("MSFT", timeframes=ALL)


@pytest.fixture
def transaction(database: Database) -> Iterator[Transaction]:
    """Two symbols on three timeframes, everything computed up to NOW and nothing waiting."""
    with database.transaction() as begun:
        ledger.sync_instruments(begun, [AAPL, MSFT])
        begun.execute(
            "UPDATE market.series_state SET first_ts = $1, last_ts = $1, updated_at = $1, checked_through = $1", NOW
        )
        yield begun


def changed(transaction: Transaction) -> dict[tuple[str, str, str], tuple[object, ...]]:
    """Return is_on, dirty_from and dirty_end of the rows that were written since NOW."""
    found = transaction.query(
        """
        SELECT asset, symbol, timeframe, is_on, dirty_from, dirty_end FROM market.series_state WHERE updated_at <> $1
        """,
        NOW,
    )
    return {row[:3]: row[3:] for row in found.rows()}


def test_what_a_provider_said_of_a_symbol_is_forgotten_with_the_provider_only(transaction: Transaction) -> None:
    def told(*instruments: Instrument) -> list[tuple[object, ...]]:
        ledger.sync_instruments(transaction, instruments)
        columns = "symbol, provider, allow_negative, delay_seconds, described_at, actions_through, state"
        return transaction.query(f"SELECT {columns} FROM market.instrument ORDER BY 1").rows()

    transaction.execute(
        """
        UPDATE market.instrument SET delay_seconds = 900, described_at = $1, actions_through = $1, state = 'halted'
        """,
        NOW,
    )
    known = dict.fromkeys(("AAPL", "MSFT"), (900, NOW, NOW, "halted"))
    other = ("MSFT", None, False, *known["MSFT"])
    negative = Instrument("AAPL", allow_negative=True, timeframes=ALL)
    assert told(negative, MSFT) == [("AAPL", None, True, *known["AAPL"]), other]
    yahoo = Instrument("AAPL", provider="yahoo", timeframes=ALL)
    assert told(yahoo, MSFT) == [("AAPL", "yahoo", False, 0, None, None, None), other]


def test_a_timeframe_that_is_switched_off_keeps_its_rows_and_begins_again_when_it_is_switched_on(
    transaction: Transaction,
) -> None:
    ledger.sync_instruments(transaction, [Instrument("AAPL", timeframes=(M5,)), MSFT])
    assets = (OHLC, EMA_SIGNALS, EMA_TREND, STRATEGY)
    off = {(asset, "AAPL", timeframe): (False, None, None) for asset in assets for timeframe in ("1h", "1d")}
    assert changed(transaction) == off
    transaction.execute("UPDATE market.series_state SET updated_at = $1", NOW)
    # Of the bars from which hours are rolled up, only the bars are needed.
    ledger.sync_instruments(transaction, [Instrument("AAPL", timeframes=(H1, D1)), MSFT])
    begun = ledger.BEGINNING
    assert changed(transaction) == {
        **{(asset, "AAPL", "5m"): (False, None, None) for asset in assets[1:]},
        **{(asset, "AAPL", timeframe): (True, begun, None) for asset in assets[1:] for timeframe in ("1h", "1d")},
        (OHLC, "AAPL", "1h"): (True, begun, begun),
        (OHLC, "AAPL", "1d"): (True, None, None),
    }


def test_a_symbol_that_no_longer_comes_from_files_is_requested_from_the_beginning(transaction: Transaction) -> None:
    ledger.sync_instruments(transaction, [Instrument("AAPL", "XNYS", FROM_FILES, timeframes=ALL), MSFT])
    assert changed(transaction) == {}
    ledger.sync_instruments(transaction, [AAPL, MSFT])
    assert set(changed(transaction)) == {(OHLC, "AAPL", "5m"), (OHLC, "AAPL", "1d")}
    asked = "SELECT asset, symbol, timeframe FROM market.series_state WHERE checked_through IS NULL"
    assert set(transaction.query(asked).rows()) == set(changed(transaction))


def test_a_sync_does_not_write_what_it_does_not_change(database: Database) -> None:
    def versions() -> dict[str, str]:
        with database.transaction() as transaction:
            return dict(transaction.query("SELECT symbol, xmin::text FROM market.instrument").iter_rows())

    for instruments in ([AAPL, MSFT, Instrument("GONE")], [AAPL, MSFT]):
        with database.transaction() as transaction:
            ledger.sync_instruments(transaction, instruments)
    before = versions()
    with database.transaction() as transaction:
        ledger.sync_instruments(transaction, [MSFT])
    after = versions()
    assert {symbol for symbol in before if before[symbol] != after[symbol]} == {"AAPL"}


def test_missing_rows_are_added_and_begin_from_the_start_where_their_input_has_bars(transaction: Transaction) -> None:
    """A series whose input has no rows yet waits for it. Of the 5m bars, only the bars are needed."""
    ledger.sync_instruments(transaction, [Instrument("AAPL", timeframes=(H1, D1)), MSFT])
    transaction.execute(
        "UPDATE market.series_state SET last_ts = NULL WHERE (asset, symbol, timeframe) = ('ema_signals', 'AAPL', '1h')"
    )
    transaction.execute(
        """
        DELETE FROM market.series_state
        WHERE asset IN ('ema_trend', 'strategy_9_30_ema') AND (symbol, timeframe) <> ('MSFT', '1d') OR timeframe = '5m' AND symbol = 'AAPL' AND asset <> 'ohlc'
              OR timeframe = '1h' AND asset = 'ohlc'
        """
    )
    rows = "SELECT asset, symbol, timeframe, dirty_from, dirty_end FROM market.series_state"
    before = set(transaction.query(rows).rows())
    ledger.add_rows(transaction, ["AAPL"])
    begun = ledger.BEGINNING
    assert set(transaction.query(rows).rows()) - before == {
        (OHLC, "AAPL", "1h", begun, begun),
        (EMA_TREND, "AAPL", "1h", None, None),
        (EMA_TREND, "AAPL", "1d", begun, None),
        (STRATEGY, "AAPL", "1h", None, None),
        (STRATEGY, "AAPL", "1d", None, None),
    }


def test_only_computed_series_of_the_chosen_assets_start_again(transaction: Transaction) -> None:
    transaction.execute("UPDATE market.series_state SET last_ts = NULL WHERE timeframe = '1h' OR symbol = 'MSFT'")
    ledger.start_again(transaction, [EMA_TREND])
    assert changed(transaction) == {
        (EMA_TREND, "AAPL", timeframe): (True, ledger.BEGINNING, None) for timeframe in ("5m", "1d")
    }


def test_the_graph_has_the_configured_order_and_inputs_and_keeps_those_of_assets_that_are_off(
    transaction: Transaction,
) -> None:
    transaction.execute("TRUNCATE market.asset_input, market.asset CASCADE")

    def graph(assets: dict[str, bool], *inputs: tuple[str, str, str, str, bool]) -> tuple[object, object]:
        ledger.sync_assets(
            transaction,
            pl.DataFrame(list(assets.items()), GRAPH_ASSETS_SCHEMA, orient="row"),
            pl.DataFrame(inputs, GRAPH_INPUTS_SCHEMA, orient="row"),
        )
        found = transaction.query("SELECT asset, position, is_on FROM market.asset ORDER BY position, asset").rows()
        read = "SELECT asset, timeframe, reads, reads_timeframe, is_main FROM market.asset_input ORDER BY 1, 2, 3, 4"
        return found, transaction.query(read).rows()

    first, second = ("b", "5m", "a", "5m", True), ("c", "5m", "a", "5m", True)
    hour = ("b", "5m", "a", "1h", False)
    found = graph({"a": True, "b": True, "c": True}, first, second)
    assert found == ([("a", 0, True), ("b", 1, True), ("c", 2, True)], [first, second])
    # Now `c` is no longer configured, and `b` reads something else.
    assert graph({"b": False, "a": True}, hour) == ([("b", 0, False), ("a", 1, True), ("c", 2, False)], [hour, second])
    with pytest.raises(SchemaMismatch, match="assets"):
        ledger.sync_assets(transaction, pl.DataFrame({"asset": ["a"]}), pl.DataFrame(schema=GRAPH_INPUTS_SCHEMA))
    with pytest.raises(SchemaMismatch, match="inputs of assets"):
        ledger.sync_assets(transaction, pl.DataFrame(schema=GRAPH_ASSETS_SCHEMA), pl.DataFrame({"asset": ["a"]}))
    main = (*hour[:4], True)
    assert graph({"a": True, "b": True}, main) == ([("a", 0, True), ("b", 1, True), ("c", 2, False)], [main, second])


def test_a_new_code_version_marks_rows_once_and_only_those_of_another_version(transaction: Transaction) -> None:
    transaction.execute("UPDATE market.asset SET code_version = '1'")
    transaction.execute("UPDATE market.series_state SET code_version = CASE WHEN symbol = 'AAPL' THEN '1' ELSE '2' END")
    assert ledger.adopt_code_versions(transaction, {EMA_TREND: "2"}) == 3
    begun = ledger.BEGINNING
    assert changed(transaction) == {(EMA_TREND, "AAPL", each.key): (True, begun, None) for each in ALL}
    assert [ledger.adopted_code_version(transaction, each) for each in (EMA_TREND, EMA_SIGNALS)] == ["2", "1"]
    assert ledger.adopt_code_versions(transaction, {OHLC: "2", EMA_TREND: "2"}) == 1
    assert changed(transaction)[OHLC, "AAPL", "1h"] == (True, begun, begun)
    # Fetched bars are not computed here and have the new version at once.
    adopted = "SELECT asset, timeframe FROM market.series_state WHERE symbol = 'AAPL' AND code_version = '2'"
    assert set(transaction.query(adopted).rows()) == {(OHLC, "5m"), (OHLC, "1d")}
