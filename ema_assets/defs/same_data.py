"""Which data a code location works on, as its definitions state, and whether another process would use the same.

A code server has an environment of its own. A standby process has that of Dagster's daemon: where the two differ, its
runs would load another database, as successfully as the right one.
"""

from collections.abc import Mapping
from contextlib import suppress

from dagster import DagsterError, DagsterRun
from dagster._core.workspace.context import BaseWorkspaceRequestContext

from ema_assets.defs.namespace import Namespace
from ema_assets.providers import registry

# The beginning of the names in the definitions' metadata, which no page of the UI shows. The id of the namespace and
# the kind of entry follow.
_BEGINNING = "ema_assets/works_with/"


def works_with(namespace: Namespace) -> dict[str, str]:
    """Return metadata for definitions: database, watchlist, provider and the names of keys. None of it is secret."""
    settings = namespace.settings()
    keys = sorted(name for name in registry.secrets() if namespace.environment.get(name))
    found = {
        "database": namespace.place,
        "watchlist": str(settings.watchlist_path),
        "provider": settings.provider,
        "keys": ", ".join(keys) or "none",
    }
    return {f"{_BEGINNING}{namespace.id}/{name}": value for name, value in found.items()}


def stated(metadata: Mapping[str, object] | None) -> dict[str, str]:
    """Return what `works_with` has put into the `metadata` of a repository; empty for one that is not ours."""
    found = (metadata or {}).items()
    return {name: str(getattr(value, "value", value)) for name, value in found if name.startswith(_BEGINNING)}


def of_location(run: DagsterRun, workspace: BaseWorkspaceRequestContext | None) -> dict[str, str]:
    """Return what the code location of `run` stated when it was last loaded; empty when that is unknown."""
    origin = run.remote_job_origin
    if origin is None or workspace is None:
        return {}
    # The location cannot be reached or has failed to load: launching the run will report that.
    with suppress(DagsterError):
        location = workspace.get_code_location(origin.location_name)
        repository = location.get_repository(origin.repository_origin.repository_name)
        return stated(repository.repository_snap.metadata)
    return {}


def difference(theirs: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    """Return where this process, which states `here`, differs from the code location, which states `theirs`."""
    for name, value in theirs.items():
        if (own := here.get(name, "none")) != value:
            what = name.rpartition("/")[2]
            return (
                f"the code location has the {what} {value}, and with the variables of Dagster's daemon it is {own}; "
                "give both the same"
            )
    return None
