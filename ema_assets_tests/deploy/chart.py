"""Builds the instance that Dagster's chart makes of its values. The chart itself is not in this repository."""

from collections.abc import Mapping
from typing import Any


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two files of values as Helm does: tables are merged, and a list replaces a list."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = laid_over(under, value) if isinstance(value, dict) and isinstance(under, dict) else value
    return merged


def instance_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The `dagster.yaml` of `values`, without the settings of K8sRunLauncher, which needs a cluster."""
    daemon = values["dagsterDaemon"]
    coordinator, launcher = daemon["runCoordinator"], values["runLauncher"]
    instance: dict[str, Any] = {
        "run_monitoring": _snake(daemon["runMonitoring"]),
        "run_retries": _snake(daemon["runRetries"]),
        "schedules": _snake(daemon["schedules"]),
        "sensors": _snake(daemon["sensors"]),
        "retention": {name: _snake(values["retention"][name]) for name in ("schedule", "sensor")},
        "telemetry": values["telemetry"],
    }
    for part, module, kind in (
        ("run_storage", "run_storage", "PostgresRunStorage"),
        ("event_log_storage", "event_log", "PostgresEventLogStorage"),
        ("schedule_storage", "schedule_storage", "PostgresScheduleStorage"),
    ):
        instance[part] = {"module": f"dagster_postgres.{module}", "class": kind, "config": _database(values)}
    if coordinator["type"] == "CustomRunCoordinator":
        instance["run_coordinator"] = coordinator["config"]["customRunCoordinator"]
    else:
        config = _snake(coordinator["config"]["queuedRunCoordinator"])
        instance["run_coordinator"] = {"module": "dagster", "class": coordinator["type"], "config": config}
    if launcher["type"] == "CustomRunLauncher":
        instance["run_launcher"] = launcher["config"]["customRunLauncher"]
    return instance


def _database(values: Mapping[str, Any]) -> dict[str, Any]:
    ours = values["postgresql"]
    url = {
        "username": ours["postgresqlUsername"],
        "password": {"env": "DAGSTER_PG_PASSWORD"},
        "hostname": ours["postgresqlHost"],
        "db_name": ours["postgresqlDatabase"],
        "port": ours["service"]["port"],
        "params": {},
    }
    if scheme := ours.get("postgresqlScheme"):
        url["scheme"] = scheme
    return {"postgres_db": url}


def _snake(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert all keys to the spelling of Dagster, including the keys below `purgeAfterDays`."""
    return {
        "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key): (
            _snake(value) if isinstance(value, dict) else value
        )
        for key, value in values.items()
    }
