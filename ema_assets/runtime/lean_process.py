"""Small Python processes that outlive the one that starts them and stop what it has left behind.

Here is how they are started and how they ignore signals. `guard` and `postgres.last_lease` are what they do.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def start(module: str, *arguments: str, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
    """Start `module` of this package, in a session of its own. It can import only this package and psutil."""
    search = os.pathsep.join(
        (str(Path(__file__).resolve().parents[2]), str(Path(psutil.__file__).resolve().parents[1]))
    )
    # -S: no site-packages, -P: no current folder; it needs neither and starts in half the time and memory.
    return subprocess.Popen(  # noqa: S603 - a module of this package
        [sys.executable, "-S", "-P", "-m", module, *arguments],
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath, "PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        start_new_session=True,
    )


def ignore_stop_signals() -> None:
    """Ignore the signals that stop the process that started this one."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
