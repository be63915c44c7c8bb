"""`dagster dev` with our webserver: `python -m ema_assets.defs.dev_command …`, options as those of `dagster dev`.

`dagster dev` starts the webserver and the daemon itself. The webserver is the process that strangers can talk to: it
gets no key of a provider. Daemon and code server keep them, for they start the processes of runs.
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
    """Start what `dagster dev` wants to start, in place of its webserver ours."""
    command = list(parts)
    if command[1:3] == _WEBSERVER:
        command[2] = "ema_assets.defs.webserver"
        options["env"] = without_provider_keys(options.get("env", os.environ))
    process: subprocess.Popen[Any] = _start(command, **options)
    return process


def main() -> None:
    """Run until a signal."""
    _dev.open_ipc_subprocess = start
    _dev.dev_command(sys.argv[1:], prog_name="dagster dev", auto_envvar_prefix="DAGSTER_CLI_DEV")


if __name__ == "__main__":
    main()
