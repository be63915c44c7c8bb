"""What runs in a standby process: `python -m ema_assets.defs.standby.worker DESCRIPTOR`, a pipe to its owner.

It loads what its first message names, then executes one run after another, as the process that Dagster's code server
starts for each run would. It never executes a run with definitions that differ from the current files.
"""

import gc
import os
import queue
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import NoReturn

from ema_assets.defs.standby import protocol
from ema_assets.defs.standby.protocol import (
    Accepted,
    Canceling,
    Done,
    Execute,
    Failed,
    Leaving,
    Load,
    Ready,
    ToOwner,
    ToProcess,
)
from ema_assets.defs.standby.tag import CANCEL
from ema_assets.defs.standby.watch import Watch

# How often an idle process checks whether its definitions are outdated.
_LOOK_SECONDS = 10.0
# How long a run may continue after the owner has ended: until it is interrupted, and from then on.
_FINISH_SECONDS, _INTERRUPT_SECONDS = 5.0, 5.0


class _Owner:
    """Both pipes. The end of the first one ends this process, also in the middle of a run."""

    def __init__(self, writing: int) -> None:
        os.set_inheritable(writing, False)
        self._writing = writing
        self._inbox: queue.SimpleQueue[ToProcess] = queue.SimpleQueue()
        self.is_busy = False
        threading.Thread(target=self._listen, name="owner", daemon=True).start()

    def hear(self, seconds: float | None = None) -> ToProcess | None:
        """Return the next message; None when there is none for `seconds`."""
        try:
            return self._inbox.get(timeout=seconds)
        except queue.Empty:
            return None

    def tell(self, message: ToOwner) -> None:
        """Send a message. When the owner has ended, end this process."""
        try:
            os.write(self._writing, protocol.line(message))
        except OSError:
            leave(1)

    def _listen(self) -> None:
        for text in sys.stdin.buffer:
            self._inbox.put(protocol.for_process(text))
        if self.is_busy:
            time.sleep(_FINISH_SECONDS)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(_INTERRUPT_SECONDS)
        leave(0)


def leave(code: int) -> NoReturn:
    """End this process at once: threads of libraries, and exit handlers that wait for them, have nothing left to do."""
    if "ema_assets.runtime.locate" in sys.modules:
        from ema_assets.runtime.locate import give_back

        with suppress(Exception):
            give_back()
    os._exit(code)


def main(writing: int) -> None:
    """Load the code location, report that, and execute the runs that follow."""
    # The owner has blocked it: a thread waits for it, independently of what the main thread does.
    signal.pthread_sigmask(signal.SIG_BLOCK, [CANCEL])
    # Without a run, SIGINT ends the process like SIGTERM, and Dagster restores after each run what it finds here.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    owner = _Owner(writing)
    load = owner.hear()
    assert isinstance(load, Load)
    # Imported objects stay: repeated garbage collection over them takes a sixth of the time of loading.
    gc.disable()
    try:
        watch = Watch(load.module, load.working_directory)
        from ema_assets.defs.standby.execution import Executor

        executor = Executor(load, watch, lambda run_id: owner.tell(Canceling(run_id)))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the owner says it
        owner.tell(Failed(f"{type(error).__name__}: {error}"))
        # Not by SystemExit: the interpreter would abort, because a thread waits for the owner's next message.
        sys.stdout.flush()
        sys.stderr.flush()
        leave(1)
    gc.enable()
    if (reason := executor.change()) is not None:
        owner.tell(Leaving(f"{reason} while it was loaded"))
        return
    owner.tell(Ready())
    leaves, parent = None, os.getppid()
    # The pipe stays open while another process that the owner has forked holds a copy.
    while leaves is None and os.getppid() == parent:
        message = owner.hear(_LOOK_SECONDS)
        if (reason := executor.change()) is not None:
            owner.tell(Leaving(reason))
            return
        if isinstance(message, Execute):
            owner.is_busy = True
            owner.tell(Accepted(message.run_id))
            leaves = executor.execute(message.run_id)
            owner.is_busy = False
            owner.tell(Done(message.run_id, leaves))
        else:
            executor.use_idle_time()


if __name__ == "__main__":
    main(int(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    leave(0)
