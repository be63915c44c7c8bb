"""The check of the environment: whether a variable has this project's prefix but is unknown."""

import os
from collections.abc import Iterable, Iterator

from ema_assets.config.settings import known_variables
from ema_assets.doctor.declaration import Check, Finding, Surroundings, ok, warning
from ema_assets.model.counts import noun
from ema_assets.model.errors import did_you_mean

# Variables read by parts that are not always installed, by processes of `up`, and by the tests.
_OTHERS = ("EMA_CELERY_BROKER", "EMA_SUPERVISOR_ID", "EMA_HYPOTHESIS")


def _look(seen: Surroundings) -> Iterator[Finding]:
    path = seen.settings.watchlist_path
    # The URL of an alert channel may be in a variable of any name, which the watchlist mentions.
    named = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    known = {*known_variables(), *_OTHERS}
    mine = sorted(name for name in os.environ.keys() - _of_services(os.environ) if name.startswith("EMA_"))
    for name in mine:
        if name not in known and f"${{{name}}}" not in named:
            yield warning(
                f"`{name}` is not a variable of ema-assets{did_you_mean(name, known)}", "unset it, or correct its name"
            )
    if ours := [name for name in mine if name in known]:
        yield ok(f"{', '.join(ours)} {noun(len(ours), 'is', 'are')} set")


def _of_services(names: Iterable[str]) -> set[str]:
    """Those of `names` that Kubernetes gives each pod for a service beside it: `ema-assets` makes EMA_ASSETS_PORT."""
    services = [name.removesuffix("_SERVICE_HOST") for name in names if name.endswith("_SERVICE_HOST")]
    return {
        name
        for name in names
        for service in services
        if name == f"{service}_PORT" or name.startswith((f"{service}_SERVICE_", f"{service}_PORT_"))
    }


CHECK = Check("variables", 5, _look)
