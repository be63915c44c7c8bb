"""Fixtures: a small code location in a server process, and a Dagster instance with our launcher."""

import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, JobDefinition, instance_for_test
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
from dagster._core.workspace.load_target import ModuleTarget

from ema_assets.defs.launcher import StandbyRunLauncher
from ema_assets.runtime import processes

T = TypeVar("T")

# A tag of the run determines what its op does.
CODE = """
import asyncio, json, logging, os, signal, sys, threading, time
from dagster import Definitions, Failure, in_process_executor, job, op

if os.environ.get("SMALL_IS_BROKEN"):
    raise RuntimeError("broken on request; did you mean it?")
if os.environ.get("SMALL_IS_WRONG"):
    from ema_assets.defs.one_sentence import WrongConfiguration
    raise WrongConfiguration("no such column; did you mean it?")

seen = []

def state():
    loggers = [logging.getLogger(), *(each for each in logging.Logger.manager.loggerDict.values() if isinstance(each, logging.Logger))]
    return {
        "threads": sorted(each.name.split("-")[0] for each in threading.enumerate()),
        "files": len(os.listdir("/proc/self/fd")),
        "children": len(open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()),
        "handlers": sum(len(each.handlers) for each in loggers),
        "environment": hash(frozenset(os.environ.items())),
        "path": len(sys.path),
        "signals": [str(signal.getsignal(each)).split(" at ")[0] for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)],
        "folder": os.getcwd(),
    }

def query(database, sql):
    with database.transaction() as transaction:
        transaction.execute("INSERT INTO half VALUES (1)")
        transaction.query(sql)

QUERIES = {
    "long": lambda database: query(database, "SELECT pg_sleep(60)::text AS nothing"),
    "short": lambda database: query(database, "SELECT 1 AS one"),
    "many": lambda database: query(database, "SELECT i::text AS i FROM generate_series(1, 1000000) AS i"),
    "aside": lambda database: asyncio.run(asyncio.to_thread(QUERIES["long"], database)),
}

def work(kind, url):
    "For a minute; whatever is no interrupt is gone over, as if a series were to blame."
    from ema_assets.store.database import Database
    deadline = time.monotonic() + 60
    with Database(url) as database:
        while time.monotonic() < deadline:
            try:
                QUERIES[kind](database)
            except Exception as error:
                print(error)

def cling():
    while True:
        try:
            time.sleep(1)
        except BaseException as error:
            print(error)

@op
def act(context):
    words = context.run.tags.get("act", "").split()
    seen.append(context.run_id)
    print("said by", context.run_id)
    context.log.info(f"process {os.getpid()} has seen {len(seen)}, version 1")
    if words[:1] == ["state"]:
        context.log.info("state " + json.dumps(state()))
    if words[:1] == ["fail"]:
        raise Failure("as asked for")
    if words[:1] == ["grow"]:
        seen.append(bytearray(int(words[1]) * 1024**2))
    if words[:1] == ["wait"]:
        for _ in range(600):
            time.sleep(0.1)
    if words[:1] == ["work"]:
        work(*words[1:])
    if words[:1] == ["cling"]:
        cling()

@job(executor_def=in_process_executor)
def small():
    act()

# As `same_data.works_with` makes it.
data = {"ema_assets/works_with//database": os.environ.get("SMALL_DATABASE", "one")}
defs = Definitions(jobs=[small], metadata=data)
"""

_LAUNCH = """
    mutation ($params: ExecutionParams!) {
        launchPipelineExecution(executionParams: $params) {
            __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
        }
    }
"""


def wait_until(found: Callable[[], T]) -> T:
    """Return the first true result of `found`. Wait for one minute at most."""
    deadline = time.monotonic() + 60
    while not (result := found()):
        assert time.monotonic() < deadline
        # Each look takes some milliseconds of processor time, mostly to read the events of a run.
        time.sleep(0.2)
    return result


class Small:
    """A code location with one job, and an instance whose launcher gives its runs to standby processes."""

    def __init__(
        self, instance: DagsterInstance, workspace: WorkspaceRequestContext, folder: Path, module: str
    ) -> None:
        self.instance = instance
        self.workspace = workspace
        self.folder = folder
        self.module = module

    @property
    def launcher(self) -> StandbyRunLauncher:
        assert isinstance(self.instance.run_launcher, StandbyRunLauncher)
        return self.instance.run_launcher

    @property
    def home(self) -> str:
        return self.instance.root_directory

    @property
    def pids(self) -> list[int]:
        return self.launcher.pids

    def launch(self, act: str = "", **more: str) -> str:
        """Launch a run, as the daemon does after it has taken the run from the queue. `more` are tags."""
        from dagster_graphql.test.utils import execute_dagster_graphql

        selector = {"repositoryLocationName": self.module, "repositoryName": "__repository__", "jobName": "small"}
        tags = [{"key": key, "value": value} for key, value in {"act": act, **more}.items()]
        answer = execute_dagster_graphql(
            self.workspace, _LAUNCH, {"params": {"selector": selector, "executionMetadata": {"tags": tags}}}
        )
        said = answer.data["launchPipelineExecution"]
        assert said["__typename"] == "LaunchRunSuccess", said
        return str(said["run"]["runId"])

    def done(self, run_id: str) -> DagsterRun:
        """Return the run once it has ended and its process is free again."""
        wait_until(lambda: self.run(run_id).is_finished)
        wait_until(lambda: self.launcher._pool is None or run_id not in self.launcher._pool.run_ids())
        return self.run(run_id)

    def succeed(self, act: str = "") -> tuple[int, int]:
        """Execute a run. Return the pid of its process and how many runs that process has seen."""
        run_id = self.launch(act)
        assert self.done(run_id).status is DagsterRunStatus.SUCCESS, self.said(run_id)
        return self.process_of(run_id)

    def run(self, run_id: str) -> DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def said(self, run_id: str) -> list[str]:
        return [entry.message for entry in self.instance.all_logs(run_id)]

    def process_of(self, run_id: str) -> tuple[int, int]:
        found = re.search(r"process (\d+) has seen (\d+)", "\n".join(self.said(run_id)))
        assert found is not None, self.said(run_id)
        return int(found[1]), int(found[2])

    def elsewhere(self) -> DagsterInstance:
        """Return the instance as another process has it, such as the webserver. Its launcher has no pool."""
        return DagsterInstance.from_ref(self.instance.get_ref())

    def write(self, old: str, new: str) -> None:
        """Change the code of the location."""
        path = self.folder / f"{self.module}.py"
        path.write_text(path.read_text().replace(old, new))

    def at_work(self, act: str = "wait") -> tuple[str, int]:
        """Return the id of a run that is in the middle of its op, and the pid of its process."""
        run_id = self.launch(act)
        wait_until(lambda: any("has seen" in message for message in self.said(run_id)))
        return run_id, self.process_of(run_id)[0]


def job_of(small: Small) -> JobDefinition:
    """Return the job of the location, loaded in this process."""
    space: dict[str, Any] = {}
    exec((small.folder / f"{small.module}.py").read_text(), space)
    found = space["defs"].resolve_job_def("small")
    assert isinstance(found, JobDefinition)
    return found


def is_gone(pid: int) -> bool:
    return processes.read(pid) is None


@contextmanager
def small_location(folder: Path, module: str, **config: Any) -> Iterator[Small]:
    """Serve the location `module` in `folder` from a process, as `dagster dev` does."""
    (folder / f"{module}.py").write_text(CODE)
    overrides = {
        "run_launcher": {
            "module": "ema_assets.defs.launcher",
            "class": "StandbyRunLauncher",
            "config": {"module": module, **config},
        },
        "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
        "telemetry": {"enabled": False},
    }
    with (
        warnings.catch_warnings(action="ignore", category=DeprecationWarning),
        instance_for_test(overrides=overrides) as instance,
        WorkspaceProcessContext(instance, ModuleTarget(module, None, str(folder), module)) as process,
    ):
        yield Small(instance, process.create_request_context(), folder, module)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    """One location for all tests of a module."""
    folder = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("EMA_HOME", str(folder / "home"))
        patched.setenv("EMA_WATCHLIST", str(folder / "watchlist.toml"))
        patched.setenv("PYTHONWARNINGS", "ignore")
        (folder / "watchlist.toml").write_text("")
        with small_location(
            folder, "small_location", spare_processes=0, max_runs_per_process=4, max_memory_megabytes=500
        ) as location:
            yield location
