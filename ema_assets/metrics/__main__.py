"""The process that serves metrics: `python -m ema_assets.metrics HOST PORT NAME…`. `ema-assets metrics` becomes it."""

import errno
import os
import signal
import sys
from functools import partial
from typing import Never

from ema_assets.config.settings import DAGSTER_EVENT_VARIABLES, Settings
from ema_assets.metrics.exposition import Exporter
from ema_assets.metrics.serving import Place, serve
from ema_assets.runtime import locate, log_lines


def main(place: Place) -> None:
    """Serve at `place` until Ctrl-C or SIGTERM."""
    # A signal without a handler does not end the first process of a container.
    signal.signal(signal.SIGTERM, _end)
    settings = Settings.from_env()
    os.environ.setdefault("DAGSTER_HOME", str(settings.dagster_home))
    for name, value in DAGSTER_EVENT_VARIABLES.items():
        os.environ.setdefault(name, value)
    from ema_assets.defs.run_queue import RunQueue

    locate.take_no_leases()
    log_lines.configure(settings.log_format)
    say = log_lines.speaker(settings.log_format, partial(print, flush=True), "ema_assets.metrics")
    serve(place, Exporter(settings, RunQueue()), lambda url: say(f"Metrics on {url}."))


def _end(*_: object) -> Never:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)
    sys.exit(0)  # a process that the signal has not ended


def _why_not(place: Place, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {place.port} on {place.host} is in use; choose another with `ema-assets metrics --port`, or set "
            "EMA_METRICS_PORT"
        )
    return f"metrics cannot be served on {place.host}, port {place.port}: {error.strerror or error}"


if __name__ == "__main__":
    host, port, *names = sys.argv[1:]
    place = Place(host, int(port), frozenset(names))
    try:
        main(place)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"Error: {_why_not(place, error)}")
