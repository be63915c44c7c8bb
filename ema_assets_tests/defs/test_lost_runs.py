"""Tests of lost runs. A run whose process has ended is failed and covers nothing. A living run is left alone."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from unittest.mock import patch

import pytest
from dagster import (
    AssetKey,
    DagsterEvent,
    DagsterEventType,
    DagsterRun,
    DagsterRunStatus,
    Definitions,
    DynamicPartitionsDefinition,
    InitResourceContext,
    MultiPartitionsDefinition,
    SkipReason,
    StaticPartitionsDefinition,
    asset,
    build_sensor_context,
    job,
)
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
from dagster._core.workspace.load_target import ModuleTarget

from ema_assets.defs import lost_runs, resources
from ema_assets.defs.jobs import MAINTENANCE_JOB, REFRESH_JOB
from ema_assets.defs.lost_runs import fail_lost_runs, session_name
from ema_assets.defs.requests import in_flight, run_request
from ema_assets.defs.resources import StoreResource
from ema_assets.defs.run_tags import HISTORY_TAG, RANGE_END_TAG, RANGE_START_TAG
from ema_assets.defs.standby.tag import Holder
from ema_assets.model import clock
from ema_assets.refresh.runs import PlannedRun, Rectangle
from ema_assets.store import worker_sessions
from ema_assets.store.database import Database
from ema_assets_tests.defs.conftest import GRAPH, World, defs, sweep
from ema_assets_tests.defs.test_maintenance import age
from ema_assets_tests.defs.test_refresh_runs import fault
from ema_assets_tests.timeframes import M5

AAPL = Rectangle(M5, "AAPL", "AAPL")


T = TypeVar("T")


def wait_until(found: Callable[[], T]) -> T:
    """Return the first true result of `found`. Wait for one minute at most."""
    deadline = time.monotonic() + 60
    while not (result := found()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return result


def gone(tmp_path: Path) -> dict[str, str]:
    """Return the tag of a run whose code server has ended."""
    return {".dagster/grpc_info": json.dumps({"host": "localhost", "socket": str(tmp_path / "gone")})}


def left_behind(world: World, status: DagsterRunStatus, tags: dict[str, str], job: str = "refresh") -> DagsterRun:
    return world.instance.create_run_for_job(
        defs.resolve_job_def(job),
        status=status,
        tags={**run_request(PlannedRun(AAPL, 1), world.now).tags, **tags},
    )


def look(world: World, later: timedelta = timedelta(minutes=1)) -> list[str]:
    """Return the ids of the runs that are considered lost after the time `later`."""
    with world.database.transaction() as transaction:
        return fail_lost_runs(world.instance, transaction, datetime.now(UTC) + later)


def covered(world: World) -> list[Rectangle]:
    with world.database.transaction() as transaction:
        return in_flight(world.instance, transaction, datetime.now(UTC) + timedelta(minutes=1))


@pytest.mark.broad
def test_a_waiting_run_for_history_does_not_cover_bars_that_have_just_closed(world: World) -> None:
    left_behind(world, DagsterRunStatus.NOT_STARTED, {HISTORY_TAG: "true"})
    assert {each.takes_closes for each in covered(world)} == {False}
    assert AAPL.timeframe in {each.timeframe for each in covered(world)}
    left_behind(world, DagsterRunStatus.NOT_STARTED, {})
    assert AAPL in covered(world)


def status(world: World, run: DagsterRun) -> DagsterRunStatus:
    return world.instance.get_run_by_id(run.run_id).status


@pytest.mark.broad
@pytest.mark.parametrize("at", [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED])
@pytest.mark.parametrize("job", ["refresh", MAINTENANCE_JOB, "performance"])
def test_a_run_whose_code_server_and_process_have_ended_is_failed(
    world: World, tmp_path: Path, at: DagsterRunStatus, job: str
) -> None:
    run = left_behind(world, at, gone(tmp_path), job)
    assert look(world, timedelta(seconds=1)) == []
    assert look(world) == [run.run_id]
    assert status(world, run) is DagsterRunStatus.FAILURE
    said = [log.message for log in world.instance.all_logs(run.run_id)]
    assert any("The process of this run is gone" in each for each in said)
    assert look(world) == []


def test_a_run_that_was_never_queued_is_failed_after_two_minutes_and_covers_nothing(world: World) -> None:
    """This happens when the database fails between creation and queueing, for example because its disk is full."""
    run = left_behind(world, DagsterRunStatus.NOT_STARTED, {})
    assert look(world, timedelta(minutes=1, seconds=50)) == []
    assert covered(world) == [AAPL]
    assert look(world, timedelta(minutes=2, seconds=10)) == [run.run_id]
    assert status(world, run) is DagsterRunStatus.FAILURE
    assert covered(world) == []


def test_a_run_of_a_standby_process_is_alive_as_long_as_that_process(world: World) -> None:
    """This holds also while the run has no session of the database yet."""
    process = subprocess.Popen(["sleep", "600"])
    try:
        run = left_behind(world, DagsterRunStatus.STARTED, {})
        world.instance.add_run_tags(run.run_id, Holder.of_process(run.run_id, process.pid).tags())
        assert look(world) == []
    finally:
        process.kill()
        process.wait()
    assert look(world) == [run.run_id]
    assert status(world, run) is DagsterRunStatus.FAILURE


@pytest.mark.broad
@pytest.mark.parametrize("moves_on", ["succeeds", "gets another process"])
def test_a_run_that_moves_on_while_its_process_is_looked_for_is_not_failed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves_on: str
) -> None:
    """Its process ends when the run is over, which is after the run was read here."""
    run = left_behind(world, DagsterRunStatus.STARTED, gone(tmp_path))

    def living(*_: object) -> set[str]:
        if moves_on == "succeeds":
            world.instance.report_dagster_event(
                DagsterEvent(DagsterEventType.RUN_SUCCESS.value, run.job_name), run.run_id
            )
        else:
            world.instance.add_run_tags(run.run_id, Holder.of_process(run.run_id, os.getpid()).tags())
        return set()

    monkeypatch.setattr(worker_sessions, "living", living)
    assert look(world) == []
    assert status(world, run) is (DagsterRunStatus.SUCCESS if moves_on == "succeeds" else DagsterRunStatus.STARTED)


@pytest.mark.broad
def test_a_started_run_of_a_standby_process_elsewhere_is_lost_without_a_session(world: World) -> None:
    begun, waiting = (left_behind(world, at, {}) for at in (DagsterRunStatus.STARTED, DagsterRunStatus.STARTING))
    for run in (begun, waiting):
        world.instance.add_run_tags(run.run_id, Holder(run.run_id, "elsewhere", 1, 1).tags())
    assert look(world) == [begun.run_id]


def test_a_lost_run_that_was_being_canceled_becomes_canceled(world: World, tmp_path: Path) -> None:
    run = left_behind(world, DagsterRunStatus.CANCELING, gone(tmp_path))
    assert look(world) == [run.run_id]
    assert status(world, run) is DagsterRunStatus.CANCELED


@pytest.mark.broad
@pytest.mark.settled
def test_the_sweep_fails_a_lost_run_and_requests_its_series(world: World, tmp_path: Path) -> None:
    world.now += timedelta(minutes=4)
    run = left_behind(world, DagsterRunStatus.STARTED, {**gone(tmp_path), RANGE_END_TAG: "BTC-USD|5m"})
    said = sweep._raw_fn(build_sensor_context(instance=world.instance), **world.resources)
    assert isinstance(said, SkipReason)
    assert "covered by queued or running runs" in (said.skip_message or "")
    age(world, [run.run_id], timedelta(minutes=1))
    requests: Any = sweep._raw_fn(build_sensor_context(instance=world.instance), **world.resources)
    (request,) = requests
    assert request.tags[RANGE_START_TAG] == "AAPL|5m"
    assert request.tags[RANGE_END_TAG] == "BTC-USD|5m"
    assert status(world, run) is DagsterRunStatus.FAILURE


@pytest.mark.broad
def test_a_new_run_and_a_run_that_starts_with_another_launcher_are_not_lost(world: World) -> None:
    left_behind(world, DagsterRunStatus.NOT_STARTED, {})
    left_behind(world, DagsterRunStatus.STARTING, {})
    assert look(world) == []
    assert covered(world) == [AAPL, AAPL]


@pytest.mark.broad
def test_a_run_with_a_session_of_the_database_is_alive(world: World, tmp_path: Path) -> None:
    """For example a run of another machine, whose code server cannot be reached."""
    run = left_behind(world, DagsterRunStatus.STARTED, gone(tmp_path))
    with Database(world.database.url, session_name(run.run_id)) as elsewhere:
        with elsewhere.transaction() as transaction:
            transaction.execute("SELECT 1 AS one")
        assert look(world) == []
        assert covered(world) == [AAPL]
    wait_until(lambda: look(world) == [run.run_id])


def test_a_run_whose_step_has_failed_keeps_a_session_until_it_ends(world: World, tmp_path: Path) -> None:
    run = left_behind(world, DagsterRunStatus.STARTED, gone(tmp_path))
    store = cast("StoreResource", world.resources["store"]).model_copy()
    store.setup_for_execution(cast("InitResourceContext", SimpleNamespace(run=run)))
    with pytest.raises(RuntimeError, match="the step"), store.open() as database, database.transaction():
        raise RuntimeError("the step")
    assert look(world) == []
    resources._close_idle()
    wait_until(lambda: look(world) == [run.run_id])


@pytest.mark.broad
def test_a_run_whose_code_server_answers_too_late_is_not_lost(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of a busy machine accepts the call and does not answer in time."""
    monkeypatch.setattr(lost_runs, "_ANSWER_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "gone"))
        server.listen()
        left_behind(world, DagsterRunStatus.STARTED, gone(tmp_path))
        assert look(world) == []
        assert covered(world) == [AAPL]


@pytest.mark.broad
def test_a_run_of_another_code_location_is_left_alone(world: World, tmp_path: Path) -> None:
    run = world.instance.create_run_for_job(
        defs.resolve_implicit_global_asset_job_def(), status=DagsterRunStatus.STARTED, tags=gone(tmp_path)
    )
    assert run.asset_selection is None
    assert look(world) == []


@pytest.mark.broad
def test_a_job_of_another_code_location_with_the_name_of_one_of_ours_is_left_alone(world: World) -> None:
    """For example a job that a command line or Kubernetes executes: no code server of this machine knows its runs."""

    @job(name=MAINTENANCE_JOB)
    def theirs() -> None: ...

    world.instance.create_run_for_job(theirs, status=DagsterRunStatus.STARTED)
    world.instance.create_run_for_job(theirs, status=DagsterRunStatus.NOT_STARTED)
    assert look(world, timedelta(hours=1)) == []


@pytest.mark.broad
def test_a_run_of_ours_that_a_person_has_launched_is_failed_when_its_process_has_ended(
    world: World, tmp_path: Path
) -> None:
    run = world.instance.create_run_for_job(
        defs.resolve_job_def(REFRESH_JOB),
        status=DagsterRunStatus.STARTED,
        tags={RANGE_START_TAG: "AAPL|5m", RANGE_END_TAG: "AAPL|5m", **gone(tmp_path)},
    )
    assert look(world) == [run.run_id]


def test_a_run_that_includes_an_asset_of_the_host_is_left_alone(world: World) -> None:
    """Such a run may compute the asset of the host for a long time before ours, or in a separate process."""

    timeframes = StaticPartitionsDefinition([timeframe.key for timeframe in GRAPH.with_bars])
    symbols = DynamicPartitionsDefinition(name="symbol")

    @asset(deps=["ohlc"], partitions_def=MultiPartitionsDefinition({"symbol": symbols, "timeframe": timeframes}))
    def orders() -> None: ...

    merged = Definitions.merge(defs, Definitions(assets=[orders])).resolve_implicit_global_asset_job_def()
    for chosen, lost in ((["orders", "ema_signals"], False), (["ohlc", "ema_signals"], True)):
        run = world.instance.create_run_for_job(
            merged.get_subset(asset_selection={AssetKey(name) for name in chosen}),
            status=DagsterRunStatus.STARTED,
            asset_selection=frozenset(AssetKey(name) for name in chosen),
            tags={RANGE_START_TAG: "AAPL|5m", RANGE_END_TAG: "AAPL|5m"},
        )
        assert look(world) == ([run.run_id] if lost else [])


_LAUNCH = """
    mutation ($params: ExecutionParams!) {
        launchPipelineExecution(executionParams: $params) {
            __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
        }
    }
"""


@contextmanager
def code_server(world: World) -> Iterator[WorkspaceRequestContext]:
    """Start the product's code location in a server process, as `dagster dev` does, at the time of `world`."""
    target = ModuleTarget("ema_assets.definitions", None, None, "product")
    time = f"{world.now.isoformat()} x1 since {datetime.now(UTC).isoformat()}"
    with (
        patch.dict(os.environ, {clock.VARIABLE: time}),
        warnings.catch_warnings(action="ignore", category=DeprecationWarning),
        WorkspaceProcessContext(world.instance, target) as process,
    ):
        yield process.create_request_context()


def launched(world: World, workspace: WorkspaceRequestContext, tags: Mapping[str, str]) -> str:
    from dagster_graphql.test.utils import execute_dagster_graphql

    selector = {
        "repositoryLocationName": "product",
        "repositoryName": "__repository__",
        "jobName": "refresh",
    }
    metadata = {"tags": [{"key": key, "value": value} for key, value in tags.items()]}
    answer = execute_dagster_graphql(
        workspace, _LAUNCH, {"params": {"selector": selector, "executionMetadata": metadata}}
    )
    said = answer.data["launchPipelineExecution"]
    assert said["__typename"] == "LaunchRunSuccess", said
    # No daemon takes the run from the queue, so it is launched here.
    return world.instance.launch_run(said["run"]["runId"], workspace).run_id


def process_of(world: World, run_id: str) -> int | None:
    for log in world.instance.all_logs(run_id):
        if (found := re.search(r"Started process for run \(pid: (\d+)\)", str(log))) is not None:
            return int(found[1])
    return None


def has_session(world: World, run_id: str) -> bool:
    with world.database.transaction() as transaction:
        return bool(worker_sessions.living(transaction, [session_name(run_id)]))


def has_lasting_session(world: World, run_id: str) -> bool:
    """Return whether the run has its lasting session. The driver opens and closes another one first, to read types."""
    with world.database.transaction() as transaction:
        found = transaction.query(
            """
            SELECT count(*) AS n FROM pg_stat_activity
            WHERE application_name = $1 AND clock_timestamp() - backend_start > interval '2 seconds'
            """,
            session_name(run_id),
        )
    return bool(found.item())


@pytest.mark.broad
def test_a_real_run_covers_its_series_as_long_as_its_process_lives(world: World) -> None:
    # A slow exchange keeps the run busy.
    fault(world, kind="delay", seconds=600)
    with code_server(world) as workspace:
        run_id = launched(world, workspace, run_request(PlannedRun(AAPL, 1), world.now).tags)
        worker = wait_until(lambda: process_of(world, run_id))
        assert worker is not None
        try:
            # The code server knows the run before it has a session.
            assert look(world) == []
            wait_until(lambda: has_lasting_session(world, run_id))
            server = int(subprocess.check_output(["ps", "-o", "ppid=", "-p", str(worker)]))
            os.kill(server, signal.SIGKILL)
            # The run continues without its server, and its session shows that it is alive.
            assert look(world) == []
            assert covered(world) == [AAPL]
        finally:
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not has_session(world, run_id))
        assert covered(world) == []
        assert world.instance.get_run_by_id(run_id).status is DagsterRunStatus.FAILURE
