"""The check of `up`: whether it is running and its UI answers."""

import urllib.error
import urllib.request
from collections.abc import Iterator

from ema_assets.doctor.declaration import Check, Finding, Surroundings, error, ok, warning
from ema_assets.runtime import state

_ANSWER_SECONDS = 10.0


def _look(seen: Surroundings) -> Iterator[Finding]:
    running = seen.running
    if running is None:
        if state.is_alive(seen.settings):
            yield ok("`ema-assets up` is starting or stopping")
        else:
            yield warning("`ema-assets up` does not run here", "start it, unless Dagster runs these assets elsewhere")
        return
    try:
        with urllib.request.urlopen(f"{running.ui}/server_info", timeout=_ANSWER_SECONDS) as answer:  # noqa: S310
            answers = bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        answers = False
    text = f"`ema-assets up` runs (process {running.pid}), UI at {running.ui}"
    if answers:
        yield ok(text)
    else:
        yield error(f"{text}, which does not answer", f"see {seen.settings.logs_folder / 'dagster.log'}")


CHECK = Check("up", 110, _look)
