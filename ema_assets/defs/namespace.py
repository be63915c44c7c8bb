"""What keeps two ema-assets in one deployment of Dagster apart: prefixes of names, and the source of settings.

When it is alone in a code location, nothing has a prefix, and the settings come from the environment.
"""

import functools
import gc
import inspect
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from dagster import AssetKey, DynamicPartitionsDefinition

from ema_assets.config.settings import Settings
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.urls import masked_url

Function = TypeVar("Function", bound=Callable[..., Any])

# In the names of jobs and steps; Dagster joins the parts of an asset's key into the name of its step in this way.
_JOINT = "__"
# The pattern for a part of a prefix. It allows no joint, so that no two prefixes make the same name.
_PART = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_RESOURCES = ("store", "market")


@dataclass(frozen=True)
class Namespace:
    """The `prefix` of every asset key and name, and `variables` that replace those of the environment.

    Raises:
        ConfigurationError: when a part of the prefix cannot begin a name.
    """

    prefix: tuple[str, ...] = ()
    # Not in the repr: some are secrets.
    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False, repr=False)
    # For a component: its folder, and which component it is in the `defs.yaml` there.
    source: tuple[Path, str] | None = None

    def __post_init__(self) -> None:
        for part in self.prefix:
            if not _PART.fullmatch(part):
                raise ConfigurationError(
                    "each part of `asset_key_prefix` must be lower-case letters and digits, with single _ between "
                    f"them, received {part!r}"
                )

    @property
    def id(self) -> str:
        """The prefix as one word; empty without a prefix."""
        return _JOINT.join(self.prefix)

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment as it is now, with the values that replace variables."""
        return {**os.environ, **self.variables} if self.variables else os.environ

    def settings(self) -> Settings:
        """Return the settings as they are now."""
        return Settings.from_env(self.environment)

    @property
    def place(self) -> str:
        """Where the data are: the server and its database, or the folder of the embedded one."""
        return _place(self.settings())

    def key(self, asset: str) -> AssetKey:
        """Return the key of the asset that is called `asset` here."""
        return AssetKey([*self.prefix, asset])

    def asset_of(self, key: AssetKey) -> str | None:
        """Return the name of the asset of `key` within this namespace; None when it belongs to another one."""
        *prefix, name = key.path
        return name if tuple(prefix) == self.prefix else None

    def name(self, name: str) -> str:
        """Return the deployment-wide name of a job, schedule, sensor, step or resource that is called `name` here."""
        return _JOINT.join((*self.prefix, name))

    @property
    def symbols(self) -> DynamicPartitionsDefinition:
        """The dynamic partitions that follow the watchlist."""
        return DynamicPartitionsDefinition(name=self.name("symbol"))

    def own_resources(self, function: Function) -> Function:
        """Return `function` of an asset, schedule or sensor, changed to request the resources of this namespace.

        Dagster identifies resources by the names of parameters; `function` uses the names within the namespace.
        """
        if not self.prefix:
            return function
        names = {self.name(each): each for each in _RESOURCES}
        renamed = {short: long for long, short in names.items()}

        def within(resources: Mapping[str, Any]) -> dict[str, Any]:
            return {names.get(name, name): value for name, value in resources.items()}

        @functools.wraps(function)
        def call(*arguments: Any, **resources: Any) -> Any:
            return function(*arguments, **within(resources))

        @functools.wraps(function)
        def generate(*arguments: Any, **resources: Any) -> Any:
            yield from function(*arguments, **within(resources))

        # Dagster treats functions and generators differently, and inspects the function itself.
        renaming: Any = generate if inspect.isgeneratorfunction(function) else call
        signature = inspect.signature(function)
        parameters = [each.replace(name=renamed.get(each.name, each.name)) for each in signature.parameters.values()]
        renaming.__signature__ = signature.replace(parameters=parameters)
        renaming.__annotations__ = {renamed.get(name, name): kind for name, kind in function.__annotations__.items()}
        return renaming  # type: ignore[no-any-return]


ALONE = Namespace()
# Per process, keyed by id. A namespace disappears with its definitions, for example after a reload.
_known: "WeakValueDictionary[str, Namespace]" = WeakValueDictionary()


def known(name: str) -> Namespace:
    """Return the namespace with the id `name` whose definitions are loaded; ALONE when there is none."""
    return _known.get(name, ALONE)


def all_known() -> list[Namespace]:
    """Those of components whose definitions are loaded, by id."""
    return sorted(_known.values(), key=lambda each: each.id)


def register(namespace: Namespace) -> None:
    """Make `namespace` known to resources, which Dagster makes from strings.

    Raises:
        ConfigurationError: when another namespace keeps its data in the same place.
    """
    mine = namespace.place
    if _others_in(mine, namespace):
        gc.collect()
    for other in _others_in(mine, namespace):
        raise ConfigurationError(
            f"`asset_key_prefix` {'/'.join(namespace.prefix)!r} and {'/'.join(other.prefix)!r} must not share one "
            "database; give each a `home` or a `database_url` of its own"
        )
    _known[namespace.id] = namespace


def refuse_second(prefix: tuple[str, ...], source: tuple[Path, str]) -> None:
    """Refuse a component from `source` whose `prefix` another one has. Dagster's own error would name only a resource.

    Raises:
        ConfigurationError: naming the other one.
    """
    found = _known.get(_JOINT.join(prefix))
    # A component whose folder was deleted was loaded before, and Dagster may keep its definitions.
    if found is None or found.source is None or found.source == source or not found.source[0].exists():
        return
    folder, number = found.source
    raise ConfigurationError(
        f"`asset_key_prefix` {'/'.join(prefix)!r} is also that of the component {number} in {folder}; give each its own"
    )


def _others_in(place: str, namespace: Namespace) -> list[Namespace]:
    return [each for each in list(_known.values()) if each.prefix != namespace.prefix and each.place == place]


def _place(settings: Settings) -> str:
    """Return where the data are: the server and its database, or the folder of the embedded one."""
    if settings.database_url is None:
        return str(settings.postgres_folder)
    parts = urlsplit(settings.database_url)
    # URLs with different users, or with and without the default port, name one database.
    with suppress(ValueError):
        if parts.hostname:
            return f"{parts.hostname}:{parts.port or 5432}{parts.path}"
    return masked_url(settings.database_url)
