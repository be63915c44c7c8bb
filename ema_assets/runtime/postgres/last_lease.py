"""A small process that stops an embedded server once nobody holds a lease on it, however the last holder has ended.

A process that ends by itself stops the server. One that is ended by a signal, such as SIGTERM or the SIGHUP of a closed
terminal, cannot, and the server would run until the next process uses it. `up` needs none of this: it has a guard.

`python -S -P -m ema_assets.runtime.postgres.last_lease FOLDER PID IDENTITY` ends with the server.
"""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from ema_assets.model.errors import EmbeddedServerError
from ema_assets.runtime import lean_process, processes
from ema_assets.runtime.postgres.server_files import Files, is_leased, locked

_LOOK_SECONDS = 2.0
_FAST_SECONDS, _IMMEDIATE_SECONDS = 30.0, 10.0


def watch(folder: Path, pid: int) -> "subprocess.Popen[bytes]":
    """Start the process for the server `pid` of `folder`. Called with the folder locked."""
    arguments = (str(folder), str(pid), str(processes.identity(pid)))
    return lean_process.start("ema_assets.runtime.postgres.last_lease", *arguments)


def main(folder: Path, pid: int, identity: int) -> None:
    """Look every two seconds until the server has ended, or end it when nobody holds a lease.

    A lock on the leases that waits for the last holder would take less, but the last holder would find it and leave the
    server running.
    """
    lean_process.ignore_stop_signals()
    files = Files(folder)
    while processes.identity(pid) == identity != 0:
        # An OSError or an EmbeddedServerError, such as that of a full disk, may be over at the next look.
        with suppress(OSError, EmbeddedServerError), locked(files):
            if not is_leased(files) and processes.identity(pid) == identity:
                processes.end(pid, {signal.SIGINT: _FAST_SECONDS, signal.SIGQUIT: _IMMEDIATE_SECONDS})
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
