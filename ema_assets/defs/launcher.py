"""The run launcher: standby processes execute runs of the product's code location, Dagster's own launcher the others.

Dagster's daemon launches runs and owns the processes. Any process may stop a run or query its health: a tag of the run
says which process has it.
"""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, DefaultRunLauncher
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.events import EngineEventData
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._core.origin import RepositoryPythonOrigin
from dagster._core.storage.tags import SCHEDULE_NAME_TAG, SENSOR_NAME_TAG
from dagster._serdes import ConfigurableClass, ConfigurableClassData, serialize_value
from dagster._utils.error import serializable_error_info_from_exc_info

from ema_assets.defs.one_sentence import WrongConfiguration
from ema_assets.defs.same_data import of_location
from ema_assets.defs.standby.options import SCHEMA, Options
from ema_assets.defs.standby.pool import Callbacks, Pool, Unavailable
from ema_assets.defs.standby.process import Location
from ema_assets.defs.standby.tag import TAG, Holder

_GONE = "What it has stored stays; its other series are still stale and are taken up by the next run."
# Tags of runs that schedules and sensors have launched.
_OF_TICKS = frozenset({SCHEDULE_NAME_TAG, SENSOR_NAME_TAG})
_WRONG = "Nothing runs while this is wrong, and what is stale is taken up once it is repaired"


class StandbyRunLauncher(RunLauncher[DagsterInstance], ConfigurableClass):
    """Hands runs to processes that have loaded everything; `run_launcher` in dagster.yaml configures it.

    A run that no standby process can take starts as with DefaultRunLauncher, and an event of the run says why.
    """

    def __init__(self, options: Options, inst_data: ConfigurableClassData | None = None) -> None:
        self._options = options
        self._inst_data = inst_data
        self._default = DefaultRunLauncher()
        self._pool: Pool | None = None
        # By run id, for runs that a process has taken: the context that is needed to launch them the other way.
        self._contexts: dict[str, LaunchRunContext] = {}
        super().__init__()  # type: ignore[no-untyped-call]

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """The data from which Dagster has made this launcher."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> Any:
        """Return the schema; see `options`."""
        return SCHEMA

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "StandbyRunLauncher":
        """Make a launcher. Called by Dagster for each of its instances; no process is started before the first run."""
        return cls(Options.of(config_value), inst_data)

    def register_instance(self, instance: DagsterInstance) -> None:
        """Register the instance here and with the default launcher. Called by the instance."""
        super().register_instance(instance)
        self._default.register_instance(instance)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Make a standby process execute the run, or have the code server start a new process."""
        run_id = context.dagster_run.run_id
        self._contexts[run_id] = context
        try:
            self._taking().take(run_id, self._location_of(context))
        except Unavailable as error:
            self._launch_otherwise(run_id, str(error))
        except BaseException:
            self._contexts.pop(run_id, None)
            raise

    def prepare(self, origin: RepositoryPythonOrigin, name: str | None = None) -> None:
        """Start a process for the code location of `origin`, called `name` by Dagster, and wait for it; for benchmarks.

        Raises:
            Unavailable: when it cannot be loaded.
        """
        self._taking().prepare(self._location(origin, name))

    @property
    def pids(self) -> list[int]:
        """The process ids of the standby processes of this launcher."""
        return self._pool.pids() if self._pool is not None else []

    def terminate(self, run_id: str) -> bool:
        """Stop the run, from any process of this machine; return False when it is over or out of reach."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        holder = Holder.of_run(run_id, run.tags)
        if holder is None:
            return bool(self._default.terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        if not holder.is_here:
            self._instance.report_engine_event(
                f"The run is on {holder.host}, whose processes cannot be stopped from here.", run, cls=type(self)
            )
            return False
        if not holder.ask_to_cancel():
            self._instance.report_run_canceled(run, f"The process of this run (pid: {holder.pid}) was gone. {_GONE}")
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True: the daemon fails runs whose process has ended."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return whether the process of the run is alive."""
        holder = Holder.of_run(run.run_id, run.tags)
        if holder is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "the code server watches over its process")
        if not holder.is_here:
            return CheckRunHealthResult(
                WorkerStatus.RUNNING, f"it is on {holder.host}, which cannot be reached from here"
            )
        if holder.lives():
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(holder.pid))
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"the standby process {holder.pid} is gone", run_worker_id=str(holder.pid)
        )

    def join(self, timeout: int = 30) -> None:
        """Wait until every run that was launched here is over.

        Raises:
            TimeoutError: when that takes more than `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while self._pool is not None and (left := self._pool.run_ids()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"these runs are not over after {timeout} s: {', '.join(left)}")
            time.sleep(0.05)
        self._default.join(timeout)  # type: ignore[no-untyped-call]

    def dispose(self) -> None:
        """End the standby processes. Called when the instance ends."""
        if self._pool is not None:
            self._pool.close()
        self._default.dispose()

    def _taking(self) -> Pool:
        if self._pool is None:
            callbacks = Callbacks(tag=self._tag, unstarted=self._launch_later, over=self._see_to)
            most = self._options.max_processes or _run_slots(self._instance)
            self._pool = Pool(serialize_value(self._instance.get_ref()), self._options, most, callbacks)
        return self._pool

    def _location_of(self, context: LaunchRunContext) -> Location:
        run = context.dagster_run
        if run.job_code_origin is None:
            raise Unavailable("it has no code location")
        name = run.remote_job_origin.location_name if run.remote_job_origin is not None else None
        found = self._location(run.job_code_origin.repository_origin, name)
        return replace(found, works_with=tuple(of_location(run, context.workspace).items()))

    def _location(self, origin: RepositoryPythonOrigin, name: str | None) -> Location:
        """Return where the definitions are.

        Raises:
            Unavailable: when they are not what standby processes load.
        """
        if origin.container_image is not None:
            raise Unavailable(f"its code location {name} runs in a container")
        pointer = origin.code_pointer
        if not isinstance(pointer, ModuleCodePointer) or pointer.module != self._options.module:
            raise Unavailable(f"its code location {name} is not {self._options.module}")
        return Location(
            executable=origin.executable_path,
            name=name,
            module=pointer.module,
            working_directory=pointer.working_directory,
            origin=serialize_value(origin),
        )

    def _tag(self, run_id: str, pid: int) -> None:
        self._instance.add_run_tags(run_id, Holder.of_process(run_id, pid).tags())

    def _launch_otherwise(self, run_id: str, reason: str) -> None:
        context = self._contexts.pop(run_id)
        run = context.dagster_run
        wrong = WrongConfiguration.sentence_in(reason)
        if wrong is not None and not _OF_TICKS.isdisjoint(run.tags):
            # No process can load it. Nobody needs to act on this run: the ticks say what is wrong.
            self._instance.report_run_canceled(run, f"{_WRONG}: {wrong}")
            return
        # An error in the watchlist may end with a question.
        why = reason if reason.endswith((".", "?")) else f"{reason}."
        self._instance.report_engine_event(
            f"A new process is started for this run, because no standby process takes it: {why}", run, cls=type(self)
        )
        # The run may have been promised to a process that could not take it.
        self._instance.add_run_tags(run_id, {TAG: ""})
        self._default.launch_run(context)

    def _launch_later(self, run_id: str, reason: str) -> None:
        """Launch the run the other way after `launch_run` has returned, and handle errors as Dagster does around it."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return
        if run.status is DagsterRunStatus.CANCELING:
            self._instance.report_run_canceled(run, "The run was canceled before it began.")
            return
        try:
            self._launch_otherwise(run_id, reason)
        except Exception:
            info = serializable_error_info_from_exc_info(sys.exc_info())
            self._instance.report_engine_event(info.message, run, EngineEventData.engine_error(info))
            self._instance.report_run_failed(run)
            raise

    def _see_to(self, run_id: str, how_it_ended: str | None) -> None:
        """Record the end of a run that its process has finished or died with, unless Dagster knows it already."""
        self._contexts.pop(run_id, None)
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return
        how = how_it_ended or "it left the run unfinished"
        message = f"The process of this run is gone: {how}. {_GONE}"
        if run.status is DagsterRunStatus.CANCELING:
            self._instance.report_run_canceled(run, message)
        else:
            self._instance.report_run_failed(run, message)


def _run_slots(instance: DagsterInstance) -> int:
    """Return how many runs can run at a time."""
    queue = instance.get_concurrency_config().run_queue_config
    most = queue.max_concurrent_runs if queue is not None else None
    return most if most is not None and most > 0 else os.cpu_count() or 1
