"""Which kinds of alerts there are: the modules of `alerts.kinds`."""

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType

from ema_assets.alerts import kinds
from ema_assets.alerts.declaration import Kind, SeriesKind, TroubleKind
from ema_assets.model.declarations import problem_with_identifier


@cache
def discover() -> Mapping[str, Kind]:
    """Return every kind by name: those about bars first, each sort sorted by name.

    Raises:
        TypeError: when a module declares no `KIND`, a taken name, or a parameter that another kind declares
            differently.
    """
    found: dict[str, Kind] = {}
    params: dict[str, object] = {}
    for module in pkgutil.iter_modules(kinds.__path__):
        kind = getattr(import_module(f"{kinds.__name__}.{module.name}"), "KIND", None)
        if not isinstance(kind, SeriesKind | TroubleKind):
            raise TypeError(f"{kinds.__name__}.{module.name} must declare `KIND`, a SeriesKind or a TroubleKind")
        if kind.name in found or problem_with_identifier("`name`", kind.name):
            raise TypeError(f"{kinds.__name__}.{module.name}: {kind.name!r} is no name, or another kind has it")
        for name, param in kind.params.items():
            # A subscription to several kinds sets a parameter once.
            if params.setdefault(name, param) != param:
                raise TypeError(f"{kinds.__name__}.{module.name}: another kind declares `{name}` in another way")
        found[kind.name] = kind
    ordered = sorted(found.values(), key=lambda kind: (isinstance(kind, TroubleKind), kind.name))
    return MappingProxyType({kind.name: kind for kind in ordered})
