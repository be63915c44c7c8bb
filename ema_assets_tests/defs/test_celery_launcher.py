"""Tests of runs on several hosts with Celery: the queue of a run, its priority, its worker and its termination."""

import importlib
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging
from dagster import DagsterEvent, DagsterInstance, DagsterRun, DagsterRunStatus, instance_for_test, job, op
from dagster._core.code_pointer import FileCodePointer, ModuleCodePointer
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import deserialize_value, pack_value, unpack_value

from ema_assets.defs import celery_runs
from ema_assets.defs.celery_launcher import LaneRunLauncher
from ema_assets.defs.celery_queues import tags_of
from ema_assets.defs.lost_runs import session_name
from ema_assets.defs.resources import StoreResource
from ema_assets.defs.run_coordinator import LaneRunCoordinator
from ema_assets.store import worker_sessions
from ema_assets_tests.defs.conftest import World
from ema_assets_tests.waiting import wait_until

RABBITMQ, REDIS = "pyamqp://broker//", "rediss://broker/0"


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the signals that earlier tests have loaded in this process."""
    monkeypatch.setattr(celery_runs, "_loaded", [])


@op
def nothing() -> None: ...


@job
def some_job() -> None:
    nothing()


def a_run(instance: DagsterInstance, status: DagsterRunStatus, **tags: str) -> DagsterRun:
    return a_run_of(None, instance, status, **tags)


def a_run_of(
    origin: JobPythonOrigin | None, instance: DagsterInstance, status: DagsterRunStatus, **tags: str
) -> DagsterRun:
    """Create a run whose code a worker loads from `origin`."""
    named = {name.replace("__", "/"): value for name, value in tags.items()}
    return instance.create_run_for_job(some_job, status=status, tags=named, job_code_origin=origin)


class Revoked(list[tuple[str, bool]]):
    """The tasks that a broker was requested to revoke, and whether their processes are terminated."""

    def revoke(self, task: str, *, terminate: bool) -> None:
        self.append((task, terminate))


def launcher_of(instance: DagsterInstance) -> LaneRunLauncher:
    """Return a launcher whose broker is in this process."""
    launcher = LaneRunLauncher(default_queue="dagster", broker="memory://")
    launcher.register_instance(instance)
    return launcher


@pytest.mark.parametrize(
    ("tags", "queue", "of_rabbitmq"),
    [
        ({"ema_assets/lane": "live", "dagster/priority": "0"}, "live", "9"),
        ({"ema_assets/lane": "live", "dagster/priority": "-3"}, "live", "6"),
        ({"ema_assets/lane": "background", "dagster/priority": "-15"}, "slow", "6"),
        ({"ema_assets/lane": "background", "dagster/priority": "-45"}, "slow", "0"),
        ({}, "slow", "9"),
        ({"dagster/priority": "soon"}, "slow", "9"),
        ({"ema_assets/lane": "live", "dagster-celery/queue": "mine"}, "mine", "9"),
        ({"dagster-celery/run_priority": "2"}, "slow", "2"),
    ],
)
def test_the_tags_of_a_run_name_the_queue_of_its_lane_and_its_priority_for_the_broker(
    tags: dict[str, str], queue: str, of_rabbitmq: str
) -> None:
    assert tags_of(tags, RABBITMQ) == {"dagster-celery/queue": queue, "dagster-celery/run_priority": of_rabbitmq}
    # Redis delivers the lowest number first. A priority that the user has set remains unchanged.
    said = "dagster-celery/run_priority" in tags
    of_redis = of_rabbitmq if said else str(9 - int(of_rabbitmq))
    assert tags_of(tags, REDIS)["dagster-celery/run_priority"] == of_redis


LOCATION = """
from dagster import Definitions, in_process_executor, job, op

@op
def nothing() -> None: ...

@job(executor_def=in_process_executor)
def some_job() -> None:
    nothing()

defs = Definitions(jobs=[some_job])
"""


@contextmanager
def at_work(app: Any, queues: str) -> Iterator[None]:
    """Run a worker in a thread of this process, without changing the logging of this process."""

    def leave(**_: object) -> None: ...

    setup_logging.connect(leave, weak=False)
    try:
        with start_worker(app, pool="solo", queues=queues, perform_ping_check=False):
            yield
    finally:
        setup_logging.disconnect(leave)


# In production, launcher and worker are two processes, and each registers the task.
@pytest.mark.broad
@pytest.mark.filterwarnings("ignore:Task name 'execute_job' is already registered")
def test_a_worker_executes_the_runs_of_its_queue_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMA_CELERY_BROKER", "memory://")
    monkeypatch.setenv("EMA_WATCHLIST", str(tmp_path / "watchlist.toml"))
    monkeypatch.delitem(sys.modules, "ema_assets.defs.celery_worker", raising=False)
    app = importlib.import_module("ema_assets.defs.celery_worker").app
    # The worker leaves the output of runs unchanged, such as lines of JSON.
    assert not app.conf.worker_redirect_stdouts
    (tmp_path / "location.py").write_text(LOCATION)
    pointer = FileCodePointer(str(tmp_path / "location.py"), "defs")
    origin = JobPythonOrigin("some_job", RepositoryPythonOrigin(sys.executable, pointer))
    with instance_for_test() as instance:
        launcher = launcher_of(instance)

        def launched(**tags: str) -> str:
            run = a_run_of(origin, instance, DagsterRunStatus.STARTING, **tags)
            launcher.launch_run(LaunchRunContext(run, None))
            return run.run_id

        def status(run_id: str) -> DagsterRunStatus:
            return instance.get_run_by_id(run_id).status

        slow, live = launched(), launched(ema_assets__lane="live", other="kept")
        with at_work(app, "live"):
            wait_until(lambda: status(live) is DagsterRunStatus.SUCCESS, "the live run")
            assert status(slow) is DagsterRunStatus.STARTING
        with at_work(app, "slow"):
            wait_until(lambda: status(slow) is DagsterRunStatus.SUCCESS, "the slow run")
        tags = instance.get_run_by_id(live).tags
        assert tags["other"] == "kept"
        assert tags["dagster-celery/task_id"]


@pytest.mark.filterwarnings("ignore:Task name 'execute_job' is already registered")
def test_tasks_are_published_without_a_request_for_their_result() -> None:
    origin = JobPythonOrigin("some_job", RepositoryPythonOrigin(sys.executable, FileCodePointer("here.py", "defs")))
    with instance_for_test() as instance:
        launcher = launcher_of(instance)
        run = a_run_of(origin, instance, DagsterRunStatus.STARTING, **{"dagster-celery__queue": "unread"})
        launcher.launch_run(LaunchRunContext(run, None))
        with launcher.celery.connection() as connection, connection.channel() as channel:
            message = channel.basic_get("unread", no_ack=True)
    assert message.headers["ignore_result"] is True


def test_a_stopped_run_is_canceling_and_its_task_is_revoked(monkeypatch: pytest.MonkeyPatch) -> None:
    with DagsterInstance.ephemeral() as instance:
        launcher, revoked = launcher_of(instance), Revoked()
        monkeypatch.setattr(launcher.celery, "control", revoked)
        begun = a_run(instance, DagsterRunStatus.STARTED, **{"dagster-celery__task_id": "task-1"})
        assert launcher.terminate(begun.run_id) is True
        assert revoked == [("task-1", True)]
        # A run that was not handed to the broker yet has no task.
        early = a_run(instance, DagsterRunStatus.STARTING)
        assert launcher.terminate(early.run_id) is True
        over = a_run(instance, DagsterRunStatus.SUCCESS)
        assert launcher.terminate(over.run_id) is False
        assert launcher.terminate("unknown") is False
        assert [instance.get_run_by_id(run.run_id).status for run in (begun, early, over)] == [
            DagsterRunStatus.CANCELING,
            DagsterRunStatus.CANCELING,
            DagsterRunStatus.SUCCESS,
        ]
        assert revoked == [("task-1", True)]


def test_a_started_run_counts_as_running_and_its_debug_info_names_the_task_and_the_queue() -> None:
    with DagsterInstance.ephemeral() as instance:
        launcher = launcher_of(instance)
        run = a_run(
            instance, DagsterRunStatus.STARTED, ema_assets__lane="live", **{"dagster-celery__task_id": "task-1"}
        )
        assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
        assert launcher.get_run_worker_debug_info(run).startswith("No worker has begun task task-1 of the queue `live`")


def a_queued_run(instance: DagsterInstance) -> DagsterRun:
    """Return a run in the queue of Dagster's daemon."""
    location = RegisteredCodeLocationOrigin("here")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "repository"), "some_job")
    code = JobPythonOrigin("some_job", RepositoryPythonOrigin(sys.executable, ModuleCodePointer("here", "defs")))
    run = instance.create_run_for_job(some_job, remote_job_origin=origin, job_code_origin=code)
    instance.report_dagster_event(DagsterEvent.job_enqueue(run), run.run_id)
    return run


@pytest.mark.broad
def test_a_run_stays_queued_while_the_broker_does_not_answer_and_fails_without_its_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dagster fails a run that cannot be launched. A backfill would end before the broker answers again."""
    config = {"broker": "pyamqp://guest:secret@127.0.0.1:9//", "config_source": {"task_publish_retry": False}}
    overrides = {
        "run_launcher": {"module": LaneRunLauncher.__module__, "class": LaneRunLauncher.__name__, "config": config},
        "run_coordinator": {"module": LaneRunCoordinator.__module__, "class": LaneRunCoordinator.__name__},
    }

    def status_after_a_try(instance: DagsterInstance) -> DagsterRunStatus:
        with (
            WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as workspace,
            QueuedRunCoordinatorDaemon(1) as it,
        ):
            list(it.run_iteration(workspace))
        return instance.get_run_by_id(run.run_id).status

    with instance_for_test(overrides) as instance:
        run = a_queued_run(instance)
        assert status_after_a_try(instance) is DagsterRunStatus.QUEUED
        said = "".join(map(str, instance.all_logs(run.run_id)))
        assert "the broker of Celery does not answer: " in said
        assert "secret" not in said
    # A run fails when this host lacks the package for its broker. The error says what to install.
    config["broker"] = "redis://127.0.0.1:9/0"
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "redis" else find(name, *more))
    with instance_for_test(overrides) as instance:
        run = a_queued_run(instance)
        assert status_after_a_try(instance) is DagsterRunStatus.FAILURE
        assert "is a Redis, which needs a package: pip install" in "".join(map(str, instance.all_logs(run.run_id)))


def test_a_run_without_a_lane_gets_the_background_lane() -> None:
    with DagsterInstance.ephemeral() as instance:
        coordinator = LaneRunCoordinator(max_concurrent_runs=4)
        coordinator.register_instance(instance)
        for given, expected in (({}, "background"), ({"ema_assets__lane": "live"}, "live")):
            # The run has started already, so Dagster's own `submit_run` has nothing to do.
            run = a_run(instance, DagsterRunStatus.STARTED, **given)
            queued = coordinator.submit_run(SubmitRunContext(run, cast("Any", None)))
            assert queued.tags["ema_assets/lane"] == expected
            assert instance.get_run_by_id(run.run_id).tags["ema_assets/lane"] == expected


def test_a_worker_is_outdated_when_the_configured_signals_differ_from_the_loaded_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "watchlist.toml"
    monkeypatch.setenv("EMA_WATCHLIST", str(path))
    path.write_text("timeframes = 5\n")
    # The file is invalid. The run reports that when it loads the file.
    assert celery_runs.is_outdated() is False
    text = '[[group]]\ncalendar = "24/7"\nsymbols = ["BTC-USD"]\n'
    path.write_text(text)
    assert celery_runs.is_outdated() is False
    path.write_text(text.replace("BTC", "ETH"))
    assert celery_runs.is_outdated() is False
    path.write_text(f'[signals]\noff = ["rsi"]\n{text}')
    assert celery_runs.is_outdated() is True
    path.write_text(text)
    assert celery_runs.is_outdated() is False


@pytest.mark.filterwarnings("ignore:Task name 'execute_job' is already registered")
def test_the_session_of_a_worker_loses_the_name_of_a_run_that_has_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a run whose end could not be stored would look alive for as long as its worker lives."""
    monkeypatch.setenv("EMA_CELERY_BROKER", "memory://")
    monkeypatch.delitem(sys.modules, "ema_assets.defs.celery_worker", raising=False)
    task = importlib.import_module("ema_assets.defs.celery_worker").execute_job
    seen = []

    def run(**_: Any) -> None:
        store = StoreResource()
        store._session_name = session_name("one")
        with store.open() as database, database.transaction() as transaction:
            seen.append(worker_sessions.living(transaction, [session_name("one")]))
        raise OSError("the disk is full")

    monkeypatch.setattr(task, "run", run)
    with pytest.raises(OSError, match="the disk is full"):
        task()
    with world.database.transaction() as transaction:
        assert seen == [{session_name("one")}]
        assert worker_sessions.living(transaction, [session_name("one")]) == set()


@pytest.mark.filterwarnings("ignore:Task name 'execute_job' is already registered")
@pytest.mark.parametrize("outdated", [True, False])
def test_an_outdated_worker_executes_a_run_in_a_new_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outdated: bool
) -> None:
    monkeypatch.setenv("EMA_CELERY_BROKER", "memory://")
    monkeypatch.delitem(sys.modules, "ema_assets.defs.celery_worker", raising=False)
    worker = importlib.import_module("ema_assets.defs.celery_worker")
    monkeypatch.setattr(worker, "is_outdated", lambda: outdated)
    monkeypatch.setattr(worker, "execute_in_a_new_process", lambda given: ("new", given.run_id))
    monkeypatch.setattr(worker.execute_job, "run", lambda **given: ("here", unpacked(given).run_id))

    def unpacked(given: dict[str, Any]) -> ExecuteRunArgs:
        return unpack_value(given["execute_job_args_packed"], as_type=ExecuteRunArgs)

    origin = JobPythonOrigin(
        "refresh", RepositoryPythonOrigin("python", ModuleCodePointer("ema_assets.definitions", "defs"))
    )
    given = pack_value(ExecuteRunArgs(origin, "run-1", InstanceRef.from_dir(str(tmp_path)), True))
    assert worker.execute_job(execute_job_args_packed=given) == ("new" if outdated else "here", "run-1")


def new_process_of(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> int:
    """Execute a run in a new process, with `script` in place of Python, and return the exit code."""
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    origin = JobPythonOrigin(
        "refresh", RepositoryPythonOrigin("/elsewhere/python", ModuleCodePointer("ema_assets.definitions", "defs"))
    )
    return celery_runs.execute_in_a_new_process(
        ExecuteRunArgs(origin, "run-1", InstanceRef.from_dir(str(folder)), True)
    )


def test_the_new_process_uses_the_instance_of_its_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = tmp_path / "words"
    assert new_process_of(monkeypatch, tmp_path, f'printf "%s\\n" "$@" > {words}\nexit 1') == 1
    *command, given = words.read_text().splitlines()
    assert command == ["-m", "dagster", "api", "execute_run"]
    found = deserialize_value(given, ExecuteRunArgs)
    assert (found.run_id, found.instance_ref, found.set_exit_code_on_failure) == ("run-1", None, True)


@pytest.fixture
def ignored_sigterm() -> Iterator[None]:
    """Ignore SIGTERM, as the process of a worker does after Dagster has executed a run in it."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("ignored_sigterm")
def test_stopping_a_run_stops_the_new_process_that_executes_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    script = f"trap 'exit 7' TERM\ntouch {begun}\nfor each in $(seq 100); do sleep 0.1; done\n"

    def stop() -> None:
        wait_until(begun.exists, "the run to begin")
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    assert new_process_of(monkeypatch, tmp_path, script) == 7
    thread.join()


@pytest.mark.usefixtures("ignored_sigterm")
@pytest.mark.filterwarnings("ignore:Task name 'execute_job' is already registered")
def test_sigterm_has_its_default_action_at_the_beginning_and_after_the_end_of_a_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EMA_CELERY_BROKER", "memory://")
    monkeypatch.delitem(sys.modules, "ema_assets.defs.celery_worker", raising=False)
    task = importlib.import_module("ema_assets.defs.celery_worker").execute_job
    seen = []

    def run(**_: Any) -> None:
        seen.append(signal.getsignal(signal.SIGTERM))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    monkeypatch.setattr(task, "run", run)
    task()
    assert (seen, signal.getsignal(signal.SIGTERM)) == ([signal.SIG_DFL], signal.SIG_DFL)
