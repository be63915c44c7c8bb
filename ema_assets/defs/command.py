"""A command of Dagster, as `up` starts it: `python -m ema_assets.defs.command [--after SOCKET] MODULE ARGUMENTS…`.

Its imports take one CPU second. Its first look at the code location has to wait until that is loaded, which takes
longer: with `--after` it imports first and then waits for the socket of the code server.
"""

import gc
import importlib
import os
import sys
import time
from pathlib import Path

_GLANCE_SECONDS = 0.05


def main() -> None:
    """Run `MODULE.main()` as if it had been started with the arguments directly."""
    words = sys.argv[1:]
    socket = None
    if words[0] == "--after":
        socket, words = Path(words[1]), words[2:]
    parent = os.getppid()
    # Imported objects stay: repeated garbage collection over them takes a fifth of the time.
    gc.disable()
    command = importlib.import_module(words[0])
    if socket is not None:
        # Dagster's instance imports this on first use.
        importlib.import_module("ema_assets.defs.storage")
    gc.freeze()
    gc.enable()
    while socket is not None and not socket.exists():
        if os.getppid() != parent:
            return
        time.sleep(_GLANCE_SECONDS)
    sys.argv = words
    command.main()


if __name__ == "__main__":
    main()
