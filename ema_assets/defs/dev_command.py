"""`dagster dev` with our webserver: `python -m ema_assets.defs.dev_command …`, with the options of `dagster dev`.

`dagster dev` starts the webserver and the daemon itself. The webserver is the process that strangers can reach, so it
gets no provider keys. Daemon and code server keep them because they start the processes of runs.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from dagster._cli import dev

from ema_assets.config.settings import without_provider_keys

_dev: Any = dev
_start = _dev.open_ipc_subprocess
_WEBSERVER = ["-m", "dagster_webserver"]


def start(parts: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
    """Start the process that `dagster dev` wants to start, but our webserver in place of its own."""
    command = list(parts)
    if command[1:3] == _WEBSERVER:
        command[2] = "ema_assets.defs.webserver"
        options["env"] = without_provider_keys(options.get("env", os.environ))
    process: subprocess.Popen[Any] = _start(command, **options)
    return process


def main() -> None:
    """Run until a signal arrives."""
    _dev.open_ipc_subprocess = start
    _dev.dev_command(sys.argv[1:], prog_name="dagster dev", auto_envvar_prefix="DAGSTER_CLI_DEV")


if __name__ == "__main__":
    main()
