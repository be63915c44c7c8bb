"""Tests of maintenance of the market tables, in a database in which Dagster has never run, and of log files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from ema_assets.config.settings import Settings
from ema_assets.operations.maintain import LATENCY_DAYS, Retention, Tidied, log_folder_remover, maintain
from ema_assets.store import retention
from ema_assets.store.database import Database, Transaction
from ema_assets_tests.conftest import Databases
from ema_assets_tests.waiting import wait_until

NOW = datetime(2026, 11, 20, 15, 32, tzinfo=UTC)
RULES = Retention(run_days=14, rejected_days=90, correction_days=None)


def tidy(database: Database, rules: Retention = RULES, rows_per_batch: int = 20_000) -> Tidied:
    return maintain(database, rules, NOW, lambda run_id: None, rows_per_batch=rows_per_batch)


def put(transaction: Transaction, table: str, column: str, days_ago: int, rows: int) -> None:
    extra = ", reason, source" if table == "bar_rejected" else ""
    values = ", 'why', 'who'" if table == "bar_rejected" else ""
    transaction.execute(
        f"""INSERT INTO market.{table} (symbol, timeframe, ts, open, high, low, close, volume, {column}{extra})
            SELECT 'AAPL', '5m', $1 + n * interval '5 minutes', 1, 1, 1, 1, 1, $1{values} FROM generate_series(1, $2) n""",
        NOW - timedelta(days=days_ago),
        rows,
    )


def days_left(database: Database, table: str, column: str) -> dict[int, int]:
    with database.transaction() as transaction:
        found = transaction.query(
            f"""SELECT extract(day FROM $1 - {column})::bigint AS days, count(*) AS n
                FROM market.{table} GROUP BY 1 ORDER BY 1""",
            NOW,
        )
    return dict(found.iter_rows())


@pytest.fixture
def filled(database: Database) -> Database:
    """A database with ten rejected bars and ten old values of corrected bars of each age: 10, 89, 91 and 400 days."""
    with database.transaction() as transaction:
        for days in (10, 89, 91, 400):
            put(transaction, "bar_rejected", "rejected_at", days, 10)
            put(transaction, "bar_correction", "corrected_at", days, 10)
    return database


def test_rejected_bars_are_deleted_after_their_days_and_old_values_of_corrected_bars_are_kept(filled: Database) -> None:
    done = tidy(filled)
    assert (done.rejected_bars, done.corrections, done.runs) == (20, 0, 0)
    assert days_left(filled, "bar_rejected", "rejected_at") == {10: 10, 89: 10}
    assert days_left(filled, "bar_correction", "corrected_at") == {10: 10, 89: 10, 91: 10, 400: 10}
    assert "old values of corrected bars are kept forever" in "; ".join(done.sentences(RULES))
    assert tidy(filled).rejected_bars == 0


def test_old_values_of_corrected_bars_are_deleted_when_days_are_set_for_them(filled: Database) -> None:
    rules = Retention(run_days=14, rejected_days=1000, correction_days=100)
    done = tidy(filled, rules)
    assert (done.rejected_bars, done.corrections) == (0, 10)
    assert days_left(filled, "bar_correction", "corrected_at") == {10: 10, 89: 10, 91: 10}
    assert "10 old values of corrected bars after 100 days" in "; ".join(done.sentences(rules))


def test_rows_are_deleted_in_batches_with_the_oldest_first(filled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    left = []
    delete = retention.delete_rejected

    def watched(transaction: Transaction, before: datetime, at_most: int) -> int:
        sizes.append(delete(transaction, before, at_most))
        left.append(transaction.query("SELECT min(rejected_at) AS oldest FROM market.bar_rejected")["oldest"][0])
        return sizes[-1]

    monkeypatch.setattr(retention, "delete_rejected", watched)
    assert tidy(filled, rows_per_batch=8).rejected_bars == 20
    assert sizes == [8, 8, 4]
    assert left == [NOW - timedelta(days=days) for days in (400, 91, 89)]


def test_statistics_of_changed_partitions_and_of_their_table_are_refreshed(database: Database) -> None:
    """Autovacuum analyzes a partition but never the table it belongs to."""
    put_bars(database)
    assert symbols_known(database, "ohlc") is None
    assert "ohlc" in changed(database)
    assert tidy(database).tables_analyzed >= 1
    assert symbols_known(database, "ohlc") == 7
    assert symbols_known(database, "ohlc_5m") == 7
    assert "ohlc" not in changed(database)
    assert tidy(database).tables_analyzed == 0


@pytest.mark.broad
def test_a_table_whose_partition_autovacuum_analyzed_counts_as_changed(
    database: Database, databases: Databases
) -> None:
    """Autovacuum resets the count of changed rows, but does not refresh the statistics of the whole table."""
    put_bars(database)
    try:
        for setting, value in (("autovacuum", "on"), ("autovacuum_naptime", "1s")):
            databases.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
        databases.execute("SELECT pg_reload_conf()")
        wait_until(lambda: symbols_known(database, "ohlc_5m") is not None, "autovacuum", poll_seconds=0.2)
    finally:
        databases.execute("ALTER SYSTEM SET autovacuum = off")
        databases.execute("ALTER SYSTEM RESET autovacuum_naptime")
        databases.execute("SELECT pg_reload_conf()")
    assert symbols_known(database, "ohlc") is None
    assert "ohlc" in changed(database)
    tidy(database)
    assert symbols_known(database, "ohlc") == 7
    assert "ohlc" not in changed(database)


def put_bars(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.execute(
            """INSERT INTO market.ohlc (symbol, timeframe, ts, open, high, low, close, volume)
               SELECT 'S' || n % 7, '5m', $1 + n * interval '5 minutes', 1, 1, 1, 1, 1 FROM generate_series(1, 700) n""",
            NOW,
        )
        transaction.execute("SELECT pg_stat_force_next_flush()")


def changed(database: Database) -> list[str]:
    with database.transaction() as transaction:
        return retention.changed_tables(transaction)


def symbols_known(database: Database, table: str) -> int | None:
    """Return how many symbols the planner expects in a table; None when it has no statistics."""
    with database.transaction() as transaction:
        found = transaction.query(
            """SELECT n_distinct::float8 AS n FROM pg_stats
               WHERE schemaname = 'market' AND tablename = $1 AND attname = 'symbol'""",
            table,
        )
    return None if found.is_empty() else int(found["n"][0])


# --- log files --------------------------------------------------------------------------------------------------------


def test_only_the_log_folder_of_the_run_is_removed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "storage" / name / "compute_logs").mkdir(parents=True)
        (tmp_path / "storage" / name / "compute_logs" / "step.err").write_text("a word")
    remove = log_folder_remover(tmp_path / "storage")
    remove("one")
    remove("three")
    assert [each.name for each in (tmp_path / "storage").iterdir()] == ["two"]


@pytest.mark.parametrize("run_id", ["..", ".", "", "../other", "/other"])
def test_a_run_id_that_is_a_path_removes_nothing(tmp_path: Path, run_id: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "storage").mkdir()
    log_folder_remover(tmp_path / "storage")(run_id)
    assert {each.name for each in tmp_path.iterdir()} == {"other", "storage"}


# --- documentation ----------------------------------------------------------------------------------------------------


def test_the_page_of_operations_states_the_actual_retention_periods() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs/OPERATIONS.md").read_text()
    table = page.split("What is kept for how long:", 1)[1].split("`ema-assets maintain`", 1)[0]
    kept = {cells[1].strip(): cells[2].strip() for line in table.splitlines() if len(cells := line.split("|")) > 3}
    rules = Retention.of(Settings.from_env({}))
    assert rules.correction_days is None
    assert kept["what a bar was before it was corrected"] == "ever"
    assert kept["rejected bars"] == f"{rules.rejected_days} days"
    (runs,) = [text for what, text in kept.items() if what.startswith("finished runs")]
    assert runs.startswith(f"{rules.run_days} days")
    assert kept["latencies from close to row"] == f"{LATENCY_DAYS} days"
    ticks = yaml.safe_load((root / "dagster.yaml").read_text())["retention"]
    assert ticks["schedule"] == ticks["sensor"]
    days = ticks["schedule"]["purge_after_days"]
    assert kept["ticks of schedules and sensors"] == (
        f"{days['skipped']} day (skipped), {days['success']} (successful), {days['failure']} (failed)"
    )
