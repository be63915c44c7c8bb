"""How many standby processes there are and how long each is used: the configuration of the launcher."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dagster import Field, Noneable

_MODULE = "ema_assets.definitions"


@dataclass(frozen=True, slots=True)
class Options:
    """The values of `run_launcher: config` in dagster.yaml."""

    module: str = _MODULE
    max_processes: int | None = None
    spare_processes: int = 1
    max_runs_per_process: int = 100
    max_memory_megabytes: int = 1024
    # Longer than from one quarter of an hour to the next, when 5m and 15m bars close together.
    idle_seconds: int = 1200

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Options":
        """Return the options of a configuration that Dagster has checked.

        Raises:
            ValueError: when a number is too small.
        """
        options = cls(**{field.name: config[field.name] for field in fields(cls) if field.name in config})
        for name, least in (("max_processes", 1), ("spare_processes", 0), ("max_runs_per_process", 1)):
            value = getattr(options, name)
            if value is not None and value < least:
                raise ValueError(f"`{name}` of the run launcher must be at least {least}, received {value}")
        return options


def _field(kind: Any, default: Any, description: str) -> Field:
    return Field(kind, is_required=False, default_value=default, description=description)


SCHEMA = {
    "module": _field(str, _MODULE, "The module of the code location whose runs standby processes take."),
    "max_processes": _field(
        Noneable(int), None, "At most this many processes, busy ones included. None: as many as there are run slots."
    ),
    "spare_processes": _field(int, 1, "This many are kept ready in addition to the busy ones, within max_processes."),
    "max_runs_per_process": _field(int, 100, "A process is replaced after this many runs."),
    "max_memory_megabytes": _field(int, 1024, "A process that holds more after a run is replaced."),
    "idle_seconds": _field(int, 1200, "A process beyond the spare ones ends after this long without a run."),
}
