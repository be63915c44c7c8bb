"""Which data a code location works on, as its definitions say, and whether another process would work on the same.

A code server has an environment of its own. A standby process has that of Dagster's daemon: where the two differ, its
runs would load another database, as successfully as the right one.
"""

from collections.abc import Mapping
from contextlib import suppress

from dagster import DagsterError, DagsterRun
from dagster._core.workspace.context import BaseWorkspaceRequestContext

from ema_assets.defs.namespace import Namespace
from ema_assets.providers import registry

# Of the metadata of definitions, which no page of the UI shows; the id of the namespace, and what it is, follow.
_BEGINNING = "ema_assets/works_with/"


def works_with(namespace: Namespace) -> dict[str, str]:
    """For the metadata of definitions: database, watchlist, provider and the names of keys. None of it is a secret."""
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
    """What `works_with` has put into the `metadata` of a repository; empty for one that is not ours."""
    found = (metadata or {}).items()
    return {name: str(getattr(value, "value", value)) for name, value in found if name.startswith(_BEGINNING)}


def of_location(run: DagsterRun, workspace: BaseWorkspaceRequestContext | None) -> dict[str, str]:
    """What the code location of the `run` has stated when it was loaded last; empty where nobody knows."""
    origin = run.remote_job_origin
    if origin is None or workspace is None:
        return {}
    # One that is away or has failed to load: to launch the run will say so.
    with suppress(DagsterError):
        location = workspace.get_code_location(origin.location_name)
        repository = location.get_repository(origin.repository_origin.repository_name)
        return stated(repository.repository_snap.metadata)
    return {}


def difference(theirs: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    """In what this process, which states `here`, would not do what the code location does, which states `theirs`."""
    for name, value in theirs.items():
        if (own := here.get(name, "none")) != value:
            what = name.rpartition("/")[2]
            return (
                f"the code location has the {what} {value}, and with the variables of Dagster's daemon it is {own}; "
                "give both the same"
            )
    return None
