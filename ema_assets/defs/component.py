"""`EmaAssetsComponent`: ema-assets within another project of `dg`, from one `defs.yaml`.

Nothing that runs is made here.

docs/GUEST.md describes the attributes. Everything else is configured by the watchlist and the environment.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomlkit
from dagster import Component, ComponentLoadContext, Definitions, Model, Resolvable, Scaffolder, ScaffoldRequest
from dagster.components import scaffold_component, scaffold_with
from pydantic import Field

from ema_assets.config import watchlist
from ema_assets.config.settings import home_folder, known_variables
from ema_assets.config.shared_files import replace_text
from ema_assets.defs.assembly import assembled
from ema_assets.defs.assets.sources import sources_in_use
from ema_assets.defs.namespace import Namespace, refuse_second, register
from ema_assets.model import clock
from ema_assets.model.errors import ConfigurationError, did_you_mean
from ema_assets.refresh.graph import configured

_WATCHLIST, _SIGNALS, _STRATEGIES = "watchlist.toml", "signals", "strategies"
# The environment variables that attributes replace.
_ATTRIBUTES = {
    "EMA_HOME": "home",
    "EMA_WATCHLIST": "watchlist",
    "EMA_SIGNALS_FOLDER": "signals",
    "EMA_STRATEGIES_FOLDER": "strategies",
    "EMA_PROVIDER": "provider",
    "EMA_DATABASE_URL": "database_url",
}


class EmaAssetsScaffolder(Scaffolder[Any]):
    """Writes a `defs.yaml` and a watchlist next to it, whose prices are synthetic until a provider is named."""

    def scaffold(self, request: ScaffoldRequest[Any]) -> None:
        """Write the files. Called by `dg scaffold defs`."""
        prefix = request.target_path.name.lower().replace("-", "_")
        watchlist.ensure(request.target_path / _WATCHLIST)
        scaffold_component(request, {"asset_key_prefix": prefix, "watchlist": _WATCHLIST})


@scaffold_with(EmaAssetsScaffolder)
class EmaAssetsComponent(Component, Model, Resolvable):
    """Bars, signals and strategies as assets with a prefix of their own, with their jobs, schedules and sensors."""

    # Dagster turns `{{ env.NAME }}` into None when there is no such variable. It is allowed here, and refused in a
    # sentence.
    asset_key_prefix: str | None = Field(
        default="",
        description="Before the name of every asset, such as `eu` or `desk/eu`; also begins the names of jobs.",
    )
    watchlist: str | dict[str, Any] | None = Field(
        default=_WATCHLIST,
        description="A file as in docs/CONFIGURATION.md, relative to this folder; or what would stand in it.",
    )
    provider: str | None = Field(default=None, description="EMA_PROVIDER: of groups that name none.")
    signals: str | None = Field(default=None, description="The folder of own signals; `signals` here if it exists.")
    strategies: str | None = Field(
        default=None, description="The folder of own strategy rules; `strategies` here if it exists."
    )
    home: str | None = Field(
        default=None, description="EMA_HOME: where the embedded PostgreSQL is; by default one per prefix."
    )
    database_url: str | None = Field(
        default=None,
        repr=False,
        description="EMA_DATABASE_URL: a database of its own, such as `{{ env.EU_DATABASE_URL }}`.",
    )
    # Dagster turns values that look like numbers into numbers when it fills in templates.
    variables: dict[str, str | int | float | None] = Field(
        default_factory=dict,
        repr=False,
        description="Further environment variables of docs/CONFIGURATION.md, for this one alone.",
    )

    def build_defs(self, context: ComponentLoadContext) -> Definitions:
        """Build the definitions. Called by Dagster; needs no database.

        Raises:
            ConfigurationError: naming what is wrong in the watchlist, the prefix or a folder.
        """
        prefix = tuple(part for part in (self.asset_key_prefix or "").split("/") if part)
        place = (context.component_path.file_path, str(context.component_path.instance_key))
        # Before anything is written: both would use the same folders.
        refuse_second(prefix, place)
        with self._in_words_of_the_file(prefix, context.path):
            namespace = Namespace(prefix, self._environment(prefix, context.path), place)
            register(namespace)
            settings = namespace.settings()
            return assembled(configured(settings), sources_in_use(settings), namespace=namespace)

    @contextmanager
    def _in_words_of_the_file(self, prefix: tuple[str, ...], folder: Path) -> Iterator[None]:
        """Let errors in the block name the attributes in `defs.yaml` instead of the variables behind them."""
        try:
            yield
        except ConfigurationError as error:
            text = str(error)
            for variable, attribute in _ATTRIBUTES.items():
                if attribute in self.model_fields_set:
                    text = text.replace(f"`{variable}`", f"`{attribute}`")
            if isinstance(self.watchlist, dict):
                text = text.replace(str(self._home(prefix, folder) / _WATCHLIST), f"{folder / 'defs.yaml'}: watchlist")
            raise ConfigurationError(text) from None

    def _check_values(self) -> None:
        """Refuse attributes without a value, and variables that are not allowed: the data would go to another place."""
        for name in ("asset_key_prefix", *_ATTRIBUTES.values()):
            value = getattr(self, name)
            if name in self.model_fields_set and (value is None or (value == "" and name != "asset_key_prefix")):
                raise ConfigurationError(
                    f"`{name}` is in defs.yaml and has no value; set the variable that it names, or leave the line out"
                )
        # All ticks and runs of the process share one clock.
        allowed = known_variables() - {clock.VARIABLE}
        for name, value in self.variables.items():
            if name not in allowed:
                raise ConfigurationError(
                    f"`variables` must name variables of ema-assets other than {clock.VARIABLE}, received {name!r}"
                    f"{did_you_mean(name, sorted(allowed))}"
                )
            if name in _ATTRIBUTES:
                raise ConfigurationError(
                    f"`variables` must not name {name}; the attribute `{_ATTRIBUTES[name]}` says the same"
                )
            if value is None:
                raise ConfigurationError(
                    f"{name} is in `variables` and has no value; set the variable that it names, or leave the line out"
                )

    def _environment(self, prefix: tuple[str, ...], folder: Path) -> Mapping[str, str]:
        """Return the values that replace environment variables.

        Folders are absolute: runs may have another working folder.
        """
        self._check_values()
        home = self._home(prefix, folder)
        found = {
            **{name: str(value) for name, value in self.variables.items()},
            "EMA_HOME": str(home),
            "EMA_WATCHLIST": str(self._watchlist(home, folder)),
            "EMA_SIGNALS_FOLDER": _own_folder(folder, self.signals, _SIGNALS),
            "EMA_STRATEGIES_FOLDER": _own_folder(folder, self.strategies, _STRATEGIES),
            "EMA_PROVIDER": self.provider,
            "EMA_DATABASE_URL": self.database_url,
        }
        return {name: value for name, value in found.items() if value is not None}

    def _home(self, prefix: tuple[str, ...], folder: Path) -> Path:
        return (folder / Path(self.home).expanduser()) if self.home else home_folder().joinpath(*prefix)

    def _watchlist(self, home: Path, folder: Path) -> Path:
        """Return the path of the watchlist file.

        A watchlist inside `defs.yaml` is written there for ticks and runs to read.
        """
        if not isinstance(self.watchlist, dict):
            path = folder / Path(self.watchlist or _WATCHLIST).expanduser()
            if not path.exists():
                # A misspelt name would load the default watchlist, which has a hundred symbols.
                raise ConfigurationError(f"`watchlist` must be a file, received {path}, which is not there")
            return path
        _check_for_toml(self.watchlist, "watchlist")
        path = home / _WATCHLIST
        text = f"# Written from {folder / 'defs.yaml'}: edit it there.\n\n{tomlkit.dumps(self.watchlist)}"
        watchlist.parse(text)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, text)
        return path


def _own_folder(folder: Path, named: str | None, usual: str) -> str | None:
    if named is not None:
        return str(folder / Path(named).expanduser())
    return str(folder / usual) if (folder / usual).is_dir() else None


def _check_for_toml(value: Any, where: str) -> None:
    """Refuse what YAML can express and a watchlist cannot.

    Raises:
        ConfigurationError: naming the place.
    """
    if value is None:
        raise ConfigurationError(f"`{where}` has no value; give it one, or leave the line out")
    for key, each in _members(value):
        if isinstance(key, bool):
            # YAML reads off, on, no and yes without quotes as booleans.
            raise ConfigurationError(
                f"`{where}` has a key that YAML reads as {str(key).lower()}; write it in quotes, as in "
                f'"{"on" if key else "off"}":'
            )
        _check_for_toml(each, f"{where}.{key}")


def _members(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the keys and values of a table, or the positions (from 1) and values of a list."""
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value, start=1)
