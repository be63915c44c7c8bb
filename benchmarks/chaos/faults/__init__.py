"""Every fault is one module here with a record `FAULT`; it is found by itself."""

import importlib
import pkgutil

from benchmarks.chaos.declaration import Fault


def discover() -> dict[str, Fault]:
    """All faults by name, sorted."""
    modules = sorted(found.name for found in pkgutil.iter_modules(__path__))
    faults = [importlib.import_module(f"{__name__}.{name}").FAULT for name in modules]
    return {fault.name: fault for fault in faults}
