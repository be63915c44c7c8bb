"""Tests of the launcher with runs of a small code location: its processes are reused, stopped, killed and replaced.

The tests share one instance, one code server and its pool of processes, because a process takes seconds to start.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from dagster import DagsterEventType, DagsterRunStatus
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.storage.tags import SCHEDULE_NAME_TAG, SENSOR_NAME_TAG
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget

from ema_assets.defs.standby import pool as pools
from ema_assets.defs.standby.pool import Unavailable
from ema_assets.defs.standby.tag import TAG, Holder
from ema_assets.store.database import Database
from ema_assets_tests.defs.standby.conftest import Small, is_gone, job_of, wait_until

_TERMINATE = "mutation ($id: String!) { terminateRun(runId: $id) { __typename ... on PythonError { message } } }"


def state_of(small: Small, run_id: str) -> dict[str, object]:
    (said,) = [message for message in small.said(run_id) if message.startswith("state ")]
    found = json.loads(said.removeprefix("state "))
    assert isinstance(found, dict)
    return found


def cost_of(small: Small, run_id: str) -> tuple[float, float]:
    """Return the CPU seconds and the peak of memory in megabytes from the last event of a run."""
    found = small.instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT)[-1].get_dagster_event()
    metadata = found.engine_event_data.metadata
    cpu_seconds, peak_megabytes = metadata["cpu_seconds"].value, metadata["peak_megabytes"].value
    assert isinstance(cpu_seconds, float)
    assert isinstance(peak_megabytes, float)
    return cpu_seconds, peak_megabytes


def output_of(small: Small, run_id: str) -> str:
    """Return what the op of a run has printed, as the UI shows it."""
    (captured,) = [
        entry.get_dagster_event().logs_captured_data
        for entry in small.instance.all_logs(run_id, of_type=DagsterEventType.LOGS_CAPTURED)
    ]
    data = small.instance.compute_log_manager.get_log_data([run_id, "compute_logs", captured.file_key])
    return (data.stdout or b"").decode()


def test_a_process_executes_several_runs_and_carries_no_state_from_one_to_the_next(small: Small) -> None:
    runs = [small.launch("state")]
    assert small.done(runs[0]).status is DagsterRunStatus.SUCCESS, small.said(runs[0])
    for _ in range(3):
        runs.append(small.launch("state"))
        small.done(runs[-1])
    pid, _ = small.process_of(runs[0])
    assert [small.process_of(run) for run in runs] == [(pid, seen) for seen in (1, 2, 3, 4)]
    # Later runs find Dagster and the process in the same state as earlier runs.
    _, second, third, fourth = (state_of(small, run) for run in runs)
    assert second == third == fourth
    # Nothing starts a process for a run.
    assert fourth["children"] == 0
    # Every run has its own output and its own events, each once.
    assert [output_of(small, run) for run in runs] == [f"said by {run}\n" for run in runs]
    kinds = [[entry.dagster_event_type for entry in small.instance.all_logs(run)] for run in runs]
    assert kinds[0] == kinds[1] == kinds[2] == kinds[3]
    # The process ends after its fourth run.
    wait_until(lambda: is_gone(pid))
    assert any("ends, for it has had 4 runs" in message for message in small.said(runs[3]))
    # The events of a run name its process and its cost.
    assert Holder.of_run(runs[1], small.run(runs[1]).tags) == Holder(
        runs[1], socket.gethostname(), pid, Holder.of_run(runs[0], small.run(runs[0]).tags).identity
    )
    assert f"A standby process takes the run (pid: {pid}), its run number 2." in small.said(runs[1])
    cpu_seconds, peak_megabytes = cost_of(small, runs[1])
    assert 0 < cpu_seconds < 60
    assert 20 < peak_megabytes < 1000


@pytest.mark.broad
def test_a_process_that_holds_too_much_memory_ends_after_its_run(small: Small) -> None:
    run_id = small.launch("grow 400")
    assert small.done(run_id).status is DagsterRunStatus.SUCCESS
    wait_until(lambda: is_gone(small.process_of(run_id)[0]))
    assert any("ends, for it holds" in message for message in small.said(run_id))


@pytest.mark.broad
def test_a_failed_run_ends_its_process_and_a_run_that_is_canceled_early_never_begins(small: Small) -> None:
    failed = small.launch("fail")
    assert small.done(failed).status is DagsterRunStatus.FAILURE
    wait_until(lambda: is_gone(small.process_of(failed)[0]))
    assert any("ends, for its run did not succeed" in message for message in small.said(failed))
    run_id = small.launch()
    # The process of this run is still starting.
    assert small.launcher.terminate(run_id)
    assert small.done(run_id).status is DagsterRunStatus.CANCELED
    assert not any("has seen" in message for message in small.said(run_id))
    # The signal must not end a process that is not ready for it, because that would count as a failed start.
    assert small.launcher._pool is not None
    assert small.launcher._pool._failures == 0


@pytest.mark.broad
def test_a_run_is_terminated_by_graphql_from_another_instance_and_its_process_ends(small: Small) -> None:
    from dagster_graphql.test.utils import execute_dagster_graphql

    pid, seen = small.succeed()
    if seen == 4:
        pid, _ = small.succeed()
    run_id, worker = small.at_work()
    assert worker == pid
    # This cancellation was meant for the previous run.
    assert Holder.of_process("the one before", pid).ask_to_cancel()
    time.sleep(0.5)
    assert small.run(run_id).status is DagsterRunStatus.STARTED
    with small.elsewhere() as other, WorkspaceProcessContext(other, EmptyWorkspaceTarget()) as webserver:
        assert other.run_launcher.check_run_worker_health(small.run(run_id)).status is WorkerStatus.RUNNING
        answer = execute_dagster_graphql(webserver.create_request_context(), _TERMINATE, {"id": run_id})
    assert answer.data["terminateRun"]["__typename"] == "TerminateRunSuccess"
    assert small.done(run_id).status is DagsterRunStatus.CANCELED
    wait_until(lambda: is_gone(pid))


@pytest.mark.broad
@pytest.mark.parametrize("kind", ["long", "short", "many", "aside"])
def test_a_run_is_terminated_during_every_kind_of_query(small: Small, database: Database, kind: str) -> None:
    with database.transaction() as transaction:
        transaction.execute("CREATE TABLE half (one int)")
    run_id, pid = small.at_work(f"work {kind} {database.url}")
    wait_until(lambda: statements_of(database))
    with small.elsewhere() as webserver:
        assert webserver.run_launcher.terminate(run_id)
    assert small.done(run_id).status is DagsterRunStatus.CANCELED, small.said(run_id)
    assert not any("was killed" in message for message in small.said(run_id))
    wait_until(lambda: is_gone(pid))
    wait_until(lambda: not statements_of(database))
    with database.transaction() as transaction:
        # Each transaction is complete or has no effect.
        assert kind in {"short", "many"} or transaction.query("SELECT count(*) FROM half").item() == 0
    assert small.succeed()[0] != pid


def statements_of(database: Database) -> int:
    """Return how many statements other sessions execute in the database."""
    with closing(psycopg2.connect(database.url)) as own, own.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' "
            "AND pid <> pg_backend_pid()"
        )
        (count,) = cursor.fetchone() or (0,)
        return int(count)


@pytest.mark.broad
def test_a_process_that_does_not_end_when_its_run_is_canceled_is_killed(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "_CANCEL_SECONDS", 2.0)
    run_id, pid = small.at_work("cling")
    assert small.launcher.terminate(run_id)
    assert small.done(run_id).status is DagsterRunStatus.CANCELED
    wait_until(lambda: is_gone(pid))
    assert any("it did not end within 2 s when it was canceled, and was killed" in text for text in small.said(run_id))
    assert small.succeed()[0] != pid


def test_the_run_of_a_killed_process_fails_at_once(small: Small) -> None:
    run_id, pid = small.at_work()
    os.kill(pid, signal.SIGKILL)
    assert small.done(run_id).status is DagsterRunStatus.FAILURE
    assert any("The process of this run is gone: it ended by SIGKILL" in message for message in small.said(run_id))


def given_to(small: Small, holder: Callable[[str], Holder]) -> str:
    """Return the id of a run that has begun and belongs to the process of `holder`."""
    run = small.instance.create_run_for_job(job_of(small), status=DagsterRunStatus.STARTED)
    small.instance.add_run_tags(run.run_id, holder(run.run_id).tags())
    return run.run_id


def test_the_daemon_notices_and_terminates_a_run_whose_process_and_owner_have_ended(small: Small) -> None:
    run_id = given_to(small, lambda run: Holder(run, socket.gethostname(), os.getpid(), 1))
    with small.elsewhere() as daemon:
        assert daemon.run_launcher.supports_check_run_worker_health
        health = daemon.run_launcher.check_run_worker_health(small.run(run_id))
        assert health.status is WorkerStatus.FAILED
        assert daemon.run_launcher.terminate(run_id)
        assert small.run(run_id).status is DagsterRunStatus.CANCELED
        assert not daemon.run_launcher.terminate(run_id)


def test_a_run_of_another_machine_is_not_terminated_and_its_log_says_so(small: Small) -> None:
    run_id = given_to(small, lambda run: Holder(run, "elsewhere", os.getpid(), 1))
    assert small.launcher.check_run_worker_health(small.run(run_id)).status is WorkerStatus.RUNNING
    assert not small.launcher.terminate(run_id)
    assert any("The run is on elsewhere" in message for message in small.said(run_id))


def test_a_code_location_in_a_container_is_refused(small: Small) -> None:
    pointer = ModuleCodePointer(small.module, "defs", str(small.folder))
    origin = RepositoryPythonOrigin(sys.executable, pointer, container_image="image")
    with pytest.raises(Unavailable, match="its code location there runs in a container"):
        small.launcher.prepare(origin, "there")


def test_an_interpreter_without_the_package_is_named(small: Small) -> None:
    origin = RepositoryPythonOrigin("/bin/false", ModuleCodePointer(small.module, "defs", str(small.folder)))
    with pytest.raises(Unavailable, match="/bin/false ended with exit code 1 and gave no reason: ema-assets has to be"):
        small.launcher.prepare(origin, "there")


def test_the_next_run_uses_changed_code_and_a_changed_watchlist(small: Small) -> None:
    pid, _ = small.succeed()
    small.write("version 1", "version 2")
    run_id = small.launch()
    assert small.done(run_id).status is DagsterRunStatus.SUCCESS
    assert any("has seen 1, version 2" in message for message in small.said(run_id))
    assert is_gone(pid)
    small.write("version 2", "version 1")
    (small.folder / "watchlist.toml").write_text("# another one\n")
    assert small.succeed()[1] == 1


def launched_the_old_way(small: Small) -> tuple[str, str]:
    """Launch a run that no standby process takes. Return its id and the reason that its log gives."""
    run_id = small.launch()
    assert small.done(run_id).status is DagsterRunStatus.SUCCESS, small.said(run_id)
    (why,) = [message for message in small.said(run_id) if "no standby process takes it" in message]
    return run_id, why


def kill_all(small: Small) -> pools.Pool:
    """Kill all standby processes. Return their pool once it has noticed."""
    for pid in small.pids:
        os.kill(pid, signal.SIGKILL)
    pool = small.launcher._pool
    assert pool is not None
    wait_until(lambda: small.pids == [])
    return pool


def test_a_run_of_another_code_location_starts_in_a_new_process(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = small.pids
    monkeypatch.setattr(small.launcher, "_options", small.launcher._options.__class__(module="another"))
    run_id, why = launched_the_old_way(small)
    assert small.process_of(run_id)[0] not in pool
    assert why.endswith("its code location small_location is not another.")
    assert small.launcher.check_run_worker_health(small.run(run_id)).status is WorkerStatus.RUNNING


@pytest.mark.broad
def test_a_run_starts_without_a_standby_process_while_standby_processes_cannot_start(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.succeed()
    monkeypatch.setenv("SMALL_IS_BROKEN", "1")
    pool = kill_all(small)
    monkeypatch.setattr(pool, "_paused_until", 0.0)
    run_id, why = launched_the_old_way(small)
    assert why.endswith("broken on request; did you mean it?")
    assert small.run(run_id).tags[TAG] == ""
    monkeypatch.setattr(pool, "_paused_until", 0.0)
    monkeypatch.delenv("SMALL_IS_BROKEN")
    assert small.succeed()[1] == 1


@pytest.mark.broad
def test_an_automatic_run_is_canceled_while_the_configuration_is_wrong(
    small: Small, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A person's run starts in a new process, which shows the error."""
    small.succeed()
    monkeypatch.setenv("SMALL_IS_WRONG", "1")
    # Longer than all this takes, also on a busy machine.
    monkeypatch.setattr(pools, "_FIRST_PAUSE_SECONDS", 300.0)
    pool = kill_all(small)
    # The second run is launched during the pause after the failure of the first one.
    for tag in (SCHEDULE_NAME_TAG, SENSOR_NAME_TAG):
        run_id = small.launch(**{tag: "closes"})
        assert small.done(run_id).status is DagsterRunStatus.CANCELED
        assert small.said(run_id)[-1] == (
            "Nothing runs while this is wrong, and what is stale is taken up once it is repaired: no such column; did "
            "you mean it?"
        )
    _, why = launched_the_old_way(small)
    assert why.endswith("no standby process takes it: WrongConfiguration: no such column; did you mean it?")
    assert pool._paused_until > time.monotonic()
    assert "Fatal Python error" not in capfd.readouterr().err
    monkeypatch.delenv("SMALL_IS_WRONG")
    assert small.succeed()[1] == 1
    pool._paused_until = 0.0


@pytest.mark.broad
def test_a_process_that_would_use_other_data_than_the_code_location_takes_no_run(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens when code server and daemon were started with different variables."""
    small.succeed()
    monkeypatch.setenv("SMALL_DATABASE", "another")
    pool = kill_all(small)
    run_id, why = launched_the_old_way(small)
    assert why.endswith(
        "the code location has the database one, and with the variables of Dagster's daemon it is another; "
        "give both the same."
    )
    monkeypatch.setattr(pool, "_paused_until", 0.0)
    monkeypatch.delenv("SMALL_DATABASE")
    assert small.succeed()[1] == 1


_OWNER = """
import sys, time
from dagster import DagsterInstance
from dagster._core.launcher import LaunchRunContext
with DagsterInstance.get() as instance:
    run = instance.get_run_by_id(sys.argv[1])
    instance.run_launcher.launch_run(LaunchRunContext(run, None))
    time.sleep(600)
"""


@pytest.mark.broad
def test_a_process_ends_when_its_owner_is_killed_and_its_run_fails(small: Small, tmp_path: Path) -> None:
    pointer = ModuleCodePointer(small.module, "defs", str(small.folder))
    run = small.instance.create_run_for_job(
        job_of(small),
        tags={"act": "wait"},
        job_code_origin=JobPythonOrigin("small", RepositoryPythonOrigin(sys.executable, pointer)),
        status=DagsterRunStatus.STARTING,
    )
    env = {**os.environ, "DAGSTER_HOME": str(small.home)}
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, run.run_id], env=env, cwd=tmp_path)
    try:
        wait_until(lambda: any("has seen" in message for message in small.said(run.run_id)))
    finally:
        owner.kill()
        owner.wait()
    pid, _ = small.process_of(run.run_id)
    wait_until(lambda: is_gone(pid))
    assert small.run(run.run_id).status is DagsterRunStatus.FAILURE


def test_no_process_is_left_after_the_launcher_was_disposed(small: Small) -> None:
    """This must be the last test, because no pool exists after it."""
    small.succeed()
    pids = small.pids
    assert pids
    small.launcher.dispose()
    wait_until(lambda: all(is_gone(pid) for pid in pids))
