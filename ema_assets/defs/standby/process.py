"""One standby process as its owner sees it: started, told, heard, ended. Which run it gets is the pool's business."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ema_assets.config.settings import DAGSTER_EVENT_VARIABLES
from ema_assets.defs.standby import protocol
from ema_assets.defs.standby.protocol import Load, ToOwner, ToProcess
from ema_assets.defs.standby.tag import CANCEL


@dataclass(frozen=True, slots=True)
class Location:
    """A code location: interpreter, name, module and folder, and Dagster's own description of it, serialized.

    `works_with` is what it has stated about its data, as pairs of name and value.
    """

    executable: str
    name: str | None
    module: str
    working_directory: str | None
    origin: str
    works_with: tuple[tuple[str, str], ...] = ()


class StandbyProcess:
    """A process, started by the constructor. A thread calls `heard` with each of its messages, and `ended` once.

    The pool keeps its view of the process in the fields below, under the pool's lock.
    """

    def __init__(
        self,
        location: Location,
        load: Load,
        heard: Callable[["StandbyProcess", ToOwner], None],
        ended: Callable[["StandbyProcess"], None],
    ) -> None:
        self.location = location
        self.run_id: str | None = None  # the run that it has, or gets once it is ready
        self.is_tagged = False  # the run's tag names this process
        self.is_told = False  # it was told to execute the run
        self.is_ready = False
        self.has_worked = False  # it was given this run or an earlier one
        self.leaves: str | None = None  # why it gets no further run
        self.has_ended = False
        self.canceling_since: float | None = None  # when its run was interrupted
        self.failure: str | None = None  # why it could not load, or was killed
        self.since = time.monotonic()  # when it was started, became idle, or was told to leave
        # Its own session: Ctrl-C in a terminal is for the owner, whose end the process notices.
        reading, writing = os.pipe()
        # The signal would end it. Blocked signals are inherited, and wait until the process asks for them.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [CANCEL])
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - this package's own module
                [location.executable, "-m", "ema_assets.defs.standby.worker", str(writing)],
                stdin=subprocess.PIPE,
                pass_fds=(writing,),
                env={**DAGSTER_EVENT_VARIABLES, **os.environ},
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        self.pid = self._popen.pid
        self.tell(load)
        threading.Thread(
            target=self._listen, args=(reading, heard, ended), name=f"standby {self.pid}", daemon=True
        ).start()

    @property
    def is_free(self) -> bool:
        """Whether it has no run and may get one."""
        return self.run_id is None and self.leaves is None and not self.has_ended

    def tell(self, message: ToProcess) -> None:
        """Send it a message. If it is dead, its end is noticed elsewhere."""
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._popen.stdin.write(protocol.line(message))
            self._popen.stdin.flush()

    def leave(self, reason: str) -> None:
        """Make it end: at once when it has no run, otherwise some seconds later."""
        self.leaves, self.since = reason, time.monotonic()
        self._hang_up()

    def kill(self) -> None:
        """Kill it now."""
        self._popen.kill()

    def how_it_ended(self) -> str:
        """Return how it ended: the reason that it gave, its signal or its exit code."""
        code = self._popen.returncode
        if self.failure is not None:
            return self.failure
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"it ended by {signal.Signals(-code).name}"
        if not self.is_ready:
            # Once it can send messages, it reports itself what it cannot load.
            return (
                f"{self.location.executable} ended with exit code {code} and gave no reason: ema-assets has to be "
                "installed there; the log of Dagster's daemon has what it printed"
            )
        return f"it ended with exit code {code}"

    def _hang_up(self) -> None:
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):
            self._popen.stdin.close()

    def _listen(
        self,
        reading: int,
        heard: Callable[["StandbyProcess", ToOwner], None],
        ended: Callable[["StandbyProcess"], None],
    ) -> None:
        with os.fdopen(reading, "rb") as lines:
            for text in lines:
                # A process that was killed while it wrote has left a part of a message.
                if text.endswith(b"\n"):
                    heard(self, protocol.for_owner(text))
        self._popen.wait()
        self._hang_up()
        ended(self)
