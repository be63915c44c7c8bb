"""Which standby process takes a run, when one is started and when one ends. Knows processes, not what a run is."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ema_assets.defs.one_sentence import WrongConfiguration
from ema_assets.defs.standby.options import Options
from ema_assets.defs.standby.process import Location, StandbyProcess
from ema_assets.defs.standby.protocol import Accepted, Canceling, Done, Execute, Failed, Leaving, Load, Ready, ToOwner

_log = logging.getLogger("dagster.ema_assets.standby")

_LOOK_SECONDS = 1.0
# A spare process is started while a core is free for it; after this time also when all cores are busy.
_PATIENCE_SECONDS = 30.0
# A process that was told to leave and has no run is killed after this time.
_LEAVE_SECONDS = 30.0
# A process that ends without a run within this time after it was ready counts as not started.
_SOUND_SECONDS = 10.0
# A run that was interrupted has this time to end before its process is killed.
_CANCEL_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = 300.0


class Unavailable(Exception):
    """No standby process can take a run now; the message says why."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The pool's callbacks to its owner, called without the pool's lock, `tag` by the thread that called `take`.

    Attributes:
        tag: called with the run's id and the process's pid, before the process may begin with the run.
        unstarted: a run that a process had taken did not begin; the second text says why.
        over: a run or its process has ended; the second text says how the process ended, or is None.
    """

    tag: Callable[[str, int], None]
    unstarted: Callable[[str, str], None]
    over: Callable[[str, str | None], None]


class Pool:
    """The standby processes of one code location. All methods may be called by any thread."""

    def __init__(self, instance: str, options: Options, max_processes: int, callbacks: Callbacks) -> None:
        self._instance = instance
        self._options = options
        self._most = max_processes
        self._tell = callbacks
        self._processes: list[StandbyProcess] = []
        self._location: Location | None = None
        self._failures = 0
        self._last_failure = ""
        self._paused_until = 0.0
        self._spare_wanted_since: float | None = None
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="standby pool", daemon=True)

    def take(self, run_id: str, location: Location) -> None:
        """Make a process execute the run: a ready one at once, a new one as soon as it is ready.

        Raises:
            Unavailable: when none can. The run has not begun, and nothing is said about it later.
        """
        with self._lock:
            if self._closed.is_set():
                raise Unavailable("the standby processes are being stopped")
            if location != self._location:
                self._retire(self._free(), "it has another code location")
                self._location, self._failures, self._paused_until = location, 0, 0.0
            process = self._choose(location)
            process.run_id, process.is_tagged, process.is_told = run_id, False, False
            if not self._keeper.is_alive():
                self._keeper.start()
        try:
            self._tell.tag(run_id, process.pid)
        except BaseException:
            # For example, the database cannot be reached. The process remains available to other runs.
            with self._lock:
                process.run_id = None
            raise
        with self._lock:
            if process.has_ended or process.leaves is not None:
                process.run_id = None
                why = process.leaves or process.how_it_ended()
                raise Unavailable(f"the standby process {process.pid} could not take it: {why}")
            process.is_tagged = True
            self._hand_over(process)

    def prepare(self, location: Location) -> None:
        """Start a process for `location` and wait until it is ready.

        Raises:
            Unavailable: when it cannot be loaded.
        """
        with self._lock:
            self._location = location
            process = self._start(location)
        while not process.is_ready:
            if process.has_ended:
                raise Unavailable(f"a standby process could not be started: {process.how_it_ended()}")
            time.sleep(0.02)

    def run_ids(self) -> list[str]:
        """Return the ids of the runs that its processes have."""
        with self._lock:
            return [process.run_id for process in self._processes if process.run_id is not None]

    def pids(self) -> list[int]:
        """Return the process ids of its living processes."""
        with self._lock:
            return [process.pid for process in self._processes]

    def close(self) -> None:
        """Make all processes end, those with a run some seconds later, without waiting for that."""
        self._closed.set()
        with self._lock:
            self._retire(self._processes, "the standby processes are being stopped")

    def _choose(self, location: Location) -> StandbyProcess:
        """Return the process for the next run: the ready one that was busy last, one that is starting, or a new one."""
        free = sorted(self._free(), key=lambda process: (process.is_ready, process.has_worked, process.since))
        if free:
            return free[-1]
        pause = self._paused_until - time.monotonic()
        # A wrong configuration is repaired at any moment, and a run may have been launched since.
        if pause > 0 and WrongConfiguration.sentence_in(self._last_failure) is None:
            raise Unavailable(
                f"standby processes cannot be started, {self._failures} in a row, and the next one is tried in "
                f"{pause:.0f} s: {self._last_failure}"
            )
        if len(self._processes) >= self._most:
            raise Unavailable(f"all {self._most} standby processes are busy")
        try:
            return self._start(location)
        except OSError as error:
            self._note_failure(str(error))
            raise Unavailable(f"a standby process could not be started: {error}") from error

    def _start(self, location: Location) -> StandbyProcess:
        load = Load(
            instance=self._instance,
            origin=location.origin,
            location=location.name,
            module=location.module,
            working_directory=location.working_directory,
            max_runs=self._options.max_runs_per_process,
            max_megabytes=self._options.max_memory_megabytes,
            works_with=dict(location.works_with),
        )
        process = StandbyProcess(location, load, self._heard, self._ended)
        self._processes.append(process)
        return process

    def _free(self) -> list[StandbyProcess]:
        return [process for process in self._processes if process.is_free]

    def _hand_over(self, process: StandbyProcess) -> None:
        if process.is_ready and process.run_id is not None and process.is_tagged and not process.is_told:
            process.is_told = process.has_worked = True
            process.tell(Execute(process.run_id))

    def _retire(self, processes: list[StandbyProcess], reason: str) -> None:
        for process in processes:
            if process.leaves is None:
                process.leave(reason)

    def _heard(self, process: StandbyProcess, message: ToOwner) -> None:
        if isinstance(message, Done):
            # The process still counts as busy, so nobody gives it a run that it would not take.
            self._report(self._tell.over, message.run_id, None)
        with self._lock:
            match message:
                case Ready():
                    process.is_ready, process.since = True, time.monotonic()
                    self._hand_over(process)
                case Failed(reason=reason):
                    process.failure = reason
                case Accepted():
                    self._failures = 0
                case Canceling(run_id=run_id):
                    if process.run_id == run_id:
                        process.canceling_since = time.monotonic()
                case Done(leaves=leaves):
                    process.run_id, process.since, process.leaves = None, time.monotonic(), leaves
                    process.canceling_since = None
                case Leaving(reason=reason):
                    # What has changed for one process has changed for all.
                    process.leaves = process.failure = reason
                    process.is_told = False
                    self._retire([each for each in self._free() if each.is_ready], reason)

    def _ended(self, process: StandbyProcess) -> None:
        with self._lock:
            process.has_ended = True
            self._processes.remove(process)
            if self._closed.is_set():
                return
            lasted = process.is_ready and time.monotonic() - process.since > _SOUND_SECONDS
            if not process.has_worked and not lasted and process.leaves is None:
                self._note_failure(process.how_it_ended())
            run_id, was_told, is_tagged = process.run_id, process.is_told, process.is_tagged
        if run_id is None or not is_tagged:
            return  # Without a tag, `take` still handles it.
        if was_told:
            self._report(self._tell.over, run_id, process.how_it_ended())
        elif process.is_ready or process.leaves is not None:
            self._take_again(run_id, process)
        else:
            self._report(self._tell.unstarted, run_id, process.how_it_ended())

    def _take_again(self, run_id: str, refused: StandbyProcess) -> None:
        """Give a run that a process refused, because its definitions are outdated, to a new process."""
        try:
            self.take(run_id, refused.location)
        except Exception as error:  # noqa: BLE001 - the thread has more to do, and nobody else reports on the run
            self._report(self._tell.unstarted, run_id, str(error))

    def _note_failure(self, reason: str) -> None:
        self._failures += 1
        pause = min(_FIRST_PAUSE_SECONDS * 2 ** (self._failures - 1), _LONGEST_PAUSE_SECONDS)
        self._paused_until, self._last_failure = time.monotonic() + pause, reason
        _log.warning("A standby process could not be started: %s. The next one is started in %g s.", reason, pause)

    def _report(self, tell: Callable[..., None], run_id: str, text: str | None) -> None:
        """Notify the owner. An error, for example without a database, must not end the thread."""
        with _logged(f"what became of run {run_id} could not be recorded"):
            tell(run_id, text)

    def _keep(self) -> None:
        while not self._closed.wait(_LOOK_SECONDS):
            with _logged("the standby processes could not be looked after"), self._lock:
                self.look(time.monotonic())

    def look(self, now: float) -> None:
        """End processes that are idle for long or were canceled in vain; start a spare.

        `now` is monotonic, in seconds.
        """
        with self._lock:
            for process in list(self._processes):
                if process.leaves is not None and process.run_id is None and now - process.since > _LEAVE_SECONDS:
                    process.kill()
                if process.canceling_since is not None and now - process.canceling_since > _CANCEL_SECONDS:
                    process.failure = (
                        f"it did not end within {_CANCEL_SECONDS:g} s when it was canceled, and was killed"
                    )
                    process.kill()
            free = sorted(self._free(), key=lambda process: process.since)
            idle = [process for process in free if process.is_ready]
            surplus = len(free) - self._options.spare_processes
            for process in idle[: max(surplus, 0)]:
                if now - process.since > self._options.idle_seconds:
                    process.leave("it is not needed any more")
            self._start_spare(now)

    def _start_spare(self, now: float) -> None:
        is_wanted = len(self._free()) < self._options.spare_processes and len(self._processes) < self._most
        if self._location is None or self._closed.is_set() or not is_wanted or now < self._paused_until:
            self._spare_wanted_since = None
            return
        if self._spare_wanted_since is None:
            self._spare_wanted_since = now
        # Loading takes a core for seconds, which running runs need more.
        at_work = [process for process in self._processes if process.run_id is not None or not process.is_ready]
        if len(at_work) < (os.cpu_count() or 1) or now - self._spare_wanted_since > _PATIENCE_SECONDS:
            try:
                self._start(self._location)
            except OSError as error:
                self._note_failure(str(error))


@contextmanager
def _logged(what: str) -> Iterator[None]:
    try:
        yield
    except Exception:  # noqa: BLE001 - it is logged, and the thread has more to do
        _log.exception("%s", what)
