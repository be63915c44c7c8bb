"""Tests of the maintenance, with a real Postgres and Dagster's real storage: what it deletes and what it keeps."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml
from click.testing import CliRunner
from dagster import (
    AssetKey,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterRunStatus,
    RunRequest,
    SkipReason,
    build_schedule_context,
)
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from ema_assets.cli import main
from ema_assets.defs.requests import QUIET_CONFIG, run_request
from ema_assets.model.asset_names import CHAIN
from ema_assets.model.timeframes import by_key
from ema_assets.operations.maintain import Retention, Tidied, maintain
from ema_assets.refresh.runs import PlannedRun, Purpose, Rectangle
from ema_assets.store import retention
from ema_assets.store.database import Transaction
from ema_assets_tests.defs.conftest import World, defs
from ema_assets_tests.defs.staleness import SERIES
from ema_assets_tests.defs.test_refresh_runs import clear_faults, fault
from ema_assets_tests.timeframes import M5

RULES = Retention(run_days=14, rejected_days=90, correction_days=None)
OLD = timedelta(days=20)
# All checks but that of each partition, which has a result only when it changes.
CHECKS = len(list(defs.resolve_asset_graph().asset_check_keys)) - 1

MATERIALIZATION = DagsterEventType.ASSET_MATERIALIZATION


def age(world: World, run_ids: Sequence[str], by: timedelta = OLD) -> None:
    """Set the end of these runs to the world's now minus `by`."""
    with world.database.transaction() as transaction:
        transaction.execute(
            """UPDATE dagster.runs
               SET update_timestamp = $2::timestamptz AT TIME ZONE 'UTC',
                   end_time = CASE WHEN end_time IS NOT NULL THEN extract(epoch FROM $2::timestamptz) END
               WHERE run_id = ANY ($1::text[])""",
            list(run_ids),
            world.now - by,
        )


def tidy(world: World, *, rules: Retention = RULES, **limits: int) -> Tidied:
    return maintain(world.database, rules, world.now, lambda run_id: None, **limits)


def run_ids(world: World) -> set[str]:
    return {run.run_id for run in world.instance.get_runs()}


def tick(world: World, without: Sequence[str] = ()) -> str:
    """Advance five minutes, run a 5m tick for all symbols except `without`, and return the id of the run."""
    world.now += timedelta(minutes=5)
    with world.database.transaction() as transaction:
        transaction.execute(
            """UPDATE market.series_state SET checked_through = $1, failures = 0, last_error = NULL, next_attempt_at = NULL
               WHERE asset = 'ohlc' AND timeframe = '5m' AND symbol = ANY ($2::text[])""",
            world.now,
            list(without),
        )
    rectangle = Rectangle(M5, "AAPL", "BTC-USD")
    return world.run(dict(run_request(PlannedRun(rectangle, 5), world.now).tags)).run_id


def statuses(world: World) -> dict[str, tuple[set[str], set[str], set[str]]]:
    """Return materialized, failed and running partitions of each asset, as the UI computes them without a cache."""
    found = {}
    for asset in CHAIN:
        world.instance.event_log_storage.wipe_asset_cached_status(AssetKey(asset))
        status = get_and_update_asset_status_cache_value(world.instance, AssetKey(asset), SERIES, world.instance)
        subsets = (
            (
                status.deserialize_materialized_partition_subsets(SERIES),
                status.deserialize_failed_partition_subsets(SERIES),
                status.deserialize_in_progress_partition_subsets(SERIES),
            )
            if status
            else ()
        )
        materialized, failed, running = (set(subset.get_partition_keys()) for subset in subsets)
        found[asset] = (materialized, failed, running)
    return found


def latest(world: World) -> dict[tuple[str, str | None], tuple[int, str, object]]:
    """Return storage id, run and metadata of the latest materialization of every partition."""
    found = {}
    for asset in CHAIN:
        ids = world.instance.event_log_storage.get_latest_storage_id_by_partition(AssetKey(asset), MATERIALIZATION)
        records = world.instance.fetch_materializations(
            AssetRecordsFilter(asset_key=AssetKey(asset), storage_ids=sorted(ids.values())), limit=1000
        ).records
        for record in records:
            metadata = record.asset_materialization.metadata
            found[asset, record.partition_key] = (record.storage_id, record.run_id, metadata)
        assert len(records) == len(ids)
    return found


def traces(world: World, ids: Sequence[str]) -> dict[str, int]:
    """Return the number of rows that name one of these runs, per Dagster table, and of event tags without an event."""
    with world.database.transaction() as transaction:
        tables = transaction.query(
            """SELECT table_name::text AS name FROM information_schema.columns
               WHERE table_schema = 'dagster' AND column_name = 'run_id'"""
        )["name"]
        assert {"event_logs", "runs", "run_tags", "asset_check_executions"} <= set(tables)
        found = {
            name: transaction.query(
                f"SELECT count(*) AS n FROM dagster.{name} WHERE run_id = ANY ($1::text[])", list(ids)
            )["n"][0]
            for name in tables
        }
        found["asset_event_tags"] = transaction.query(
            """SELECT count(*) AS n FROM dagster.asset_event_tags t
               WHERE NOT EXISTS (SELECT FROM dagster.event_logs e WHERE e.id = t.event_id)"""
        )["n"][0]
    return {name: count for name, count in found.items() if count}


def empty_run(world: World, status: DagsterRunStatus, backfill: str | None = None) -> str:
    """Add an old run with this status, which has done nothing and concerns no asset, and return its id."""
    tags = {"dagster/backfill": backfill} if backfill else {}
    # Dagster refuses to read queued runs that have no origin.
    origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__").get_job_origin(
        "maintenance"
    )
    job = defs.resolve_job_def("maintenance")
    run = world.instance.create_run_for_job(job, tags=tags, remote_job_origin=origin)
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE dagster.runs SET status = $2 WHERE run_id = $1", run.run_id, status.value)
    age(world, [run.run_id])
    return run.run_id


@pytest.mark.broad
def test_superseded_runs_are_deleted_and_partitions_keep_their_status_and_latest_event(
    world: World,
) -> None:
    first = {run.run_id for run in world.sweep_until_fresh()}
    ticks = [tick(world) for _ in range(3)]
    superseded = [run_id for run_id in first if {key[-3:] for _, key in world.materialized(run_id)} == {"|5m"}]
    superseded += ticks[:2]
    age(world, [*first, *ticks])
    before = statuses(world), latest(world)
    assert all(len(materialized) == 20 for materialized, _, _ in before[0].values())

    done = tidy(world)

    assert done.runs == len(superseded) == 3
    assert done.events > 3 * 4 * 5
    assert done.check_records == 3 * CHECKS
    assert done.runs_kept == len(first | set(ticks)) - 3
    assert run_ids(world) == (first | set(ticks)) - set(superseded)
    assert (statuses(world), latest(world)) == before
    assert traces(world, superseded) == {}
    again = tidy(world)
    assert (again.runs, again.events, again.check_records, again.runs_kept) == (0, 0, 0, done.runs_kept)


@pytest.mark.broad
@pytest.mark.settled
def test_a_run_with_the_latest_event_of_a_single_partition_is_kept(world: World) -> None:
    kept = tick(world)
    last = tick(world, without=["JPM"])
    age(world, [kept, last])
    assert latest(world)["ema_trend", "JPM|5m"][1] == kept
    assert tidy(world).runs == 0
    assert run_ids(world) == {kept, last}
    newer = tick(world)
    age(world, [newer])
    assert tidy(world).runs == 2
    assert run_ids(world) == {newer}


@pytest.mark.broad
@pytest.mark.settled
def test_runs_are_kept_until_they_are_older_than_the_retention(world: World) -> None:
    ids = [tick(world) for _ in range(3)]
    age(world, ids[:1], timedelta(days=14, seconds=1))
    age(world, ids[1:2], timedelta(days=13, hours=23))
    age(world, ids[2:], timedelta(0))
    assert tidy(world).runs == 1
    assert run_ids(world) == set(ids[1:])
    assert tidy(world, rules=replace(RULES, run_days=13)).runs == 1


@pytest.mark.broad
def test_only_finished_runs_are_deleted(world: World) -> None:
    ids = {status: empty_run(world, status) for status in DagsterRunStatus if status != DagsterRunStatus.MANAGED}
    tidy(world)
    finished = {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}
    assert run_ids(world) == {run_id for status, run_id in ids.items() if status not in finished}


@pytest.mark.broad
@pytest.mark.settled
def test_a_partition_whose_last_attempt_failed_still_shows_as_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user may let Dagster plan each partition by itself. Then the latest planned event shows the failure."""
    monkeypatch.delenv("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS")
    fault(world, kind="server_error", symbols=["AAPL"])
    job = defs.resolve_job_def("refresh")
    failed = job.execute_in_process(
        instance=world.instance, partition_key="AAPL|5m", resources=world.resources, raise_on_error=False
    )
    clear_faults(world)
    assert not failed.success
    last = tick(world, without=["AAPL"])
    age(world, [failed.run_id, last])
    before = statuses(world)
    assert "AAPL|5m" in before["ohlc"][1]
    assert tidy(world).runs == 0
    assert statuses(world) == before
    again = job.execute_in_process(instance=world.instance, partition_key="AAPL|5m", resources=world.resources)
    age(world, [again.run_id])
    assert tidy(world).runs == 1
    assert failed.run_id not in run_ids(world)


@pytest.mark.broad
@pytest.mark.settled
def test_a_run_with_the_latest_evaluation_of_a_check_is_kept(world: World) -> None:
    """A run without stale series has no materializations, but the UI shows its checks."""
    everyone = ["AAPL", "MSFT", "JPM", "XOM", "BTC-USD"]
    first, second = (tick(world, without=everyone) for _ in range(2))
    assert world.materialized(second) == []
    age(world, [first, second])
    keys = sorted(defs.resolve_asset_graph().asset_check_keys)
    storage = world.instance.event_log_storage
    before = storage.get_latest_asset_check_execution_by_key(keys)
    assert {record.run_id for record in before.values()} == {second}
    assert tidy(world).runs == 1
    assert run_ids(world) == {second}
    assert storage.get_latest_asset_check_execution_by_key(keys) == before
    assert len(before) == CHECKS


@pytest.mark.broad
@pytest.mark.settled
def test_check_records_of_runs_deleted_in_the_ui_are_deleted_except_the_latest(world: World) -> None:
    first, second = tick(world), tick(world)
    for run_id in (first, second):
        world.instance.delete_run(run_id)
    assert traces(world, [first, second]) == {"asset_check_executions": 2 * CHECKS}
    assert tidy(world).check_records == CHECKS
    assert traces(world, [first, second]) == {"asset_check_executions": CHECKS}
    assert traces(world, [second]) == {"asset_check_executions": CHECKS}


@pytest.mark.broad
def test_the_oldest_runs_are_deleted_up_to_a_limit_and_the_next_maintenance_continues(world: World) -> None:
    ids = [empty_run(world, DagsterRunStatus.SUCCESS) for _ in range(7)]
    done = tidy(world, runs_at_most=3)
    assert (done.runs, done.runs_left, done.runs_kept) == (3, 4, 0)
    assert run_ids(world) == set(ids[3:])
    assert "Left 4 old runs to the next maintenance" in done.sentences(RULES)
    done = tidy(world, runs_at_most=4)
    assert (done.runs, done.runs_left) == (4, 0)


def test_runs_are_deleted_in_batches_and_a_kill_undoes_only_the_current_batch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [empty_run(world, DagsterRunStatus.SUCCESS) for _ in range(5)]
    for run_id in ids:
        world.instance.report_engine_event("a word", world.instance.get_run_by_id(run_id))
    sizes: list[int] = []
    delete = retention.delete_runs

    def killed_at_the_second(transaction: Transaction, batch: Sequence[str]) -> int:
        sizes.append(len(batch))
        events = delete(transaction, batch)
        if len(sizes) == 2:
            raise KeyboardInterrupt
        return events

    monkeypatch.setattr(retention, "delete_runs", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        tidy(world, rows_per_batch=4)
    assert sizes == [2, 2]
    assert run_ids(world) == set(ids[2:])
    assert traces(world, ids[:2]) == {}
    assert traces(world, ids[2:])["event_logs"] == 3
    assert tidy(world, rows_per_batch=4).runs == 3
    assert sizes == [2, 2, 2, 1]


@pytest.mark.broad
def test_finished_backfills_are_deleted_after_their_runs(world: World) -> None:
    def backfill(name: str, status: BulkActionStatus, started: datetime) -> None:
        world.instance.add_backfill(
            PartitionBackfill(
                backfill_id=name,
                status=status,
                from_failure=False,
                tags={"who": "me"},
                backfill_timestamp=started.timestamp(),
            )
        )

    old, young = world.now - OLD, world.now - timedelta(days=13)
    backfill("done", BulkActionStatus.COMPLETED_SUCCESS, old)
    backfill("failed", BulkActionStatus.COMPLETED_FAILED, old)
    backfill("running", BulkActionStatus.REQUESTED, old)
    backfill("young", BulkActionStatus.COMPLETED_SUCCESS, young)
    backfill("has_runs", BulkActionStatus.COMPLETED_SUCCESS, old)
    empty_run(world, DagsterRunStatus.STARTED, "has_runs")
    empty_run(world, DagsterRunStatus.SUCCESS, "done")
    assert tidy(world).backfills == 2
    left = {"running", "young", "has_runs"}
    assert {each.backfill_id for each in world.instance.get_backfills()} == left
    with world.database.transaction() as transaction:
        tagged = transaction.query("SELECT backfill_id FROM dagster.backfill_tags")["backfill_id"]
    assert set(tagged) == left


def test_the_query_for_needed_runs_uses_indexes_and_does_not_scan_all_events(world: World) -> None:
    """This test fails when a Dagster upgrade removes an index. Small tables are scanned unless that is forbidden."""
    with psycopg2.connect(world.database.url) as connection, connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        cursor.execute("SET enable_bitmapscan = off")
        cursor.execute(f"EXPLAIN WITH RECURSIVE {retention._LATEST} SELECT count(*) FROM needed")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Seq Scan on event_logs" not in plan
    assert len(re.findall(r"Index Cond: \(ROW\(asset_key, dagster_event_type", plan)) == 2
    assert len(re.findall("Index Scan Backward using idx_events_by_asset", plan)) == 2


def test_log_files_are_removed_before_their_runs_so_that_a_failure_leaves_none_that_nobody_removes(
    world: World,
) -> None:
    ids = [empty_run(world, DagsterRunStatus.SUCCESS) for _ in range(2)]
    left: list[set[str]] = []
    maintain(world.database, RULES, world.now, lambda _: left.append(run_ids(world)))
    assert left == [set(ids)] * 2
    assert run_ids(world) == set()


def test_log_files_that_cannot_be_removed_are_counted_and_do_not_stop_the_deletion(world: World) -> None:
    ids = [empty_run(world, DagsterRunStatus.SUCCESS) for _ in range(3)]

    def refuse(run_id: str) -> None:
        if run_id != ids[1]:
            raise PermissionError(13, "Permission denied", run_id)

    done = maintain(world.database, RULES, world.now, refuse)
    assert (done.runs, done.logs_left) == (3, 2)
    assert done.sentences(RULES)[-1] == (
        f"The log files of 2 deleted runs could not be removed: [Errno 13] Permission denied: '{ids[2]}'"
    )
    assert run_ids(world) == set()


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.broad
@pytest.mark.settled
def test_the_maintain_command_deletes_runs_and_logs_and_prints_what_it_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = tick(world), tick(world)
    with world.database.transaction() as transaction:
        transaction.execute("UPDATE dagster.runs SET end_time = 1577836800")
    for run_id in (first, second):
        (tmp_path / "storage" / run_id / "compute_logs").mkdir(parents=True)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    result = CliRunner().invoke(main, ["maintain"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert re.fullmatch(
        rf"Deleted 1 run with \d+ events and {CHECKS} check records, 0 backfills, after 14 days\.", lines[0]
    )
    assert lines[1] == "Kept 1 older run, for each holds the latest event of a partition or check."
    assert lines[2] == "Deleted 0 rejected bars after 90 days; old values of corrected bars are kept forever."
    assert re.fullmatch(r"Refreshed the statistics of \d+ tables\.", lines[3])
    assert len(lines) == 4
    assert run_ids(world) == {second}
    assert [each.name for each in (tmp_path / "storage").iterdir()] == [second]


# --- the job ----------------------------------------------------------------------------------------------------------


def maintenance(world: World) -> str:
    job = defs.resolve_job_def("maintenance")
    run = job.execute_in_process(instance=world.instance, resources=world.resources)
    assert run.success
    return run.run_id


@pytest.mark.broad
@pytest.mark.settled
def test_the_job_reports_its_deletions_removes_logs_and_deletes_its_own_older_runs(world: World) -> None:
    first, second = tick(world), tick(world)
    age(world, [first, second])
    folders = {}
    for run_id in (first, second):
        logs = world.instance.compute_log_manager
        with logs.open_log_stream([run_id, "compute_logs", "step"], ComputeIOType.STDERR) as stream:
            assert stream is not None
            stream.write("a word")  # type: ignore[call-overload]  # Dagster declares bytes and opens a text file
        folders[run_id] = Path(world.instance.storage_directory()) / run_id
    assert all(folder.is_dir() for folder in folders.values())
    run_id = maintenance(world)
    assert run_ids(world) == {second, run_id}
    assert [folder.is_dir() for folder in folders.values()] == [False, True]
    (output,) = world.instance.all_logs(run_id, of_type=DagsterEventType.STEP_OUTPUT)
    counted = {name: value.value for name, value in output.dagster_event.step_output_data.metadata.items()}
    assert (counted["runs"], counted["runs_kept"], counted["runs_left"]) == (1, 1, 0)
    said = [log.user_message for log in world.instance.all_logs(run_id)]
    assert any(line.startswith("Deleted 1 run with ") for line in said)
    age(world, [run_id])
    assert run_ids(world) == {second, run_id}
    last = maintenance(world)
    assert run_ids(world) == {second, last}


def test_the_retention_of_runs_is_read_from_the_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = empty_run(world, DagsterRunStatus.SUCCESS)
    monkeypatch.setenv("EMA_RUN_RETENTION_DAYS", "21")
    maintenance(world)
    assert run_id in run_ids(world)
    monkeypatch.setenv("EMA_RUN_RETENTION_DAYS", "19")
    maintenance(world)
    assert run_id not in run_ids(world)


def evaluate(world: World, due: datetime) -> Any:
    schedule = defs.resolve_schedule_def("maintenance")
    context = build_schedule_context(instance=world.instance, scheduled_execution_time=due, resources=world.resources)
    return schedule._execution_fn.decorated_fn(context, market=world.resources["market"])


def test_the_schedule_skips_missed_days_and_requests_one_run_for_the_latest_day(world: World) -> None:
    due = world.now.replace(hour=5, minute=17)
    missed = evaluate(world, due - timedelta(days=1))
    assert isinstance(missed, SkipReason)
    assert "later day's maintenance" in str(missed.skip_message)
    request = evaluate(world, due)
    assert isinstance(request, RunRequest)
    assert request.run_config == QUIET_CONFIG


@pytest.mark.broad
@pytest.mark.parametrize("status", [DagsterRunStatus.QUEUED, DagsterRunStatus.STARTED])
def test_the_schedule_waits_for_the_last_maintenance_to_end(world: World, status: DagsterRunStatus) -> None:
    empty_run(world, status)
    reason = evaluate(world, world.now)
    assert isinstance(reason, SkipReason)
    assert "not over yet" in str(reason.skip_message)


@pytest.mark.broad
def test_the_run_is_in_the_background_lane_and_its_priority_is_between_new_bars_and_history(world: World) -> None:
    tags = defs.resolve_job_def("maintenance").tags
    history = run_request(PlannedRun(Rectangle(M5, "A", "B"), 1, Purpose.HISTORY), world.now).tags
    slowest = run_request(PlannedRun(Rectangle(by_key("12M"), "A", "B"), 1), world.now).tags
    assert tags["ema_assets/lane"] == slowest["ema_assets/lane"]
    priorities = [int(each["dagster/priority"]) for each in (slowest, tags, history)]
    assert priorities == sorted(priorities, reverse=True)
    assert len(set(priorities)) == 3


def test_dagster_prunes_ticks_of_every_status() -> None:
    """Dagster keeps ticks forever when their status is not listed, except skipped ticks of sensors."""
    settings = yaml.safe_load((Path(__file__).parents[2] / "dagster.yaml").read_text())["retention"]
    for instigator in ("schedule", "sensor"):
        days = settings[instigator]["purge_after_days"]
        assert set(days) == {status.value.lower() for status in TickStatus}
        assert all(0 < each <= 30 for each in days.values())
