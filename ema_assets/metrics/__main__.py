"""The process that serves metrics: `python -m ema_assets.metrics PORT`. `ema-assets metrics` becomes it."""

import errno
import os
import signal
import sys
from functools import partial
from typing import Never

from ema_assets.config.settings import DAGSTER_EVENT_VARIABLES, Settings
from ema_assets.metrics.exposition import Exporter
from ema_assets.metrics.serving import HOST, serve
from ema_assets.runtime import locate, log_lines


def main(port: int) -> None:
    """Serve on `port` of 127.0.0.1 until Ctrl-C or SIGTERM."""
    # The first process of a container is not ended by a signal that it does not handle.
    signal.signal(signal.SIGTERM, _end)
    settings = Settings.from_env()
    os.environ.setdefault("DAGSTER_HOME", str(settings.dagster_home))
    for name, value in DAGSTER_EVENT_VARIABLES.items():
        os.environ.setdefault(name, value)
    from ema_assets.defs.run_queue import RunQueue

    locate.take_no_leases()
    log_lines.configure(settings.log_format)
    say = log_lines.speaker(settings.log_format, partial(print, flush=True), "ema_assets.metrics")
    serve(port, Exporter(settings, RunQueue()), lambda taken: say(f"Metrics on http://{HOST}:{taken}/metrics."))


def _end(*_: object) -> Never:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)
    sys.exit(0)  # a process that the signal has not ended


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        sys.exit(
            f"Error: port {sys.argv[1]} on {HOST} is in use; choose another with `ema-assets metrics --port`, or set "
            "EMA_METRICS_PORT"
        )
