"""The check of dagster.yaml: where runs are recorded, and whether standby processes are used and fit into memory."""

import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from ema_assets.doctor.declaration import Check, Finding, Surroundings, error, ok, warning
from ema_assets.runtime.dagster_parts import STORAGE

LAUNCHER = ("ema_assets.defs.launcher", "StandbyRunLauncher")
CELERY_LAUNCHER = ("ema_assets.defs.celery_launcher", "LaneRunLauncher")
# Memory of a waiting process, with its kernels: docs/OPERATIONS.md.
MEGABYTES_PER_PROCESS = 300
# Where dagster.yaml may say how many runs run at a time; the first place counts. And Dagster's default without any.
_RUN_SLOTS = (("concurrency", "runs"), ("run_queue",), ("run_coordinator", "config"))
_RUNS_AT_ONCE = 10


def _look(seen: Surroundings) -> Iterator[Finding]:
    home = Path(os.environ.get("DAGSTER_HOME") or seen.settings.dagster_home)
    path = home / "dagster.yaml"
    built_in = not path.exists()
    try:
        if built_in:
            text = resources.files("ema_assets").joinpath("dagster.yaml").read_text(encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
        content = _parsed(text)
    except (OSError, ValueError) as refused:
        yield error(f"{path} cannot be read: {refused}", "correct it, or delete it: `ema-assets up` writes ours")
        return
    where = "the built-in dagster.yaml" if built_in else str(path)
    if _named(content, "storage", "custom") == STORAGE:
        yield ok(f"{where} keeps runs and events next to the bars")
    else:
        yield warning(
            f"{where} keeps runs and events elsewhere",
            "everything works, slower; `ema-assets maintain` cannot tidy there",
        )
    yield _launcher(content, where)


def _parsed(text: str) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as refused:
        raise ValueError(str(refused).replace("\n", " ")) from None
    if not isinstance(content, dict):
        raise ValueError("it is not a mapping")  # noqa: TRY004 - one kind of error for one kind of file
    return content


def _named(content: dict[str, Any], *path: str) -> tuple[Any, Any] | None:
    """Return the module and class in a section of dagster.yaml; None without such a section."""
    section = _at(content, *path)
    return (section.get("module"), section.get("class")) if isinstance(section, dict) else None


def _at(content: dict[str, Any], *path: str) -> Any:
    """Return what dagster.yaml has at `path`; None when there is nothing."""
    found: Any = content
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _run_slots(content: dict[str, Any]) -> int:
    """Return how many runs can run at a time, as the launcher counts them."""
    for place in _RUN_SLOTS:
        found = _at(content, *place, "max_concurrent_runs")
        if isinstance(found, dict):
            found = os.environ.get(str(found.get("env")))
        if found is not None:
            # A negative number is no limit: then the launcher has one process per core.
            return int(found) if int(found) > 0 else os.cpu_count() or 1
    return _RUNS_AT_ONCE


def _launcher(content: dict[str, Any], where: str) -> Finding:
    launcher = _named(content, "run_launcher")
    if launcher == CELERY_LAUNCHER:
        return ok(f"{where} hands runs to workers of Celery: `ema-assets worker` on each host that executes some")
    if launcher != LAUNCHER:
        return warning(
            f"{where} names no standby processes",
            "each run then starts a process, for 2 to 4 s of processor time; our dagster.yaml names a `run_launcher`",
        )
    import psutil

    processes = int(_at(content, "run_launcher", "config", "max_processes") or _run_slots(content))
    needed, there = processes * MEGABYTES_PER_PROCESS, psutil.virtual_memory().total // 1024**2
    text = f"up to {processes} standby processes hold about {needed:,} of {there:,} MB of memory"
    if needed > there // 2:
        return warning(text, "set `max_processes` under `run_launcher: config:` in dagster.yaml to fewer")
    return ok(text)


CHECK = Check("dagster.yaml", 90, _look)
