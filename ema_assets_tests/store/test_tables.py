"""Tests of writing bars and computed rows: which rows change, which are kept, which changes are reported."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from ema_assets.model.declarations import Column
from ema_assets.model.schemas import BAR_CHANGE_SCHEMA, BAR_SCHEMA, UTC_TIME
from ema_assets.model.timeframes import Timeframe
from ema_assets.signals.discovery import discover
from ema_assets.store import database as store_database
from ema_assets.store import tables
from ema_assets.store.database import Database, Transaction
from ema_assets.store.tables import BARS, Table
from ema_assets_tests.timeframes import M5, ORDER

SIGNALS = Table("ema_signals", "ts", discover()["ema_signals"].columns)
START = datetime(2026, 11, 25, 14, 30, tzinfo=UTC)


@pytest.fixture(params=[500, 0], ids=["bound", "in a table"], autouse=True)
def rows_are_given_in_both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with rows bound as parameters and with rows in a temporary table: results must be equal."""
    monkeypatch.setattr(store_database, "BOUND_UP_TO_ROWS", request.param)


def at(bar: int) -> datetime:
    return START + bar * timedelta(minutes=5)


def bars(*rows: tuple[str, int, float]) -> pl.DataFrame:
    """Make bars from (symbol, position, close)."""
    return pl.DataFrame(
        [(symbol, "5m", at(bar), close, close + 1, close - 1, close, 10.0) for symbol, bar, close in rows],
        schema=BAR_SCHEMA,
        orient="row",
    )


def signals(*rows: tuple[str, int, float | None]) -> pl.DataFrame:
    schema = {
        "symbol": pl.String(),
        "ts": UTC_TIME,
        "ema_9": pl.Float64(),
        "ema_30": pl.Float64(),
        "bar_number": pl.Int64(),
    }
    return pl.DataFrame(
        [(symbol, at(bar), ema, ema, bar + 1) for symbol, bar, ema in rows], schema=schema, orient="row"
    )


def starts(**positions: int) -> pl.DataFrame:
    rows = [(symbol, at(bar)) for symbol, bar in positions.items()]
    return pl.DataFrame(rows, schema={"symbol": pl.String(), "from_ts": UTC_TIME}, orient="row")


def write_bars(database: Database, frame: pl.DataFrame, timeframe: Timeframe = M5) -> list[tuple[object, ...]]:
    with database.transaction() as transaction:
        changes = tables.write_bars(transaction, timeframe, frame, "a test")
    return changes.select("symbol", "changed_from", "written", "corrected").sort("symbol").rows()


def write_signals(database: Database, frame: pl.DataFrame, since: pl.DataFrame) -> list[tuple[object, ...]]:
    with database.transaction() as transaction:
        changes, _ = tables.write_computed(transaction, SIGNALS, M5, frame, since)
    return changes.select("symbol", "changed_from", "written").rows()


def versions(database: Database, table: str) -> dict[tuple[str, datetime], str]:
    with database.transaction() as transaction:
        found = transaction.query(f"SELECT symbol, ts, xmin::text || ctid::text AS version FROM market.{table}")
    return {(symbol, ts): version for symbol, ts, version in found.iter_rows()}


def test_new_bars_are_written_and_the_earliest_of_each_symbol_is_reported(database: Database) -> None:
    assert write_bars(database, bars(("MSFT", 4, 9.0), ("AAPL", 2, 5.0), ("AAPL", 1, 4.0))) == [
        ("AAPL", at(1), 2, 0),
        ("MSFT", at(4), 1, 0),
    ]
    with database.transaction() as transaction:
        stored = transaction.query("SELECT * FROM market.ohlc ORDER BY symbol, ts").drop(
            "missing_bars", "source_id", "stored_at"
        )
    assert stored.equals(bars(("AAPL", 1, 4.0), ("AAPL", 2, 5.0), ("MSFT", 4, 9.0)))


def test_equal_bars_are_not_rewritten(database: Database) -> None:
    write_bars(database, bars(("AAPL", 1, 4.0), ("AAPL", 2, 5.0), ("AAPL", 3, 6.0)))
    before = versions(database, "ohlc")
    changed = bars(("AAPL", 1, 4.0), ("AAPL", 2, 5.5), ("AAPL", 3, 6.0), ("AAPL", 4, 7.0))
    assert write_bars(database, changed) == [("AAPL", at(2), 2, 1)]
    after = versions(database, "ohlc")
    assert {key for key in before if before[key] == after[key]} == {("AAPL", at(1)), ("AAPL", at(3))}
    assert write_bars(database, changed) == []
    assert versions(database, "ohlc") == after


def test_new_bars_before_the_last_known_bar_are_counted_as_late(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.execute("INSERT INTO market.instrument (symbol, calendar) VALUES ('AAPL', '24/7')")
        transaction.execute(
            """INSERT INTO market.series_state (asset, symbol, timeframe, code_version, last_ts, checked_through)
               VALUES ('ohlc', 'AAPL', '5m', '1', $1, $2)""",
            at(3),
            at(4),
        )
        changes = tables.write_bars(
            transaction, M5, bars(("AAPL", 2, 4.0), ("AAPL", 3, 4.0), ("AAPL", 5, 4.0), ("MSFT", 2, 9.0)), "a test"
        )
    assert changes.equals(
        pl.DataFrame([("AAPL", at(2), 3, 0, 2), ("MSFT", at(2), 1, 0, 0)], schema=changes.schema, orient="row")
    )
    assert changes.schema == BAR_CHANGE_SCHEMA


def test_rows_next_to_stored_rows_are_written_in_any_order(database: Database) -> None:
    """Rows go straight into the table if nothing is stored in their span, else they are compared with stored rows."""
    assert write_bars(database, bars(("AAPL", 4, 4.0), ("AAPL", 6, 6.0))) == [("AAPL", at(4), 2, 0)]
    assert write_bars(database, bars(("AAPL", 1, 4.0), ("AAPL", 2, 6.0))) == [("AAPL", at(1), 2, 0)]
    assert write_bars(database, bars(("AAPL", 5, 5.0), ("MSFT", 5, 5.0))) == [
        ("AAPL", at(5), 1, 0),
        ("MSFT", at(5), 1, 0),
    ]
    assert write_bars(database, bars(("AAPL", 2, 7.0), ("AAPL", 3, 5.0))) == [("AAPL", at(2), 2, 1)]
    with database.transaction() as transaction:
        stored = transaction.query("SELECT close FROM market.ohlc WHERE symbol = 'AAPL' ORDER BY ts")
    assert stored["close"].to_list() == [4.0, 7.0, 5.0, 4.0, 5.0, 6.0]


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume"])
def test_a_change_of_any_value_is_a_correction_that_keeps_the_old_bar(database: Database, column: str) -> None:
    old = bars(("AAPL", 1, 4.0), ("MSFT", 1, 4.0))
    write_bars(database, old)
    higher = {"high": 5.5, "low": 2.5, "open": 4.5, "close": 4.5, "volume": 11.0}
    assert write_bars(database, bars(("AAPL", 1, 4.0)).with_columns(pl.lit(higher[column]).alias(column))) == [
        ("AAPL", at(1), 1, 1)
    ]
    with database.transaction() as transaction:
        kept = transaction.query(
            "SELECT c.*, n.name AS source FROM market.bar_correction c JOIN market.source n ON n.id = c.source_id"
        )
        now = transaction.query(f"SELECT {column} FROM market.ohlc WHERE symbol = 'AAPL'").item()
    assert kept.drop("corrected_at", "source_id", "source").equals(old.head(1))
    assert kept["source"].to_list() == ["a test"]
    assert now == higher[column]


def test_every_correction_of_a_bar_is_kept(database: Database) -> None:
    for close in (4.0, 5.0, 6.0):
        write_bars(database, bars(("AAPL", 1, close)))
    with database.transaction() as transaction:
        kept = transaction.query("SELECT close FROM market.bar_correction ORDER BY corrected_at")
    assert kept["close"].to_list() == [4.0, 5.0]


def test_an_empty_frame_of_bars_writes_nothing(database: Database) -> None:
    assert write_bars(database, bars()) == []


@pytest.mark.parametrize("timeframe", ORDER)
def test_each_timeframe_goes_to_its_own_partition(database: Database, timeframe: Timeframe) -> None:
    write_bars(database, bars(("AAPL", 1, 4.0)), timeframe)
    with database.transaction() as transaction:
        found = transaction.query(f"SELECT timeframe FROM market.ohlc_{timeframe.key}")
    assert found["timeframe"].to_list() == [timeframe.key]


def test_computed_rows_replace_all_stored_rows_from_their_start_on(database: Database) -> None:
    write_signals(database, signals(*(("AAPL", bar, float(bar)) for bar in range(6))), starts(AAPL=0))
    write_signals(database, signals(("MSFT", 3, 3.0)), starts(MSFT=0))
    before = versions(database, "ema_signals")
    # Bar 3 is equal, bar 4 changes, bar 5 is gone, bar 6 is new.
    rows = signals(("AAPL", 3, 3.0), ("AAPL", 4, 4.5), ("AAPL", 6, 6.0))
    assert write_signals(database, rows, starts(AAPL=3)) == [("AAPL", at(4), 3)]
    after = versions(database, "ema_signals")
    assert sorted(after) == sorted([*(("AAPL", at(bar)) for bar in (0, 1, 2, 3, 4, 6)), ("MSFT", at(3))])
    assert {key for key in before if before[key] != after.get(key)} == {("AAPL", at(4)), ("AAPL", at(5))}


def test_a_row_before_the_start_replaces_the_stored_one_where_nothing_is_stored_from_the_start_on(
    database: Database,
) -> None:
    """A trade that was entered before the first new bar goes on."""
    write_signals(database, signals(("AAPL", 1, 1.0), ("AAPL", 2, 2.0), ("MSFT", 2, 2.0)), starts(AAPL=0, MSFT=0))
    rows = signals(("AAPL", 2, 2.5), ("AAPL", 4, 4.0), ("MSFT", 2, 2.0))
    assert write_signals(database, rows, starts(AAPL=3, MSFT=3)) == [("AAPL", at(2), 2)]
    assert sorted(versions(database, "ema_signals")) == [("AAPL", at(bar)) for bar in (1, 2, 4)] + [("MSFT", at(2))]


def test_a_deleted_row_can_be_the_earliest_change(database: Database) -> None:
    write_signals(database, signals(*(("AAPL", bar, float(bar)) for bar in range(4))), starts(AAPL=0))
    assert write_signals(database, signals(("AAPL", 2, 9.0)), starts(AAPL=1)) == [("AAPL", at(1), 3)]
    assert write_signals(database, signals(), starts(AAPL=0)) == [("AAPL", at(0), 2)]
    assert versions(database, "ema_signals") == {}


def test_a_value_that_becomes_null_or_stops_being_null_is_a_change(database: Database) -> None:
    write_signals(database, signals(("AAPL", 1, None)), starts(AAPL=0))
    assert write_signals(database, signals(("AAPL", 1, None)), starts(AAPL=0)) == []
    assert write_signals(database, signals(("AAPL", 1, 2.0)), starts(AAPL=0)) == [("AAPL", at(1), 1)]
    assert write_signals(database, signals(("AAPL", 1, None)), starts(AAPL=0)) == [("AAPL", at(1), 1)]


def test_warming_up_ends_at_the_208th_bar(database: Database) -> None:
    write_signals(database, signals(("AAPL", 206, 1.0), ("AAPL", 207, 1.0)), starts(AAPL=0))
    with database.transaction() as transaction:
        found = transaction.query("SELECT bar_number, warming_up FROM market.ema_signals ORDER BY 1")
    assert found.rows() == [(207, True), (208, False)]


def test_rows_are_read_from_the_start_of_each_symbol(database: Database) -> None:
    write_bars(database, bars(*((symbol, bar, bar + 5.0) for symbol in ("AAPL", "MSFT", "TSLA") for bar in range(5))))
    with database.transaction() as transaction:
        since = tables.read_since(transaction, BARS, M5, starts(MSFT=3, AAPL=4, NONE=0), ("close",))
        before = tables.read_before(transaction, BARS, M5, starts(MSFT=3, AAPL=0, TSLA=99), ("close", "volume"))
    assert since.rows() == [("AAPL", at(4), 9.0), ("MSFT", at(3), 8.0), ("MSFT", at(4), 9.0)]
    assert sorted(before.rows()) == [("MSFT", 7.0, 10.0), ("TSLA", 9.0, 10.0)]


def test_a_start_moves_back_by_a_number_of_bars_and_not_by_time(database: Database) -> None:
    write_bars(database, bars(*(("AAPL", bar, 5.0) for bar in (0, 2, 9, 10)), ("MSFT", 1, 5.0)))
    with database.transaction() as transaction:
        found = tables.earlier(transaction, BARS, M5, starts(AAPL=10, MSFT=1, NONE=3), 2)
    assert sorted(found.rows()) == [("AAPL", at(2)), ("MSFT", at(1)), ("NONE", at(3))]


def test_a_column_of_a_signal_that_has_the_name_of_a_column_of_bars_is_corrected(database: Database) -> None:
    table = Table("sourced", "ts", (Column("source_id", "int8", "A signal's own"), Column("stored_at", "int8", "Too")))
    rows = pl.DataFrame({"symbol": ["AAPL"], "ts": [at(1)], "source_id": [1], "stored_at": [1]})
    with database.transaction() as transaction:
        tables.ensure(transaction, [table], ORDER)
        for value in (1, 2):
            changed = rows.with_columns(source_id=pl.lit(value, pl.Int64), stored_at=pl.lit(value, pl.Int64))
            tables.write_computed(transaction, table, M5, changed, starts(AAPL=0))
        only = rows.with_columns(source_id=pl.lit(3, pl.Int64), stored_at=pl.lit(2, pl.Int64))
        tables.write_computed(transaction, table, M5, only, starts(AAPL=0))
        assert transaction.query("SELECT source_id, stored_at FROM market.sourced").rows() == [(3, 2)]


def test_thinning_out_keeps_the_newest_states_and_one_state_per_interval(database: Database) -> None:
    table = Table("thinned", "ts", (Column("bar_number", "int8", "1 for the first bar"),))
    rows = pl.DataFrame({"symbol": ["AAPL"] * 12, "ts": [at(bar) for bar in range(12)], "bar_number": range(1, 13)})
    with database.transaction() as transaction:
        tables.ensure(transaction, [table], ORDER)
        tables.write_computed(transaction, table, M5, rows, starts(AAPL=0))
        tables.thin_out(transaction, table, M5, pl.Series(["AAPL", "NONE"]), 3, 4)
        left = transaction.query("SELECT bar_number FROM market.thinned ORDER BY 1")["bar_number"].to_list()
    assert left == [4, 8, 10, 11, 12]


@pytest.mark.broad
def test_sources_beyond_the_limit_share_one_id(database: Database) -> None:
    """With one file per day for each of a hundred symbols, the ids would run out within two years."""
    with database.transaction() as transaction:
        named = tables.source_id(transaction, "AAPL.csv")
        transaction.execute(
            "INSERT INTO market.source (name) SELECT 'file ' || n FROM generate_series(2, $1) n",
            tables.writes.MOST_SOURCES,
        )
        further = {tables.source_id(transaction, f"new {number}.csv") for number in range(1000)}
        assert (len(further), tables.source_id(transaction, "AAPL.csv")) == (1, named)
        names = transaction.query("SELECT name FROM market.source WHERE id = ANY ($1::smallint[])", list(further))
    assert names["name"].to_list() == [tables.writes.FURTHER_SOURCES]


def test_a_rejected_bar_is_kept_once_per_source(database: Database) -> None:
    bad = bars(("AAPL", 1, 4.0), ("AAPL", 2, 4.0)).with_columns(reason=pl.lit("high below low"))
    timeless = bad.head(1).with_columns(ts=pl.lit(None, UTC_TIME), close=pl.lit(None, pl.Float64))
    with database.transaction() as transaction:
        for frame, source in (
            (bad, "memory"),
            (bad, "memory"),
            (bad.head(1), "a file"),
            (timeless, "a file"),
            (timeless, "a file"),
        ):
            tables.reject(transaction, frame, source)
        tables.reject(transaction, bad.with_columns(close=pl.lit(4.5)).head(1), "memory")
        tables.reject(transaction, bad.clear(), "memory")
        found = transaction.query("SELECT source, count(*) AS n FROM market.bar_rejected GROUP BY 1 ORDER BY 1")
    assert found.rows() == [("a file", 2), ("memory", 3)]


def test_a_few_bars_of_many_series_are_read_by_the_index_even_at_the_default_page_cost(database: Database) -> None:
    symbols = [f"S{number:02}" for number in range(60)]
    # Bars are written as they arrive, so that the bars of a series are spread over many pages.
    for first in range(0, 400, 20):
        write_bars(database, bars(*((symbol, bar, 9.0) for symbol in symbols for bar in range(first, first + 20))))
    spans = pl.DataFrame(
        {"symbol": symbols, "first": [at(398)] * 60, "last": [at(399)] * 60},
        schema_overrides={"first": UTC_TIME, "last": UTC_TIME},
    )

    class Explaining(Transaction):
        def query(self, sql: str, *parameters: object) -> pl.DataFrame:
            plan = super().query(f"EXPLAIN {sql}", *parameters)
            return pl.DataFrame({"symbol": plan.to_series(), "ts": 0})

    with database.transaction() as transaction:
        found = tables.closes_between(transaction, M5, spans)
        transaction.execute("ANALYZE market.ohlc")
        # The default of an untuned server. The embedded server uses 1.1.
        transaction.execute("SET LOCAL random_page_cost = 4")
        plan = tables.closes_between(Explaining(database, transaction._cursor), M5, spans)
    assert found.height == 120
    text = "\n".join(plan["symbol"])
    assert "ohlc_5m_pkey" in text
    assert "Seq Scan" not in text, text
