"""Tests of the ledger: which series are stale, how workers claim them, and what is recorded about them."""

import re
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import adbc_driver_manager
import polars as pl
import pytest

from ema_assets.model.asset_names import CHAIN, EMA_SIGNALS, EMA_TREND, OHLC, STRATEGY
from ema_assets.model.schemas import BAR_SCHEMA, COMPLETED_SCHEMA, UTC_TIME
from ema_assets.model.symbols import Instrument
from ema_assets.model.timeframes import Timeframe
from ema_assets.store import ledger, tables
from ema_assets.store.database import Database, Transaction
from ema_assets_tests.timeframes import H1, M5, M30, ORDER, ROLLED_UP
from ema_assets_tests.waiting import wait_until

NOW = datetime(2026, 11, 25, 15, 30, tzinfo=UTC)
AAPL, MSFT, COIN = Instrument("AAPL"), Instrument("MSFT"), Instrument("BTC-USD", "24/7")
FIVE, HOUR = M5, H1


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


@pytest.fixture
def ready(database: Database) -> Database:
    """Three instruments whose bars were never requested."""
    with database.transaction() as transaction:
        ledger.sync_instruments(transaction, [AAPL, MSFT, COIN])
    return database


def closed(**ends: datetime) -> pl.DataFrame:
    """Return the closing times of the last bars on XNYS per timeframe, given as `m5=…`."""
    rows = [("XNYS", None, 0, name[1:] + name[0], end, None) for name, end in ends.items()]
    schema = {
        "calendar": pl.String(),
        "provider": pl.String(),
        "delay_seconds": pl.Int64(),
        "timeframe": pl.String(),
        "ts_end": UTC_TIME,
        "recheck_at": UTC_TIME,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def results(symbols: list[str], **values: datetime | None) -> pl.DataFrame:
    columns = [name for name in COMPLETED_SCHEMA if name != "symbol"]
    return pl.DataFrame(
        {"symbol": symbols, **{name: [values.get(name)] * len(symbols) for name in columns}}, schema=COMPLETED_SCHEMA
    )


def starts(symbol: str, timeframe: Timeframe, dirty_from: datetime, dirty_end: datetime | None = None) -> pl.DataFrame:
    schema = {"symbol": pl.String(), "timeframe": pl.String(), "dirty_from": UTC_TIME, "dirty_end": UTC_TIME}
    return pl.DataFrame([(symbol, timeframe.key, dirty_from, dirty_end)], schema=schema, orient="row")


def row(transaction: Transaction, asset: str, symbol: str, timeframe: Timeframe) -> Mapping[str, object]:
    return transaction.query(
        "SELECT * FROM market.series_state WHERE asset = $1 AND symbol = $2 AND timeframe = $3",
        asset,
        symbol,
        timeframe.key,
    ).row(0, named=True)


def stale(transaction: Transaction, last: pl.DataFrame, now: datetime = NOW) -> list[tuple[object, ...]]:
    return ledger.stale(transaction, last, now).select("asset", "symbol", "timeframe", "reason", "since").rows()


def claimed(transaction: Transaction, asset: str, timeframe: Timeframe, *, everything: bool = False) -> list[str]:
    symbols = ["AAPL", "BTC-USD", "MSFT", "NONE"]
    return ledger.claim(transaction, asset, timeframe, symbols, everything=everything)["symbol"].to_list()


# --- instruments ----------------------------------------------------------------------------------------------------


def is_waited_for(transaction: Transaction) -> bool:
    return bool(transaction.query("SELECT count(*) AS n FROM pg_locks WHERE NOT granted").item())


def begun(pool: Executor, transaction: Transaction, work: Callable[..., Any], *arguments: object) -> Future[Any]:
    """Begin `work` in a thread, and return its future when it has ended or waits for what `transaction` has locked."""
    done = pool.submit(work, *arguments)
    wait_until(lambda: done.done() or is_waited_for(transaction), "the other waits", poll_seconds=0.02)
    return done


def complete_while_waited_for(
    ready: Database, database_url: str, asset: str, symbols: list[str], work: Callable[[Database], None]
) -> None:
    """Have a run compute `asset` for `symbols` on 5m while `work`, in a thread, waits for it; both end."""
    with Database(database_url) as other, ThreadPoolExecutor() as pool:
        with ready.transaction() as transaction:
            ledger.claim(transaction, asset, FIVE, symbols, everything=True)
            done = pool.submit(work, other)
            wait_until(lambda: is_waited_for(transaction), "the other waits for the run", poll_seconds=0.02)
            ledger.complete(transaction, asset, FIVE, results(symbols, changed_from=NOW), "1")
        done.result()


def test_a_sync_adds_removes_and_restores_instruments(database: Database) -> None:
    def sync(*instruments: Instrument) -> tuple[list[str], list[str]]:
        with database.transaction() as transaction:
            return ledger.sync_instruments(transaction, instruments)

    def active() -> list[str]:
        with database.transaction() as transaction:
            found = transaction.query("SELECT symbol FROM market.instrument WHERE is_active ORDER BY 1")
        return found["symbol"].to_list()

    assert sync(MSFT, AAPL) == (["AAPL", "MSFT"], [])
    assert sync(MSFT, AAPL) == ([], [])
    with database.transaction() as transaction:
        ledger.complete(transaction, OHLC, FIVE, results(["MSFT"], checked_through=NOW), "1")
    assert sync(AAPL, COIN) == (["BTC-USD"], ["MSFT"])
    assert active() == ["AAPL", "BTC-USD"]
    assert sync(AAPL, MSFT) == (["MSFT"], ["BTC-USD"])
    assert active() == ["AAPL", "MSFT"]
    with database.transaction() as transaction:
        assert row(transaction, OHLC, "MSFT", FIVE)["checked_through"] == NOW
    assert sync() == ([], ["AAPL", "MSFT"])


def test_a_changed_instrument_is_updated_and_an_equal_one_is_not_written(ready: Database) -> None:
    def versions(transaction: Transaction) -> dict[str, str]:
        return dict(transaction.query("SELECT symbol, xmin::text FROM market.instrument").iter_rows())

    with ready.transaction() as transaction:
        before = versions(transaction)
        ledger.sync_instruments(transaction, [AAPL, Instrument("MSFT", "XLON", "file"), COIN])
        found = transaction.query("SELECT calendar, is_fetched FROM market.instrument WHERE symbol = 'MSFT'")
        assert found.row(0) == ("XLON", False)
    with ready.transaction() as transaction:
        after = versions(transaction)
    assert {symbol for symbol in before if before[symbol] != after[symbol]} == {"MSFT"}


def test_every_symbol_has_one_row_per_asset_and_timeframe(ready: Database) -> None:
    with ready.transaction() as transaction:
        found = transaction.query("SELECT asset, symbol, timeframe FROM market.series_state")
    assert sorted(found.rows()) == sorted(
        (asset, symbol, timeframe.key)
        for asset in CHAIN
        for symbol in ("AAPL", "MSFT", "BTC-USD")
        for timeframe in ORDER
    )


def test_a_new_asset_starts_dirty_for_series_whose_input_has_data(ready: Database) -> None:
    with ready.transaction() as transaction:
        ledger.complete(transaction, EMA_SIGNALS, FIVE, results(["AAPL"], first_ts=NOW, last_ts=NOW), "1")
        transaction.execute("DELETE FROM market.series_state WHERE asset = 'ema_trend'")
        ledger.add_rows(transaction, ["AAPL", "MSFT", "BTC-USD"])
        dirty = transaction.query(
            "SELECT symbol, timeframe, dirty_from FROM market.series_state WHERE dirty_from IS NOT NULL"
        )
        assert dirty.rows() == [("AAPL", "5m", ledger.BEGINNING)]
        assert claimed(transaction, EMA_TREND, FIVE) == ["AAPL"]


# --- staleness ------------------------------------------------------------------------------------------------------


def test_a_series_that_was_never_requested_is_stale(ready: Database) -> None:
    with ready.transaction() as transaction:
        assert stale(transaction, closed(m5=NOW, h1=NOW)) == [
            (OHLC, "AAPL", "5m", "never asked", NOW),
            (OHLC, "MSFT", "5m", "never asked", NOW),
        ]


def test_a_fetched_series_is_stale_once_a_bar_closed_that_was_not_requested(ready: Database) -> None:
    with ready.transaction() as transaction:
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL", "MSFT"], checked_through=NOW), "1")
        assert stale(transaction, closed(m5=NOW)) == []
        later = NOW + minutes(5)
        assert [each[1:4] for each in stale(transaction, closed(m5=later), later)] == [
            ("AAPL", "5m", "bar closed"),
            ("MSFT", "5m", "bar closed"),
        ]


def test_a_series_whose_next_attempt_is_later_is_not_stale_yet(ready: Database) -> None:
    with ready.transaction() as transaction:
        ledger.fail(transaction, OHLC, FIVE, {"AAPL": "no"}, NOW)
        next_attempt = row(transaction, OHLC, "AAPL", FIVE)["next_attempt_at"]
        assert isinstance(next_attempt, datetime)
        just_before = next_attempt - timedelta(microseconds=1)
        assert [each[1] for each in stale(transaction, closed(m5=NOW), just_before)] == ["MSFT"]
        assert [each[1] for each in stale(transaction, closed(m5=NOW), next_attempt)] == ["AAPL", "MSFT"]
        failures = ledger.stale(transaction, closed(m5=NOW), next_attempt)["failures"].to_list()
        assert failures == [1, 0]


def test_a_computed_series_is_stale_while_its_input_has_changed(ready: Database) -> None:
    with ready.transaction() as transaction:
        ledger.mark_dirty(transaction, EMA_TREND, starts("AAPL", HOUR, NOW))
        assert stale(transaction, closed()) == [(EMA_TREND, "AAPL", "1h", "never computed", NOW)]
        ledger.complete(transaction, EMA_TREND, HOUR, results(["AAPL"], last_ts=NOW), "1")
        assert stale(transaction, closed()) == []
        ledger.mark_dirty(transaction, EMA_TREND, starts("AAPL", HOUR, NOW))
        assert stale(transaction, closed()) == [(EMA_TREND, "AAPL", "1h", "input changed", NOW)]


def test_series_computed_from_a_failed_series_wait_for_its_next_attempt(ready: Database) -> None:
    """Strategies read both averages and bars, so a closed bar marks both as dirty."""
    chain = [EMA_SIGNALS, EMA_TREND, STRATEGY]
    with ready.transaction() as transaction:
        for asset in chain:
            for symbol in ("AAPL", "MSFT"):
                ledger.mark_dirty(transaction, asset, starts(symbol, HOUR, NOW))
        ledger.mark_dirty(transaction, STRATEGY, starts("AAPL", M30, NOW))
        ledger.fail(transaction, EMA_SIGNALS, HOUR, {"AAPL": "no"}, NOW)
        next_attempt = row(transaction, EMA_SIGNALS, "AAPL", HOUR)["next_attempt_at"]
        assert isinstance(next_attempt, datetime)
        before = [each[:3] for each in stale(transaction, closed(), next_attempt - timedelta(microseconds=1))]
        assert sorted(before) == sorted([*((each, "MSFT", "1h") for each in chain), (STRATEGY, "AAPL", "30m")])
        then = [each[:3] for each in stale(transaction, closed(), next_attempt)]
        assert sorted(then) == sorted([*before, *((each, "AAPL", "1h") for each in chain)])
        # What the failed series reads does not wait for it.
        ledger.mark_dirty(transaction, EMA_SIGNALS, starts("AAPL", M30, NOW))
        ledger.fail(transaction, STRATEGY, M30, {"AAPL": "no"}, NOW)
        half_hours = [each[:3] for each in stale(transaction, closed()) if each[2] == "30m"]
        assert half_hours == [(EMA_SIGNALS, "AAPL", "30m")]


def test_a_rolled_up_series_is_stale_only_when_a_dirty_bucket_has_closed(ready: Database) -> None:
    with ready.transaction() as transaction:
        ledger.mark_dirty(transaction, OHLC, starts("AAPL", HOUR, NOW, NOW + minutes(60)))
        assert stale(transaction, closed()) == []
        for checked, expected in ((59, []), (60, [(OHLC, "AAPL", "1h", "never computed", NOW)])):
            ledger.complete(transaction, OHLC, FIVE, results(["AAPL"], checked_through=NOW + minutes(checked)), "1")
            assert stale(transaction, closed()) == expected
            assert claimed(transaction, OHLC, HOUR) == [symbol for _, symbol, *_ in expected]


def test_a_series_not_reported_to_dagster_is_stale_after_a_grace_period(ready: Database) -> None:
    with ready.transaction() as transaction:
        ledger.complete(transaction, EMA_TREND, HOUR, results(["AAPL"], last_ts=NOW), "1")
        assert stale(transaction, closed()) == []
        transaction.execute(
            "UPDATE market.series_state SET computed_at = computed_at - make_interval(secs => $1)",
            float(ledger.RECORDING_GRACE_SECONDS + 1),
        )
        assert [each[:4] for each in stale(transaction, closed())] == [(EMA_TREND, "AAPL", "1h", "not recorded")]
        record(transaction, EMA_TREND, HOUR, ["AAPL"], 7)
        assert stale(transaction, closed()) == []


# Why each series of AAPL is stale in the next test.
_CLOSED, _UNSURE, _MISSING, _OLDER = "bar closed", "to be confirmed", "bars missing", "older bars"
_CHANGED, _NEW, _UNTOLD = "input changed", "never computed", "not recorded"
_OF_PROVIDER = {_CLOSED, _UNSURE, _MISSING, _OLDER}
_EVERY = _OF_PROVIDER | {_CHANGED, _NEW, _UNTOLD}
_STATE, _INSTRUMENT = "UPDATE market.series_state SET", "UPDATE market.instrument SET"
# What changes one thing, and which of the reasons it takes away. $1 is now, and $2 a minute later.
_TAKEN_AWAY: dict[str, set[str]] = {
    f"{_INSTRUMENT} is_active = false": _EVERY,
    f"{_STATE} is_on = false": _EVERY,
    f"{_INSTRUMENT} is_fetched = false": _OF_PROVIDER,
    f"{_INSTRUMENT} silent_since = $1": _OF_PROVIDER,
    f"{_INSTRUMENT} provider = 'other'": {_CLOSED, _UNSURE},
    f"{_INSTRUMENT} delay_seconds = 900": {_CLOSED, _UNSURE},
    f"{_INSTRUMENT} calendar = 'XLON'": {_CLOSED, _UNSURE},
    f"{_STATE} next_attempt_at = $2": _EVERY - {_UNTOLD},
    f"{_STATE} next_attempt_at = $1": set(),
    f"{_STATE} checked_through = $1 WHERE asset = 'ohlc' AND timeframe = '5m'": {_CLOSED},
    f"{_STATE} asked_at = asked_at + interval '1 minute' WHERE timeframe = '1d'": {_UNSURE},
    f"{_STATE} asked_at = NULL WHERE timeframe = '1d'": {_UNSURE},
    f"{_STATE} dirty_from = NULL": {_CHANGED, _NEW},
    f"{_STATE} dirty_end = $1": {_CHANGED},
    f"{_STATE} checked_through = NULL WHERE timeframe <> '5m'": set(),
    f"{_STATE} last_ts = NULL WHERE timeframe = '1d'": {_OLDER},
    f"{_STATE} recorded_at = computed_at": {_UNTOLD},
    f"{_STATE} recorded_at = computed_at - interval '1 second'": set(),
    f"{_STATE} computed_at = NULL": {_UNTOLD},
    f"{_STATE} dirty_from = $1 WHERE asset = 'ema_signals'": {_UNTOLD},
    "UPDATE market.asset SET is_on = false WHERE asset = 'ema_trend'": {_NEW},
    "UPDATE market.asset SET is_on = false WHERE asset = 'ema_signals'": {_UNTOLD},
    "UPDATE market.bar_gap SET next_attempt_at = $2": {_MISSING},
    "UPDATE market.bar_gap SET next_attempt_at = NULL, status = 'did not trade'": {_MISSING},
    "UPDATE market.bar_gap SET timeframe = '15m'": {_MISSING},
    "UPDATE market.older_history SET due_at = $2": {_OLDER},
    "UPDATE market.older_history SET due_at = NULL": {_OLDER},
    "UPDATE market.older_history SET timeframe = '15m'": {_OLDER},
}


@pytest.mark.broad
def test_everything_that_keeps_a_series_out_of_the_plan_keeps_it_out(ready: Database) -> None:
    days = NOW - timedelta(days=9)
    last = closed(m5=NOW, d1=NOW).with_columns(
        recheck_at=pl.when(timeframe="1d").then(pl.lit(NOW - minutes(60), UTC_TIME))
    )
    with ready.transaction() as transaction:
        mine, old, too_old = "WHERE symbol = 'AAPL' AND", "$1 - interval '5 min'", "$1 - interval '61 min'"
        for sql in (
            f"{_STATE} checked_through = $1, asked_at = $1, last_ts = $1 WHERE asset = 'ohlc'",
            f"{_STATE} last_ts = $1 WHERE timeframe = '1d'",
            f"{_STATE} checked_through = {old} {mine} asset = 'ohlc' AND timeframe = '5m'",
            f"{_STATE} asked_at = {too_old} {mine} asset = 'ohlc'",
            f"{_STATE} dirty_from = {old}, dirty_end = {old} {mine} asset = 'ohlc' AND timeframe = '1h'",
            f"{_STATE} dirty_from = {old} {mine} asset = 'ema_trend' AND timeframe = '1h'",
            f"{_STATE} computed_at = now() + ({too_old} - $1) {mine} asset = 'ema_signals' AND timeframe = '5m'",
            "INSERT INTO market.older_history (symbol, timeframe, due_at) VALUES ('AAPL', '1d', $1)",
        ):
            transaction.execute(sql, NOW)
        for first in (days + timedelta(days=2), days):
            transaction.execute(
                "INSERT INTO market.bar_gap VALUES ('AAPL', '1d', $1, $1, 1, 'open', 1, $2, $2)", first, NOW
            )
        found = {(asset, timeframe, reason): since for asset, _, timeframe, reason, since in stale(transaction, last)}
        assert found == {
            (OHLC, "5m", _CLOSED): NOW,
            (OHLC, "1d", _UNSURE): NOW - minutes(60),
            (OHLC, "1d", _MISSING): days,
            (OHLC, "1d", _OLDER): None,
            (OHLC, "1h", _CHANGED): NOW - minutes(5),
            (EMA_TREND, "1h", _NEW): NOW - minutes(5),
            (EMA_SIGNALS, "5m", _UNTOLD): row(transaction, EMA_SIGNALS, "AAPL", FIVE)["computed_at"],
        }
        assert {symbol for _, symbol, *_ in stale(transaction, last)} == {"AAPL"}
        taken_away = {}
        for sql in _TAKEN_AWAY:
            transaction.execute("SAVEPOINT before")
            transaction.execute(sql.replace("$2", "$1 + interval '1 minute'"), *([NOW] if "$" in sql else []))
            taken_away[sql] = _EVERY - {reason for *_, reason, _ in stale(transaction, last)}
            transaction.execute("ROLLBACK TO SAVEPOINT before")
        # A gap, and older bars, are requested when the last bar of their timeframe can be.
        assert not {_MISSING, _OLDER} & {reason for *_, reason, _ in stale(transaction, closed(m5=NOW))}
    assert taken_away == _TAKEN_AWAY


def test_removed_symbols_and_symbols_from_files_are_not_requested(ready: Database) -> None:
    with ready.transaction() as transaction:
        ledger.sync_instruments(transaction, [Instrument("MSFT", provider="file")])
        ledger.mark_dirty(transaction, EMA_TREND, starts("AAPL", HOUR, NOW))
        ledger.mark_dirty(transaction, EMA_TREND, starts("MSFT", HOUR, NOW))
        assert stale(transaction, closed(m5=NOW)) == [(EMA_TREND, "MSFT", "1h", "never computed", NOW)]


@pytest.mark.broad
def test_the_search_for_stale_series_uses_indexes(database: Database) -> None:
    """With 1,000 fresh symbols it must not read all 24,000 rows of the ledger."""
    with database.transaction() as transaction:
        ledger.sync_instruments(transaction, [Instrument(f"S{number:04}") for number in range(1000)])
        transaction.execute(
            "UPDATE market.series_state SET checked_through = $1, computed_at = $1, recorded_at = $1", NOW
        )
        ledger.mark_dirty(transaction, EMA_TREND, starts("S0500", HOUR, NOW))
    with database.transaction() as transaction:
        transaction.execute("ANALYZE market.series_state")
        transaction.execute("ANALYZE market.instrument")

    class Explaining(Transaction):
        def query(self, sql: str, *parameters: object) -> pl.DataFrame:
            return super().query(f"EXPLAIN (ANALYZE, FORMAT TEXT) {sql}", *parameters)

    with database.transaction() as transaction:
        plan = ledger.stale(Explaining(database, transaction._cursor), closed(m5=NOW, d1=NOW), NOW)
        text = "\n".join(plan.to_series())
    assert "Index Scan using series_state_dirty" in text, text
    assert "Bitmap Index Scan on series_state_checked" in text, text
    assert not re.search(r" on (ohlc|ema_signals|ema_trend|strategy_9_30_ema)", text), text
    # Only the search for series that were not reported to Dagster reads the whole ledger: 4 ms for 1,000 symbols.
    assert len(re.findall(r"Seq Scan on series_state", text)) <= 1, text


# --- work -----------------------------------------------------------------------------------------------------------


def test_two_workers_never_claim_the_same_series(ready: Database, database_url: str) -> None:
    for symbol in ("AAPL", "MSFT", "BTC-USD"):
        with ready.transaction() as transaction:
            ledger.mark_dirty(transaction, EMA_SIGNALS, starts(symbol, FIVE, NOW))
    with Database(database_url) as other:
        with ready.transaction() as one, other.transaction() as two:
            first = ledger.claim(one, EMA_SIGNALS, FIVE, ["AAPL", "MSFT"], everything=False)
            assert first.select("symbol", "from_ts").rows() == [("AAPL", NOW), ("MSFT", NOW)]
            assert claimed(two, EMA_SIGNALS, FIVE) == ["BTC-USD"]
            assert claimed(two, EMA_SIGNALS, FIVE, everything=True) == ["BTC-USD"]
            ledger.complete(one, EMA_SIGNALS, FIVE, results(["AAPL"]), "1")
        with other.transaction() as two:
            assert claimed(two, EMA_SIGNALS, FIVE) == ["BTC-USD", "MSFT"]


def test_a_run_that_marks_readers_waits_for_one_that_computes_them_without_a_deadlock(
    ready: Database, database_url: str
) -> None:
    """A strategy reads a signal and the bars. One run computes the signal while another stores new bars."""
    symbols = ["AAPL", "BTC-USD", "MSFT"]
    with ready.transaction() as transaction:
        for place, asset in enumerate((EMA_SIGNALS, EMA_TREND, STRATEGY), 1):
            transaction.execute("UPDATE market.asset SET position = $2 WHERE asset = $1", asset, place)
        # The strategy comes first in the table, and last in the graph.
        transaction.execute("DELETE FROM market.asset_input WHERE asset = $1 OR reads = $2", EMA_SIGNALS, OHLC)
        for asset, reads in ((STRATEGY, OHLC), (STRATEGY, EMA_SIGNALS), (EMA_SIGNALS, OHLC)):
            transaction.execute("INSERT INTO market.asset_input VALUES ($1, $2, $3, $2, false)", asset, "5m", reads)
        # What the run computes is dirty from the same bar on that changes again before the run ends.
        ledger.mark_dirty(transaction, EMA_SIGNALS, starts("AAPL", FIVE, NOW))

    def store_bars(other: Database) -> None:
        with other.transaction() as transaction:
            ledger.lock(transaction, OHLC, FIVE, symbols)
            ledger.complete(transaction, OHLC, FIVE, results(symbols, changed_from=NOW, last_ts=NOW), "1")

    complete_while_waited_for(ready, database_url, EMA_SIGNALS, symbols, store_bars)
    with ready.transaction() as transaction:
        dirty = [
            row(transaction, asset, symbol, FIVE)["dirty_from"]
            for asset in (EMA_SIGNALS, STRATEGY)
            for symbol in symbols
        ]
    assert dirty == [NOW] * 6


def _remake(transaction: Transaction, assets: list[str]) -> None:
    ledger.start_again(transaction, assets)


def _adopt(transaction: Transaction, assets: list[str]) -> None:
    ledger.adopt_code_versions(transaction, dict.fromkeys(assets, "2"))


def _end_pauses(transaction: Transaction, _: list[str]) -> None:
    ledger.end_pauses(transaction, ["AAPL", "BTC-USD", "MSFT"], [FIVE])


def _forget_run(transaction: Transaction, _: list[str]) -> None:
    assert ledger.forget_run(transaction, "a run") == 6


@pytest.mark.parametrize("write", [_remake, _adopt, _end_pauses, _forget_run])
def test_a_sync_or_a_command_waits_for_a_run_without_a_deadlock(
    ready: Database, database_url: str, write: Callable[[Transaction, list[str]], None]
) -> None:
    """A run computes an asset and then marks the one that reads it, while both are written by something else."""
    symbols, read, reader = ["AAPL", "BTC-USD", "MSFT"], EMA_TREND, EMA_SIGNALS
    assets = [reader, read]
    with ready.transaction() as transaction:
        # The reader comes first by name, and in the table.
        transaction.execute("DELETE FROM market.asset_input WHERE asset = $1 OR reads = $1", reader)
        transaction.execute("INSERT INTO market.asset_input VALUES ($1, $2, $3, $2, true)", reader, "5m", read)
        for place, asset in enumerate((read, reader), 1):
            transaction.execute("UPDATE market.asset SET position = $2 WHERE asset = $1", asset, place)
        transaction.execute(
            """
            UPDATE market.series_state SET last_ts = $1, code_version = '1', failures = 1, next_attempt_at = $1,
                   recorded_event = 7
            WHERE asset = ANY ($2::text[])
            """,
            NOW,
            assets,
        )
        transaction.execute("CREATE SCHEMA IF NOT EXISTS dagster")
        transaction.execute(
            """
            CREATE TABLE dagster.event_logs AS
            SELECT 7::bigint AS id, 'a run' AS run_id, 'ASSET_MATERIALIZATION' AS dagster_event_type,
                   to_json(array[asset])::text AS asset_key, symbol || '|5m' AS partition
            FROM market.series_state WHERE asset = ANY ($1::text[]) AND timeframe = '5m'
            """,
            assets,
        )

    def work(other: Database) -> None:
        with other.transaction() as transaction:
            write(transaction, assets)

    complete_while_waited_for(ready, database_url, read, symbols, work)


def test_a_claim_of_everything_includes_fresh_series_from_the_beginning(ready: Database) -> None:
    with ready.transaction() as transaction:
        found = ledger.claim(transaction, EMA_SIGNALS, FIVE, ["AAPL", "MSFT"], everything=True)
        assert found.select("symbol", "from_ts").rows() == [("AAPL", ledger.BEGINNING), ("MSFT", ledger.BEGINNING)]


def test_pending_work_reports_the_number_of_input_bars_to_read(ready: Database) -> None:
    with ready.transaction() as transaction:
        bars = results(["AAPL", "MSFT"], first_ts=NOW - minutes(500), last_ts=NOW, changed_from=NOW - minutes(10))
        ledger.complete(transaction, OHLC, FIVE, bars, "1")

        def pending(*, everything: bool) -> list[tuple[object, ...]]:
            symbols = ["AAPL", "BTC-USD"]
            return ledger.pending(transaction, EMA_SIGNALS, FIVE, symbols, NOW, everything=everything).rows()

        assert pending(everything=False) == [("AAPL", 3)]
        assert pending(everything=True) == [("AAPL", 101)]
        # A strategy has several inputs; the main one counts.
        found = ledger.pending(transaction, STRATEGY, FIVE, ["AAPL"], NOW, everything=False)
        assert found["symbol"].to_list() == ["AAPL"]


@pytest.mark.parametrize(
    ("held", "mark", "expected"),
    [
        pytest.param(None, (0, 60), (0, 60), id="clean"),
        pytest.param((0, 60), (60, 120), (0, 60), id="later changes nothing"),
        pytest.param((60, 120), (0, 60), (0, 60), id="earlier pulls down, with its own end"),
        pytest.param((0, 60), (0, 60), (0, 60), id="the same stays"),
        pytest.param((0, 90), (0, 60), (0, 60), id="the same start takes the newer end"),
    ],
)
def test_marking_a_series_as_dirty_never_moves_its_dirty_start_later(
    ready: Database, held: tuple[int, int] | None, mark: tuple[int, int], expected: tuple[int, int]
) -> None:
    with ready.transaction() as transaction:
        for each in (held, mark):
            if each is not None:
                ledger.mark_dirty(transaction, OHLC, starts("AAPL", HOUR, *(NOW + minutes(number) for number in each)))
        found = row(transaction, OHLC, "AAPL", HOUR)
        assert (found["dirty_from"], found["dirty_end"]) == tuple(NOW + minutes(number) for number in expected)
        assert row(transaction, OHLC, "MSFT", HOUR)["dirty_from"] is None
        assert row(transaction, OHLC, "AAPL", M30)["dirty_from"] is None


def test_completing_a_changed_series_marks_the_series_that_read_it_as_dirty(ready: Database) -> None:
    with ready.transaction() as transaction:
        ledger.complete(
            transaction, OHLC, FIVE, results(["AAPL"], changed_from=NOW, last_ts=NOW, checked_through=NOW), "7"
        )
        found = row(transaction, OHLC, "AAPL", FIVE)
        assert (found["revision"], found["code_version"], found["last_ts"], found["checked_through"]) == (
            1,
            "7",
            NOW,
            NOW,
        )
        assert found["computed_at"] is not None
        dirty = transaction.query(
            "SELECT asset, symbol, timeframe, dirty_from FROM market.series_state WHERE dirty_from IS NOT NULL"
        )
        # Strategies also read the bars.
        assert sorted(dirty.rows()) == [(EMA_SIGNALS, "AAPL", "5m", NOW), (STRATEGY, "AAPL", "5m", NOW)]
        ledger.complete(transaction, EMA_SIGNALS, FIVE, results(["AAPL"], changed_from=NOW + minutes(5)), "1")
        assert row(transaction, EMA_SIGNALS, "AAPL", FIVE)["dirty_from"] is None
        assert row(transaction, EMA_TREND, "AAPL", FIVE)["dirty_from"] == NOW + minutes(5)
        assert row(transaction, STRATEGY, "AAPL", FIVE)["dirty_from"] == NOW


def test_a_series_is_marked_as_dirty_from_its_earliest_change(ready: Database) -> None:
    """Also one that is switched off: when it is switched on again, it has only the difference to compute."""
    with ready.transaction() as transaction:
        for symbol, is_on in (("AAPL", True), ("MSFT", False)):
            transaction.execute("UPDATE market.asset SET is_on = $2 WHERE asset = $1", EMA_TREND, is_on)
            for change, expected in ((5, 5), (10, 5), (0, 0)):
                changed = results([symbol], changed_from=NOW + minutes(change))
                ledger.complete(transaction, EMA_SIGNALS, FIVE, changed, "1")
                assert row(transaction, EMA_TREND, symbol, FIVE)["dirty_from"] == NOW + minutes(expected)


def test_completing_an_unchanged_series_keeps_its_revision_and_marks_no_series_as_dirty(ready: Database) -> None:
    with ready.transaction() as transaction:
        ledger.complete(transaction, EMA_SIGNALS, FIVE, results(["AAPL"]), "1")
        assert row(transaction, EMA_SIGNALS, "AAPL", FIVE)["revision"] == 0
        assert row(transaction, EMA_TREND, "AAPL", FIVE)["dirty_from"] is None


def test_completing_a_series_never_shortens_its_known_range(ready: Database) -> None:
    with ready.transaction() as transaction:
        known = dict.fromkeys(("first_ts", "last_ts", "checked_through", "final_through", "asked_at"), NOW)
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL"], **known), "1")
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL"], **{name: NOW - minutes(5) for name in known}), "1")
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL"]), "1")
        found = row(transaction, OHLC, "AAPL", FIVE)
        # The last request counts, even if the clock was set back; an answer about a gap is none.
        earlier = dict.fromkeys(("first_ts", "asked_at"), NOW - minutes(5))
        assert {name: found[name] for name in known} == {**known, **earlier}


# --- failures -------------------------------------------------------------------------------------------------------


def test_the_pause_doubles_with_each_failure_up_to_an_hour(ready: Database) -> None:
    pauses = []
    with ready.transaction() as transaction:
        for number in range(1, 31):
            ledger.fail(transaction, OHLC, FIVE, {"AAPL": f"failure {number}"}, NOW)
            found = row(transaction, OHLC, "AAPL", FIVE)
            assert (found["failures"], found["last_error"]) == (number, f"failure {number}")
            pauses.append((found["next_attempt_at"] - NOW).total_seconds())  # type: ignore[operator]
        assert row(transaction, OHLC, "MSFT", FIVE)["failures"] == 0
    for number, pause in enumerate(pauses):
        middle = min(ledger.FIRST_PAUSE_SECONDS * 2**number, ledger.LONGEST_PAUSE_SECONDS)
        assert 0.75 * middle <= pause <= 1.25 * middle
    # Pauses are random, so that series that failed together are not all retried at the same moment.
    assert len(set(pauses[-10:])) > 1


def test_code_that_has_failed_does_not_work_on_a_series_during_its_pause_and_other_code_does(ready: Database) -> None:
    with ready.transaction() as transaction:
        bars = results(["AAPL", "MSFT"], first_ts=NOW - minutes(5), last_ts=NOW, changed_from=NOW - minutes(5))
        ledger.complete(transaction, OHLC, FIVE, bars, "1")

        def pending(code: str | None, at: datetime = NOW, *, everything: bool = False) -> list[str]:
            symbols = ["AAPL", "MSFT"]
            return ledger.pending(transaction, EMA_SIGNALS, FIVE, symbols, at, everything=everything, code=code)[
                "symbol"
            ].to_list()

        both = ["AAPL", "MSFT"]
        ledger.fail(transaction, EMA_SIGNALS, FIVE, {"AAPL": "no"}, NOW, code="a")
        until = row(transaction, EMA_SIGNALS, "AAPL", FIVE)["next_attempt_at"]
        assert isinstance(until, datetime)
        assert until == NOW + timedelta(seconds=ledger.FIRST_PAUSE_SECONDS), "all that fail together pause as long"
        assert pending("a") == pending("a", until - timedelta(seconds=1)) == ["MSFT"]
        assert pending("a", until) == pending("b") == pending(None) == pending("a", everything=True) == both
        ledger.end_pauses(transaction, both, [FIVE])
        assert pending("a") == both
        # A failure of code of the package is tried again with each run.
        ledger.fail(transaction, EMA_SIGNALS, FIVE, {"AAPL": "no"}, NOW)
        assert pending("a") == pending(None) == both


def test_a_success_clears_the_failures_of_a_series(ready: Database) -> None:
    with ready.transaction() as transaction:
        ledger.fail(transaction, OHLC, FIVE, {"AAPL": "no", "MSFT": "x" * 5000}, NOW)
        ledger.fail(transaction, OHLC, FIVE, {}, NOW)
        failing = ledger.failing(transaction)
        assert failing.select("asset", "symbol", "timeframe", "failures").rows() == [
            (OHLC, "AAPL", "5m", 1),
            (OHLC, "MSFT", "5m", 1),
        ]
        assert failing["last_error"].to_list() == ["no", "x" * 1000]
        assert ledger.failing(transaction, EMA_SIGNALS).is_empty()
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL"]), "1")
        found = row(transaction, OHLC, "AAPL", FIVE)
        assert (found["failures"], found["last_error"], found["next_attempt_at"]) == (0, None, None)
        assert ledger.failing(transaction, OHLC)["symbol"].to_list() == ["MSFT"]


def test_a_series_may_fail_any_number_of_times(ready: Database) -> None:
    with ready.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET failures = 100000")
        ledger.fail(transaction, OHLC, FIVE, {"AAPL": "no"}, NOW)
        found = row(transaction, OHLC, "AAPL", FIVE)
    assert found["failures"] == 100_001
    assert NOW + minutes(45) <= found["next_attempt_at"] <= NOW + minutes(75)  # type: ignore[operator]


def test_pauses_are_ended_for_all_assets_of_the_given_series_and_no_others(ready: Database) -> None:
    with ready.transaction() as transaction:
        for asset in (OHLC, EMA_TREND):
            for timeframe in (FIVE, HOUR):
                ledger.fail(transaction, asset, timeframe, {"AAPL": "no", "MSFT": "no"}, NOW, NOW + minutes(60))
        ledger.end_pauses(transaction, ["AAPL"], [FIVE])
        failing = ledger.failing(transaction)
    assert failing["failures"].to_list() == [1] * 8
    assert failing.filter(pl.col("next_attempt_at").is_null()).select("asset", "symbol", "timeframe").rows() == [
        (asset, "AAPL", "5m") for asset in (EMA_TREND, OHLC)
    ]


def test_a_series_pauses_until_the_last_of_its_failed_inputs_on_its_timeframe_is_tried_again(ready: Database) -> None:
    with ready.transaction() as transaction:
        transaction.execute("UPDATE market.series_state SET dirty_from = $1 WHERE symbol <> 'BTC-USD'", NOW)
        for asset, pause in ((EMA_SIGNALS, minutes(30)), (EMA_TREND, minutes(60))):
            ledger.fail(transaction, asset, FIVE, {"AAPL": "no"}, NOW, NOW + pause)
        found = ledger.pausing(transaction, NOW)
    columns = ("asset", "symbol", "timeframe", "failures", "next_attempt_at")
    assert found.select(columns).rows() == [
        (EMA_SIGNALS, "AAPL", "5m", 1, NOW + minutes(30)),
        (EMA_TREND, "AAPL", "5m", 1, NOW + minutes(60)),
        (STRATEGY, "AAPL", "5m", 0, NOW + minutes(60)),
    ]


def test_a_provider_is_well_if_bars_of_any_of_its_symbols_were_received_last_time(ready: Database) -> None:
    with ready.transaction() as transaction:

        def is_well() -> bool:
            return ledger.is_any_well(transaction, None)

        assert not is_well(), "nothing was requested yet"
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL"], asked_at=NOW), "1")
        assert is_well()
        assert not ledger.is_any_well(transaction, "yahoo")
        ledger.fail(transaction, OHLC, FIVE, {"AAPL": "no"}, NOW)
        assert not is_well()


def test_the_ends_of_the_given_series_are_found_again_and_no_others(ready: Database) -> None:
    times = [NOW, NOW + minutes(5)]
    bars = pl.DataFrame([("AAPL", "5m", ts, 1, 1, 1, 1, 1) for ts in times], schema=BAR_SCHEMA, orient="row")
    ends = "SELECT asset, symbol, timeframe, first_ts, last_ts FROM market.series_state"
    with ready.transaction() as transaction:
        tables.write_bars(transaction, FIVE, bars.with_columns(ts_end=pl.col("ts") + minutes(5)), "a source")
        transaction.execute("UPDATE market.series_state SET first_ts = $1, last_ts = $1", NOW - minutes(5))
        before = set(transaction.query(ends).rows())
        ledger.find_ends(transaction, FIVE, ["AAPL"])
        assert set(transaction.query(ends).rows()) - before == {(OHLC, "AAPL", "5m", *times)}


def test_failures_of_other_code_and_of_assets_that_were_off_are_forgotten(ready: Database) -> None:
    with ready.transaction() as transaction:
        ledger.adopt_code_versions(transaction, dict.fromkeys(CHAIN, "1"))
        for asset in CHAIN:
            ledger.fail(transaction, asset, FIVE, {"AAPL": f"no {asset}"}, NOW)
        transaction.execute("UPDATE market.asset SET is_on = false WHERE asset IN ($1, $2)", EMA_TREND, OHLC)
        ledger.forget_failures(transaction, {**dict.fromkeys(CHAIN, "1"), STRATEGY: "2"})
        rows = {asset: row(transaction, asset, "AAPL", FIVE) for asset in CHAIN}
    assert {asset: (found["failures"], found["last_error"]) for asset, found in rows.items()} == {
        # Of bars, the provider has failed, and no code.
        OHLC: (1, "no ohlc"),
        EMA_SIGNALS: (1, "no ema_signals"),
        EMA_TREND: (0, None),
        STRATEGY: (0, None),
    }
    assert [asset for asset, found in rows.items() if found["next_attempt_at"] is None] == [EMA_TREND, STRATEGY]


# --- code versions --------------------------------------------------------------------------------------------------


def test_a_new_code_version_marks_only_that_asset_as_dirty(ready: Database) -> None:
    with ready.transaction() as transaction:
        for asset in CHAIN:
            for timeframe in (FIVE, HOUR):
                ledger.complete(transaction, asset, timeframe, results(["AAPL", "MSFT"], last_ts=NOW), "1")
        versions = dict.fromkeys(CHAIN, "1")
        assert ledger.adopt_code_versions(transaction, versions) == 0
        assert ledger.adopt_code_versions(transaction, {**versions, EMA_TREND: "2"}) == 4
        dirty = transaction.query(
            "SELECT asset, symbol, timeframe, dirty_from FROM market.series_state WHERE dirty_from IS NOT NULL"
        )
        assert sorted(dirty.rows()) == [
            (EMA_TREND, symbol, timeframe, ledger.BEGINNING)
            for symbol in ("AAPL", "MSFT")
            for timeframe in ("1h", "5m")
        ]
        assert ledger.adopt_code_versions(transaction, {**versions, EMA_TREND: "2"}) == 0


def test_a_series_that_the_code_of_before_completes_after_a_sync_is_still_computed_anew(ready: Database) -> None:
    symbols = ["AAPL", "BTC-USD", "MSFT"]
    with ready.transaction() as transaction:
        ledger.adopt_code_versions(transaction, dict.fromkeys(CHAIN, "1"))
        ledger.complete(transaction, EMA_SIGNALS, FIVE, results(symbols, last_ts=NOW), "1")
        # A person's run may be ahead of the sync.
        ledger.complete(transaction, EMA_SIGNALS, FIVE, results(["BTC-USD"], last_ts=NOW), "2")
        ledger.adopt_code_versions(transaction, {**dict.fromkeys(CHAIN, "1"), EMA_SIGNALS: "2"})
        for symbol, code in (("AAPL", "1"), ("MSFT", "2")):
            ledger.complete(transaction, EMA_SIGNALS, FIVE, results([symbol], last_ts=NOW), code)
        dirty = {symbol: row(transaction, EMA_SIGNALS, symbol, FIVE)["dirty_from"] for symbol in symbols}
    assert dirty == {"AAPL": ledger.BEGINNING, "BTC-USD": None, "MSFT": None}


def test_a_new_version_of_rollups_does_not_mark_fetched_bars_as_dirty(ready: Database) -> None:
    with ready.transaction() as transaction:
        for timeframe in ORDER:
            ledger.complete(transaction, OHLC, timeframe, results(["AAPL"], last_ts=NOW, checked_through=NOW), "1")
            record(transaction, OHLC, timeframe, ["AAPL"], 7)
        assert ledger.adopt_code_versions(transaction, {OHLC: "2"}) == len(ROLLED_UP)
        # Fetched series keep their bars, get the new version, and are reported to Dagster.
        to_tell = {
            each: ledger.to_record(transaction, OHLC, each, ["AAPL"])["code_version"].to_list() for each in ORDER
        }
        assert to_tell == {each: ["2"] if each.is_fetched else [] for each in ORDER}
        assert {each[2] for each in stale(transaction, closed())} == {timeframe.key for timeframe in ROLLED_UP}
        assert claimed(transaction, OHLC, HOUR) == ["AAPL"]
        # The next sync finds the same version, and has nothing reported again.
        record(transaction, OHLC, FIVE, ["AAPL"], 8)
        ledger.adopt_code_versions(transaction, {OHLC: "2"})
        assert ledger.to_record(transaction, OHLC, FIVE, ["AAPL", "MSFT"]).is_empty()
        assert row(transaction, OHLC, "MSFT", FIVE)["code_version"] is None


# --- recording ------------------------------------------------------------------------------------------------------


def record(transaction: Transaction, asset: str, timeframe: Timeframe, symbols: list[str], event: int) -> pl.DataFrame:
    """Mark the unrecorded series as reported to Dagster, by events with ids from `event` on, and return them."""
    told = ledger.to_record(transaction, asset, timeframe, symbols)
    told = told.with_columns(event=pl.int_range(event, event + told.height, dtype=pl.Int64()))
    ledger.mark_recorded(transaction, asset, timeframe, told)
    return told


def inputs(
    transaction: Transaction, asset: str, timeframe: Timeframe, symbol: str = "AAPL"
) -> list[tuple[object, ...]]:
    """Return the inputs that a series was computed from: asset, revisions, position in Dagster's event log."""
    found = ledger.to_record(transaction, asset, timeframe, [symbol], everything=True)
    return list(zip(*(found[name].item() for name in ("reads", "read_versions", "read_events")), strict=True))


def test_a_completed_series_is_reported_to_dagster_once(ready: Database) -> None:
    with ready.transaction() as transaction:
        assert ledger.to_record(transaction, OHLC, FIVE, ["AAPL", "MSFT"]).is_empty()
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL"], changed_from=NOW, first_ts=NOW, last_ts=NOW), "1")
        transaction.execute("INSERT INTO market.ohlc VALUES ('AAPL', '5m', $1, 1, 3, 1, 2, 5)", NOW)
        told = record(transaction, OHLC, FIVE, ["AAPL", "MSFT"], 7)
        assert told.select(
            "symbol", "provider", "revision", "code_version", "first_ts", "last_ts", "last_close"
        ).rows() == [("AAPL", None, 1, "1", NOW, NOW, 2.0)]
        assert ledger.to_record(transaction, OHLC, FIVE, ["AAPL", "MSFT"]).is_empty()
        everything = ledger.to_record(transaction, OHLC, FIVE, ["AAPL", "MSFT"], everything=True)
        assert everything.select("symbol", "revision").rows() == [("AAPL", 1), ("MSFT", 0)]


def test_a_series_that_changes_while_it_is_reported_is_reported_again(ready: Database) -> None:
    with ready.transaction() as transaction:
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL"], changed_from=NOW), "1")
        told = ledger.to_record(transaction, OHLC, FIVE, ["AAPL"]).with_columns(event=pl.lit(7, pl.Int64()))
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL"], changed_from=NOW), "1")
        ledger.mark_recorded(transaction, OHLC, FIVE, told)
        assert ledger.to_record(transaction, OHLC, FIVE, ["AAPL"])["revision"].to_list() == [2]


def test_a_series_names_its_input_revision_and_a_log_position_before_the_next_revision(ready: Database) -> None:
    with ready.transaction() as transaction:
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL"], changed_from=NOW), "1")
        ledger.complete(transaction, EMA_SIGNALS, FIVE, results(["AAPL"], changed_from=NOW), "1")
        # Its input must be reported first.
        untold = ledger.to_record(transaction, EMA_SIGNALS, FIVE, ["AAPL"])["untold"].item()
        assert untold.to_list() == ["ohlc|5m"]
        record(transaction, OHLC, FIVE, ["AAPL"], 10)
        assert ledger.to_record(transaction, EMA_SIGNALS, FIVE, ["AAPL"])["untold"].item() is None
        assert inputs(transaction, EMA_SIGNALS, FIVE) == [(OHLC, "1", 10)]
        # The input is reported again without a change: its newest event is as good as the earlier one.
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL"]), "1")
        record(transaction, OHLC, FIVE, ["AAPL"], 20)
        assert inputs(transaction, EMA_SIGNALS, FIVE) == [(OHLC, "1", 20)]
        # The input changes and is reported twice: the position is before the first of the two events.
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL"], changed_from=NOW), "1")
        assert inputs(transaction, EMA_SIGNALS, FIVE) == [(OHLC, "1", 20)]
        record(transaction, OHLC, FIVE, ["AAPL"], 30)
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL"]), "1")
        record(transaction, OHLC, FIVE, ["AAPL"], 40)
        assert inputs(transaction, EMA_SIGNALS, FIVE) == [(OHLC, "1", 29)]
        ledger.complete(transaction, EMA_SIGNALS, FIVE, results(["AAPL"], changed_from=NOW), "1")
        assert inputs(transaction, EMA_SIGNALS, FIVE) == [(OHLC, "2", 40)]


def test_series_that_are_completed_together_name_the_revisions_of_their_own_inputs(ready: Database) -> None:
    with ready.transaction() as transaction:
        for symbols in (["AAPL", "MSFT"], ["AAPL"]):
            ledger.complete(transaction, OHLC, FIVE, results(symbols, changed_from=NOW), "1")
        ledger.complete(transaction, EMA_SIGNALS, FIVE, results(["AAPL", "MSFT"]), "1")
        assert [inputs(transaction, EMA_SIGNALS, FIVE, symbol)[0][:2] for symbol in ("AAPL", "MSFT")] == [
            (OHLC, "2"),
            (OHLC, "1"),
        ]


def test_a_series_that_reads_two_timeframes_of_an_asset_names_both_revisions(ready: Database) -> None:
    with ready.transaction() as transaction:
        transaction.execute("INSERT INTO market.asset_input VALUES ($1, '5m', $2, '1h', false)", STRATEGY, EMA_TREND)
        for timeframe, event in ((FIVE, 50), (HOUR, 60)):
            ledger.complete(transaction, EMA_TREND, timeframe, results(["AAPL"], changed_from=NOW), "1")
            record(transaction, EMA_TREND, timeframe, ["AAPL"], event)
        ledger.complete(transaction, EMA_TREND, HOUR, results(["AAPL"], changed_from=NOW), "1")
        record(transaction, EMA_TREND, HOUR, ["AAPL"], 70)
        ledger.complete(transaction, STRATEGY, FIVE, results(["AAPL"], changed_from=NOW), "1")
        assert inputs(transaction, STRATEGY, FIVE) == [(EMA_TREND, "1,2", 70), (OHLC, "0", 1)]
        # A change of either timeframe comes after the position.
        ledger.complete(transaction, EMA_TREND, FIVE, results(["AAPL"], changed_from=NOW), "1")
        record(transaction, EMA_TREND, FIVE, ["AAPL"], 80)
        assert inputs(transaction, STRATEGY, FIVE) == [(EMA_TREND, "1,2", 79), (OHLC, "0", 1)]
        ledger.complete(transaction, EMA_TREND, HOUR, results(["AAPL"], changed_from=NOW), "1")
        record(transaction, EMA_TREND, HOUR, ["AAPL"], 90)
        assert inputs(transaction, STRATEGY, FIVE) == [(EMA_TREND, "1,2", 79), (OHLC, "0", 1)]


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_lock_of_rows_waits_for_another_transaction_that_has_locked_them(ready: Database, database_url: str) -> None:
    def lock(database: Database, symbol: str) -> list[str]:
        with database.transaction() as transaction:
            transaction.execute("SET LOCAL lock_timeout = 100")
            return ledger.lock(transaction, OHLC, FIVE, [symbol])["symbol"].to_list()

    with Database(database_url) as other, ready.transaction() as held:
        assert ledger.lock(held, OHLC, FIVE, ["AAPL", "NONE"])["symbol"].to_list() == ["AAPL"]
        with pytest.raises(adbc_driver_manager.Error, match="lock timeout"):
            lock(other, "AAPL")
        assert lock(other, "MSFT") == ["MSFT"]


def test_the_state_of_fetched_bars_omits_symbols_from_files(ready: Database) -> None:
    with ready.transaction() as transaction:
        ledger.sync_instruments(transaction, [AAPL, Instrument("MSFT", provider="file")])
        found = ledger.fetch_state(transaction, FIVE, ["AAPL", "MSFT", "NONE"])
        assert found.drop("begun_again").rows() == [("AAPL", "XNYS", None, 0, *[None] * 8)]
        known = ledger.instruments(transaction, FIVE, ["AAPL", "MSFT", "NONE"])
        assert known.rows() == [("AAPL", "XNYS", True, None, None), ("MSFT", "XNYS", False, None, None)]


def test_the_count_of_source_series_that_are_behind_excludes_failing_ones(ready: Database) -> None:
    last = closed(m5=NOW)

    def behind(transaction: Transaction, *symbols: str) -> int:
        return ledger.source_behind(transaction, FIVE, symbols, last, NOW)

    with ready.transaction() as transaction:
        assert behind(transaction, "AAPL", "MSFT", "BTC-USD") == 2
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL"], checked_through=NOW - minutes(5)), "1")
        assert behind(transaction, "AAPL", "MSFT") == 2
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL"], checked_through=NOW), "1")
        assert behind(transaction, "AAPL", "MSFT") == 1
        ledger.fail(transaction, OHLC, FIVE, {"MSFT": "no"}, NOW)
        assert behind(transaction, "AAPL", "MSFT") == 0
        assert ledger.source_behind(transaction, FIVE, ["MSFT"], last, NOW + minutes(2)) == 1, "its pause is over"


def test_rollups_are_expected_while_their_source_bars_are_missing(ready: Database) -> None:
    with ready.transaction() as transaction:
        assert ledger.expected_rollups(transaction, closed(h1=NOW, m5=NOW), NOW).is_empty()
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL", "MSFT"], checked_through=NOW - minutes(5)), "1")
        ledger.fail(transaction, OHLC, FIVE, {"MSFT": "no"}, NOW)
        assert ledger.expected_rollups(transaction, closed(h1=NOW, m5=NOW), NOW).rows() == [("AAPL", "1h", NOW)]
        transaction.execute("UPDATE market.instrument SET timeframes = array_remove(timeframes, '1h')")
        assert ledger.expected_rollups(transaction, closed(h1=NOW, m5=NOW), NOW).is_empty(), "it is switched off"
        transaction.execute("UPDATE market.instrument SET timeframes = timeframes || '{1h}'")
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL"], checked_through=NOW), "1")
        assert ledger.expected_rollups(transaction, closed(h1=NOW), NOW).is_empty()


def test_the_summary_counts_active_series(ready: Database) -> None:
    with ready.transaction() as transaction:
        ledger.complete(transaction, OHLC, FIVE, results(["AAPL"], last_ts=NOW), "1")
        ledger.fail(transaction, OHLC, FIVE, {"MSFT": "no"}, NOW)
        ledger.sync_instruments(transaction, [AAPL, MSFT])
        found = ledger.summary(transaction).filter(asset=OHLC, timeframe="5m")
        assert found.rows() == [(OHLC, "5m", 2, 1, 0, 1, NOW)]


# --- each reason for being stale ------------------------------------------------------------------------------------


def asked_at(transaction: Transaction, symbol: str, moment: datetime, checked_through: datetime = NOW) -> None:
    """Note that the 5m bars of `symbol` up to `checked_through` were requested at `moment`, and that there are some."""
    transaction.execute(
        """
        UPDATE market.series_state SET asked_at = $2, checked_through = $3, last_ts = $3 - interval '5 minutes'
        WHERE asset = 'ohlc' AND timeframe = '5m' AND symbol = $1
        """,
        symbol,
        moment,
        checked_through,
    )


def test_bars_that_were_requested_before_they_were_final_are_to_be_confirmed(ready: Database) -> None:
    recheck = NOW - minutes(1)
    last = closed(m5=NOW).with_columns(recheck_at=pl.lit(recheck, UTC_TIME))
    with ready.transaction() as transaction:
        asked_at(transaction, "AAPL", recheck - timedelta(microseconds=1))
        asked_at(transaction, "MSFT", recheck)
        assert stale(transaction, last) == [(OHLC, "AAPL", "5m", "to be confirmed", recheck)]
        ledger.fail(transaction, OHLC, FIVE, {"AAPL": "no"}, NOW)
        assert stale(transaction, last) == []


def test_bars_that_were_requested_while_the_clock_was_ahead_are_requested_again(ready: Database) -> None:
    slack = timedelta(seconds=ledger.CLOCK_SLACK_SECONDS)
    with ready.transaction() as transaction:
        asked_at(transaction, "AAPL", NOW, NOW + slack + timedelta(microseconds=1))
        asked_at(transaction, "MSFT", NOW, NOW + slack)
        assert stale(transaction, closed(m5=NOW)) == [(OHLC, "AAPL", "5m", "asked too early", NOW)]
        # When the provider's clock was ahead as well, its bars are stored and a request would bring the same ones.
        transaction.execute(
            "UPDATE market.series_state SET last_ts = checked_through WHERE symbol = 'AAPL' AND asset = 'ohlc'"
        )
        assert stale(transaction, closed(m5=NOW)) == []


def gap(transaction: Transaction, symbol: str, first_ts: datetime, due: datetime | None, status: str = "open") -> None:
    transaction.execute(
        """
        INSERT INTO market.bar_gap (symbol, timeframe, first_ts, last_ts, bars, status, next_attempt_at, found_at)
        VALUES ($1, '5m', $2, $2, 1, $3, $4::timestamptz, $2)
        """,
        symbol,
        first_ts,
        status,
        due,
    )


def test_missing_bars_are_requested_when_one_of_their_gaps_is_due(ready: Database) -> None:
    early, late = NOW - minutes(60), NOW - minutes(30)
    with ready.transaction() as transaction:
        for symbol in ("AAPL", "MSFT"):
            asked_at(transaction, symbol, NOW)
        gap(transaction, "AAPL", early, NOW)
        gap(transaction, "AAPL", late, NOW)
        gap(transaction, "MSFT", early, NOW + timedelta(microseconds=1))
        gap(transaction, "MSFT", late, None, "did not trade")
        assert stale(transaction, closed(m5=NOW)) == [(OHLC, "AAPL", "5m", "bars missing", early)]
        assert stale(transaction, closed(h1=NOW)) == []
        transaction.execute("UPDATE market.instrument SET silent_since = $1 WHERE symbol = 'AAPL'", early)
        assert [each[3] for each in stale(transaction, closed(m5=NOW))] == []


def test_older_bars_are_requested_when_they_are_due_and_there_are_newer_ones(ready: Database) -> None:
    with ready.transaction() as transaction:
        for symbol in ("AAPL", "MSFT"):
            asked_at(transaction, symbol, NOW)
        transaction.execute("UPDATE market.older_history SET due_at = NULL")
        due = """
            INSERT INTO market.older_history (symbol, timeframe, due_at) VALUES ($1, '5m', $2)
            ON CONFLICT (symbol, timeframe) DO UPDATE SET due_at = excluded.due_at
            """
        transaction.execute(due, "AAPL", NOW)
        transaction.execute(due, "MSFT", NOW + timedelta(microseconds=1))
        assert stale(transaction, closed(m5=NOW)) == [(OHLC, "AAPL", "5m", "older bars", None)]
        assert stale(transaction, closed(h1=NOW)) == []
        transaction.execute("UPDATE market.series_state SET last_ts = NULL WHERE asset = 'ohlc' AND symbol = 'AAPL'")
        assert stale(transaction, closed(m5=NOW)) == []


def test_a_close_concerns_the_series_of_its_provider_and_its_delay_only(ready: Database) -> None:
    with ready.transaction() as transaction:
        transaction.execute("UPDATE market.instrument SET provider = 'yahoo' WHERE symbol = 'MSFT'")
        other = closed(m5=NOW).with_columns(provider=pl.lit("yahoo"))
        delayed = closed(m5=NOW).with_columns(delay_seconds=pl.lit(900, pl.Int64()))
        assert [each[1] for each in stale(transaction, closed(m5=NOW))] == ["AAPL"]
        assert [each[1] for each in stale(transaction, other)] == ["MSFT"]
        assert stale(transaction, delayed) == []
        assert ledger.source_behind(transaction, FIVE, ["AAPL", "MSFT"], other, NOW) == 1
        asked_at(transaction, "AAPL", NOW, NOW - minutes(5))
        asked_at(transaction, "MSFT", NOW, NOW - minutes(5))
        for last, symbols in ((closed(h1=NOW), ["AAPL"]), (other.with_columns(timeframe=pl.lit("1h")), ["MSFT"])):
            assert ledger.expected_rollups(transaction, last, NOW)["symbol"].to_list() == symbols


def test_a_silent_symbol_is_requested_only_once_in_a_while(ready: Database) -> None:
    """At most every 20 hours, and every 164 hours when its provider says that it has ended."""
    with ready.transaction() as transaction:
        for symbol in ("AAPL", "MSFT"):
            asked_at(transaction, symbol, NOW)
        transaction.execute("UPDATE market.instrument SET silent_since = $1 WHERE symbol <> 'BTC-USD'", NOW)
        transaction.execute("UPDATE market.instrument SET state = 'delisted' WHERE symbol = 'MSFT'")

        def due_after(hours: int) -> list[object]:
            later = NOW + timedelta(hours=hours)
            return [each[1] for each in stale(transaction, closed(m5=later), later)]

        assert [due_after(hours) for hours in (19, 20, 163, 164)] == [[], ["AAPL"], ["AAPL"], ["AAPL", "MSFT"]]
        assert ledger.source_behind(transaction, FIVE, ["AAPL", "MSFT"], closed(m5=NOW + minutes(5)), NOW) == 0


def test_series_that_pause_are_those_that_failed_and_those_that_wait_for_them(ready: Database) -> None:
    with ready.transaction() as transaction:
        for asset in (EMA_SIGNALS, EMA_TREND):
            ledger.mark_dirty(transaction, asset, starts("AAPL", HOUR, NOW))
        ledger.fail(transaction, EMA_SIGNALS, HOUR, {"AAPL": "no"}, NOW)
        asked_at(transaction, "MSFT", NOW)
        ledger.fail(transaction, OHLC, FIVE, {"MSFT": "no"}, NOW)

        def pausing(now: datetime = NOW) -> list[tuple[object, ...]]:
            return ledger.pausing(transaction, now).select("asset", "symbol", "timeframe", "failures").rows()

        computed = [(EMA_SIGNALS, "AAPL", "1h", 1), (EMA_TREND, "AAPL", "1h", 0)]
        assert pausing() == [*computed, (OHLC, "MSFT", "5m", 1)]
        assert pausing(NOW + minutes(2)) == []
        # A silent symbol is requested only once in a while, whether it failed or not.
        transaction.execute("UPDATE market.instrument SET silent_since = $1 WHERE symbol = 'MSFT'", NOW)
        assert pausing() == computed
        for asset, left in ((EMA_TREND, computed[:1]), (EMA_SIGNALS, [])):
            transaction.execute("UPDATE market.series_state SET is_on = asset <> $1", asset)
            assert pausing() == left, "a series that is switched off does not pause"
        transaction.execute("UPDATE market.series_state SET is_on = true")
        transaction.execute("UPDATE market.asset SET is_on = false WHERE asset = 'ema_trend'")
        assert pausing() == computed[:1]
        transaction.execute("UPDATE market.instrument SET is_active = false")
        assert pausing() == []


def test_a_change_of_an_input_is_that_of_one_asset_timeframe_and_symbol(ready: Database) -> None:
    with ready.transaction() as transaction:
        ledger.mark_dirty(transaction, EMA_TREND, starts("AAPL", HOUR, NOW))
        ledger.mark_dirty(transaction, EMA_TREND, starts("MSFT", FIVE, NOW))
        ledger.mark_dirty(transaction, EMA_SIGNALS, starts("MSFT", HOUR, NOW))
        assert ledger.dirty_since(transaction, EMA_TREND, HOUR, ["AAPL", "MSFT"]).rows() == [("AAPL", NOW)]
        assert ledger.dirty_since(transaction, EMA_TREND, HOUR, ["MSFT"]).rows() == []


def test_requests_made_while_the_clock_was_ahead_are_taken_back_to_the_newest_stored_bar(ready: Database) -> None:
    slack = timedelta(seconds=ledger.CLOCK_SLACK_SECONDS)
    early = NOW + slack + timedelta(microseconds=1)
    with ready.transaction() as transaction:
        asked_at(transaction, "AAPL", NOW, early)
        asked_at(transaction, "MSFT", NOW, NOW + slack)
        transaction.execute("UPDATE market.series_state SET final_through = checked_through")
        ledger.take_back(transaction, FIVE, ["AAPL", "MSFT"], NOW)
        found = ledger.fetch_state(transaction, FIVE, ["AAPL", "MSFT"]).select("checked_through", "asked_at").rows()
        final = [row(transaction, OHLC, symbol, FIVE)["final_through"] for symbol in ("AAPL", "MSFT")]
    assert found == [(early - minutes(5), early - minutes(5)), (NOW + slack, NOW)]
    assert final == [early - minutes(5), NOW + slack]


def test_a_silent_symbol_that_failed_waits_for_the_longer_of_both_pauses(ready: Database) -> None:
    with ready.transaction() as transaction:
        asked_at(transaction, "AAPL", NOW)
        transaction.execute("UPDATE market.instrument SET silent_since = $1", NOW)
        ledger.fail(transaction, OHLC, FIVE, {"AAPL": "no"}, NOW)
        found = ledger.fetch_state(transaction, FIVE, ["AAPL"])
        assert found.select("next_attempt_at", "last_error").rows() == [(NOW + timedelta(hours=20), "no")]
