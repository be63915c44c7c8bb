"""Whether a process that has loaded a code location would load the same now, judging by the files it depends on."""

import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from ema_assets.config.configuration_files import configuration_files
from ema_assets.config.settings import Settings, known_variables
from ema_assets.model.file_stamps import Stamp, stamp

# Dagster reads variables from this file when it loads a code location.
_DOTENV = ".env"
# Endings of the files that hold definitions: modules, and the components of `dg`.
_CODE = (".py", "defs.yaml", "component.yaml")


class Watch:
    """The files of the code location `module`, of its configuration, and of everything else that was imported.

    It is made before the location is loaded, so that a change during loading is noticed, too.
    """

    def __init__(self, module: str, working_directory: str | None) -> None:
        # Dagster inserts the folder when it loads the module.
        if working_directory is not None and working_directory not in sys.path:
            sys.path.insert(0, working_directory)
        self._module = module
        self._code = _by_path(_code_files(module))
        self._configuration: dict[str, Stamp] | None = None
        self._environment = _environment()
        self._imported: dict[str, Stamp] = {}

    def note_configuration(self) -> None:
        """Watch the configuration that the environment names now. To be called before it is read."""
        self._environment = _environment()
        self._configuration = _by_path(_own_files())

    def note_imports(self) -> None:
        """Watch the files of all modules that are imported by now."""
        # On import, a module may change the working folder or set variables, which changes the set of files.
        if self._configuration is not None and self._environment != _environment():
            self.note_configuration()
        self._imported = _by_path(path for path in _imported_files() if path not in self._code)

    def change(self) -> str | None:
        """Return which file has changed; None when all are the same."""
        pairs = [(self._code, _by_path(_code_files(self._module))), (self._imported, _by_path(self._imported))]
        if self._configuration is not None:
            pairs.append((self._configuration, _by_path(_own_files())))
        for before, now in pairs:
            for path in (*now, *before):
                if now.get(path) != before.get(path):
                    return f"{path} has changed"
        return None


def _by_path(paths: Iterable[str | Path]) -> dict[str, Stamp]:
    return {str(path): stamp(path) for path in paths}


def _environment() -> tuple[str, Mapping[str, str], list[Settings]]:
    """Return what decides from which files the configuration is read. Components are known once they are loaded."""
    variables = {name: os.environ[name] for name in known_variables() if name in os.environ}
    return str(Path.cwd()), variables, _of_components()


def _of_components() -> list[Settings]:
    found = sys.modules.get("ema_assets.defs.namespace")
    return [] if found is None else [each.settings() for each in found.all_known()]


def _own_files() -> list[Path]:
    settings = [Settings.from_env(), *_of_components()]
    return [*(path for each in settings for path in configuration_files(each)), Path.cwd() / _DOTENV]


def _code_files(module: str) -> Iterable[str | Path]:
    """Return all files of the package that contains `module`, or the file of a top-level module."""
    found = importlib.util.find_spec(module.partition(".")[0])
    if found is None:
        return []
    if found.submodule_search_locations is None:
        return [found.origin] if found.origin else []
    # Takes a third of the time of rglob, before each run.
    return [
        f"{folder}/{name}"
        for root in found.submodule_search_locations
        for folder, _, names in os.walk(root)
        for name in names
        if name.endswith(_CODE)
    ]


def _imported_files() -> set[str]:
    found = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return {path for path in found if isinstance(path, str)}
