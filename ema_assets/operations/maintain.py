"""Maintenance: delete old data, refresh statistics. What may be deleted is defined in store/retention.

Deletions run in bounded batches, one transaction each: after a kill, the next maintenance does the rest, and no batch
holds its locks for long.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from shutil import rmtree

import polars as pl

from ema_assets.config.settings import Settings
from ema_assets.model.counts import counted
from ema_assets.refresh.outcome import batches
from ema_assets.store import alert_delivery, latency, retention
from ema_assets.store.database import Database, Transaction

# One batch of this many events takes about a quarter of a second on two cores.
ROWS_PER_BATCH = 20_000
# Ten thousand symbols make about 5,000 runs per day; after a long pause, the rest is left to the next day.
RUNS_AT_MOST = 20_000
# `status` reads only the last week.
LATENCY_DAYS = 30
# How long an alert stays in the log and is not raised a second time.
ALERT_DAYS = 365

RemoveLogs = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Retention:
    """Days for which data is kept. `correction_days` is None when old values of corrected bars are never deleted."""

    run_days: int
    rejected_days: int
    correction_days: int | None

    @classmethod
    def of(cls, settings: Settings) -> "Retention":
        """Return the rules of `settings`."""
        return cls(
            run_days=settings.run_retention_days,
            rejected_days=settings.rejected_retention_days,
            correction_days=settings.correction_retention_days or None,
        )


@dataclass(slots=True)
class Tidied:
    """What a maintenance deleted and what it left.

    `runs_kept` are old runs with the latest event of a partition or check; `runs_left` are old runs that the next
    maintenance deletes; `logs_left` are deleted runs whose log files could not be removed, and `log_error` says why.
    """

    runs: int = 0
    events: int = 0
    check_records: int = 0
    backfills: int = 0
    rejected_bars: int = 0
    corrections: int = 0
    alerts: int = 0
    tables_analyzed: int = 0
    runs_kept: int = 0
    runs_left: int = 0
    logs_left: int = 0
    log_error: str = ""

    def counts(self) -> dict[str, int]:
        """Return all numbers by name."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "log_error"}

    def sentences(self, rules: Retention) -> list[str]:
        """Return the same in sentences."""
        corrections = (
            f"{counted(self.corrections, 'old value')} of corrected bars after {counted(rules.correction_days, 'day')}"
            if rules.correction_days
            else "old values of corrected bars are kept forever"
        )
        events = f"{counted(self.events, 'event')} and {counted(self.check_records, 'check record')}"
        runs = f"{counted(self.runs, 'run')} with {events}, {counted(self.backfills, 'backfill')}"
        rejected = counted(self.rejected_bars, "rejected bar")
        found = [
            f"Deleted {runs}, after {counted(rules.run_days, 'day')}",
            f"Kept {counted(self.runs_kept, 'older run')}, for each holds the latest event of a partition or check",
            f"Deleted {rejected} after {counted(rules.rejected_days, 'day')}; {corrections}",
            f"Refreshed the statistics of {counted(self.tables_analyzed, 'table')}",
        ]
        if self.alerts:
            found.append(f"Deleted {counted(self.alerts, 'alert')} after {ALERT_DAYS} days")
        if self.runs_left:
            found.append(f"Left {counted(self.runs_left, 'old run')} to the next maintenance")
        if self.logs_left:
            found.append(
                f"The log files of {counted(self.logs_left, 'deleted run')} could not be removed: {self.log_error}"
            )
        return found


def maintain(
    database: Database,
    rules: Retention,
    now: datetime,
    remove_logs: RemoveLogs,
    *,
    runs_at_most: int = RUNS_AT_MOST,
    rows_per_batch: int = ROWS_PER_BATCH,
) -> Tidied:
    """Delete data that is older than `rules` allow at `now`, and refresh the statistics of tables that changed.

    `remove_logs` removes the log files of a run, given its id. A batch has at most `rows_per_batch` rows, or one run
    with more.
    """
    done = Tidied()
    with database.transaction() as transaction:
        has_runs = retention.dagster_is_here(transaction)
    if has_runs:
        _tidy_dagster(database, now - timedelta(days=rules.run_days), remove_logs, runs_at_most, rows_per_batch, done)
    rejected_before = now - timedelta(days=rules.rejected_days)
    done.rejected_bars = _in_batches(
        database, rows_per_batch, lambda each, rows: retention.delete_rejected(each, rejected_before, rows)
    )
    latency_before = now - timedelta(days=LATENCY_DAYS)
    _in_batches(database, rows_per_batch, lambda each, rows: latency.delete_before(each, latency_before, rows))
    alerts_before = now - timedelta(days=ALERT_DAYS)
    done.alerts = _in_batches(
        database, rows_per_batch, lambda each, rows: alert_delivery.delete_before(each, alerts_before, rows)
    )
    if rules.correction_days is not None:
        corrected_before = now - timedelta(days=rules.correction_days)
        done.corrections = _in_batches(
            database, rows_per_batch, lambda each, rows: retention.delete_corrections(each, corrected_before, rows)
        )
    with database.transaction() as transaction:
        tables = retention.changed_tables(transaction)
    for table in tables:
        with database.transaction() as transaction:
            retention.analyze(transaction, table)
    done.tables_analyzed = len(tables)
    return done


def log_folder_remover(storage_folder: Path) -> RemoveLogs:
    """Return a function that removes a run's folder in the storage folder of Dagster's local compute log manager."""

    def remove(run_id: str) -> None:
        folder = storage_folder / run_id
        # An id that is a path must not lead outside the storage folder.
        if folder.parent == storage_folder and run_id != ".." and folder.is_dir():
            rmtree(folder)

    return remove


def _tidy_dagster(
    database: Database, before: datetime, remove_logs: RemoveLogs, runs_at_most: int, rows_per_batch: int, done: Tidied
) -> None:
    with database.transaction() as transaction:
        runs = retention.removable_runs(transaction, before, runs_at_most)
    # A run itself is a row, too.
    estimates = runs.select(symbol=pl.col("run_id"), rows=pl.col("events") + 1)
    for run_ids in batches(estimates, rows_per_batch):
        # The files first: nobody looks for those of a run that is deleted already.
        _remove_logs(run_ids, remove_logs, done)
        with database.transaction() as transaction:
            done.events += retention.delete_runs(transaction, run_ids)
        done.runs += len(run_ids)
    done.check_records = _in_batches(database, rows_per_batch, retention.delete_check_records)
    done.backfills = _in_batches(
        database, rows_per_batch, lambda each, rows: retention.delete_backfills(each, before, rows)
    )
    with database.transaction() as transaction:
        old = retention.count_old_runs(transaction, before)
        done.runs_left = retention.removable_runs(transaction, before, old).height if done.runs == runs_at_most else 0
    done.runs_kept = old - done.runs_left


def _remove_logs(run_ids: Sequence[str], remove_logs: RemoveLogs, done: Tidied) -> None:
    for run_id in run_ids:
        try:
            remove_logs(run_id)
        except OSError as error:
            done.logs_left += 1
            done.log_error = str(error)


def _in_batches(database: Database, rows_per_batch: int, delete: Callable[[Transaction, int], int]) -> int:
    total = 0
    while True:
        with database.transaction() as transaction:
            deleted = delete(transaction, rows_per_batch)
        total += deleted
        if deleted < rows_per_batch:
            return total
