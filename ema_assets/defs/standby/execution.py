"""Loading a code location once and executing runs of it: the part of a standby process that knows Dagster."""

import gc
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil
from dagster import (
    DagsterEventType,
    DagsterExecutionInterruptedError,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    MetadataValue,
)
from dagster._core.events import EngineEventData
from dagster._core.instance.ref import InstanceRef
from dagster._core.origin import RepositoryPythonOrigin
from dagster._grpc.impl import core_execute_run
from dagster._serdes import deserialize_value
from dagster._utils.hosted_user_process import recon_job_from_origin, recon_repository_from_origin
from dagster._utils.interrupts import capture_interrupts

from ema_assets.defs.same_data import difference, stated
from ema_assets.defs.standby import mirror
from ema_assets.defs.standby.protocol import Load
from ema_assets.defs.standby.tag import CANCEL
from ema_assets.defs.standby.warm_up import make_kernels, stand_by, warm_up
from ema_assets.defs.standby.watch import Watch
from ema_assets.defs.storage import held_partitions
from ema_assets.store import interrupts

_MEGABYTE = 1024**2
# An interrupt can get lost, for example in the finalizer of an object.
_AGAIN_SECONDS = 1.0
T = TypeVar("T")


class OtherData(Exception):
    """The code location works on other data than this process would; the message says which."""


class Executor:
    """A loaded code location. Loading it raises whatever is wrong with it.

    The signal CANCEL, which must be blocked in all threads, makes it check whether its run is being canceled. If so,
    `canceling` is called with the run's id, and the run is interrupted.
    """

    def __init__(self, load: Load, watch: Watch, canceling: Callable[[str], None]) -> None:
        self._load = load
        self._canceling = canceling
        self._watch = watch
        self._ref = deserialize_value(load.instance, InstanceRef)
        origin = deserialize_value(load.origin, RepositoryPythonOrigin)
        with DagsterInstance.from_ref(self._ref) as instance:
            # As the code server does before it loads the location.
            instance.inject_env_vars(load.location)
            watch.note_configuration()
            repository = recon_repository_from_origin(origin).get_definition()
            if (reason := difference(load.works_with, stated(repository.metadata))) is not None:
                raise OtherData(reason)
            for name in repository.job_names:
                repository.get_job(name)
            # Both are made on first use.
            instance.get_runs_count()
            assert instance.compute_log_manager
        mirror.install()
        _try(warm_up)
        watch.note_imports()
        # Loaded objects stay: collecting garbage among them takes a tenth of a second in every run. A collection before
        # the first run would take a fifth, for 800 objects among 350,000.
        gc.freeze()
        self._runs = 0
        self._has_kernels = False
        self._turn = threading.Lock()
        self._current: tuple[DagsterInstance, str] | None = None
        self._is_canceled = False
        self._is_over = threading.Event()
        threading.Thread(target=self._listen, name="cancel", daemon=True).start()

    def change(self) -> str | None:
        """Return why the loaded definitions are outdated; None when they are not."""
        return self._watch.change()

    def use_idle_time(self) -> None:
        """Do once what takes seconds and no run should wait for; try again later while another process is doing it."""
        if not self._has_kernels:
            self._has_kernels = _try(make_kernels) is not False
            self._watch.note_imports()
            if self._has_kernels:
                # Making kernels has loaded 80,000 objects more. Among them, a run over 1,000 symbols would collect
                # garbage for 90 ms; without them, it takes 30 ms.
                gc.collect()
                gc.freeze()

    def execute(self, run_id: str) -> str | None:
        """Execute the run to its end, which Dagster records. Return why this process must end, or None."""
        self._runs += 1
        _forget_peak()
        began = _cpu_seconds()
        with capture_interrupts(), DagsterInstance.from_ref(self._ref) as instance:
            with self._turn:
                # A cancellation that came too late for the previous run must not cancel this one.
                self._current, self._is_canceled = (instance, run_id), False
                self._is_over.clear()
            run = instance.get_run_by_id(run_id)
            if run is not None:
                self._execute(instance, run)
            with self._turn:
                self._current = None
                self._is_over.set()
                interrupts.go_on()
            stand_by()
            leaves = self._leaves(instance, run_id)
            if run is not None:
                _record_cost(instance, run, _cpu_seconds() - began, leaves)
        return leaves

    def _execute(self, instance: DagsterInstance, run: DagsterRun) -> None:
        if run.status is DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, "The run was canceled before it began.")
            return
        pid = os.getpid()
        instance.report_engine_event(
            f"A standby process takes the run (pid: {pid}), its run number {self._runs}.",
            run,
            EngineEventData.in_process(pid),
        )
        assert run.job_code_origin is not None
        # Everything that is raised, interrupts included, is in the run's events already.
        with suppress(BaseException), held_partitions():
            job = recon_job_from_origin(run.job_code_origin)
            for event in core_execute_run(job, run, instance, inject_env_vars=False):
                if event.event_type is DagsterEventType.RUN_START and self._is_canceled:
                    # The event has overwritten the status that `terminate` has recorded.
                    instance.report_run_canceling(run)

    def _leaves(self, instance: DagsterInstance, run_id: str) -> str | None:
        run = instance.get_run_by_id(run_id)
        # An exception or an interrupt may have left the process in an unknown state.
        if run is None or run.status is not DagsterRunStatus.SUCCESS:
            return "its run did not succeed"
        if self._runs >= self._load.max_runs:
            return f"it has had {self._runs} runs"
        held = psutil.Process().memory_info().rss / _MEGABYTE
        if held > self._load.max_megabytes:
            return f"it holds {held:.0f} MB of memory"
        return None

    def _listen(self) -> None:
        while True:
            signal.sigwait([CANCEL])
            # It may fail, for example without a database; the next signal may succeed.
            _try(self._cancel)

    def _cancel(self) -> None:
        with self._turn:
            # A late cancellation must not reach the next run.
            if self._current is None:
                return
            instance, run_id = self._current
            run = instance.get_run_by_id(run_id)
            if run is None or not _is_to_be_canceled(instance, run):
                return
            self._is_canceled = True
            if run.status is DagsterRunStatus.STARTED:
                instance.report_run_canceling(run)
            self._canceling(run_id)
            main = threading.main_thread().ident
            assert main is not None
        while not self._is_over.is_set():
            with self._turn:
                if self._current != (instance, run_id):
                    return
                signal.pthread_kill(main, signal.SIGINT)
                # Fetches wait in other threads for the database, and signals do not reach these.
                interrupts.interrupt(DagsterExecutionInterruptedError)
            self._is_over.wait(_AGAIN_SECONDS)


def _is_to_be_canceled(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Return whether a cancellation was requested. A run that begins at that moment overwrites the status."""
    if run.status in (DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED):
        return True
    return bool(instance.all_logs(run.run_id, of_type=DagsterEventType.RUN_CANCELING))


def _record_cost(instance: DagsterInstance, run: DagsterRun, cpu_seconds: float, leaves: str | None) -> None:
    pid, peak = os.getpid(), _peak_megabytes()
    goes_on = f"ends, for {leaves}" if leaves else "waits for the next run"
    instance.report_engine_event(
        f"The run took {cpu_seconds:.2f} s of processor time and at most {peak:.0f} MB of memory. "
        f"Its process (pid: {pid}) {goes_on}.",
        run,
        EngineEventData(
            {
                "cpu_seconds": MetadataValue.float(round(cpu_seconds, 3)),
                "peak_megabytes": MetadataValue.float(round(peak, 1)),
            }
        ),
    )


def _cpu_seconds() -> float:
    """Return the processor time of this process and of the children that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _forget_peak() -> None:
    """Restart the peak of memory; where that is not possible, the peak is that of the process so far."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_megabytes() -> float:
    # Linux counts in kibibytes, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / _MEGABYTE


def _try(preparation: Callable[[], T]) -> T | None:
    """Prepare something; return None when that fails, because runs can do the same themselves."""
    try:
        return preparation()
    except Exception:  # noqa: BLE001 - whatever it is, runs do without
        traceback.print_exc()
        return None
