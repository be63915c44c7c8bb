"""A folder of a user's own modules as a package: a file in it imports one beside it by `from ._helpers import …`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec
from itertools import count
from pathlib import Path
from traceback import extract_tb
from types import CodeType, ModuleType

from ema_assets.model.file_stamps import Stamp, stamp, stamps

_PREFIX = "_ema_assets_own_"
_numbers = count(1)


@dataclass
class _Package:
    """One folder, as it stood when files in it were imported by others: `imported` has these, by path."""

    name: str
    folder: Path
    imported: dict[str, Stamp] = field(default_factory=dict)

    def is_current(self) -> bool:
        """Whether all that was imported is still the same."""
        known = tuple(self.imported.values())
        return stamps(path for path, *_ in known) == known


# Ticks load in threads of their own: whoever goes through all of these, or through what one has imported, copies first.
_packages: dict[tuple[str, Path], _Package] = {}


def module_of(path: Path, kind: str) -> ModuleType:
    """The module in the file `path`, executed now. What it imports from beside it is executed once, and after an edit.

    Raises:
        BaseException: whatever its code raises.
    """
    package = _package(path.parent, kind)
    name = f"{package.name}.{path.stem.replace('.', '_')}"
    spec = ModuleSpec(name, _Loader(name, str(path)), origin=str(path))
    spec.has_location = True
    module = module_from_spec(spec)
    # Dataclasses look their module up there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def state_of(path: str | Path) -> tuple[Stamp, ...]:
    """Something that differs when the file `path`, or what files beside it have imported, is edited."""
    folder = Path(path).parent.resolve()
    beside = {
        each for package in tuple(_packages.values()) if package.folder == folder for each in tuple(package.imported)
    }
    return stamps((str(path), *sorted(beside)))


def place_beside(error: BaseException) -> str:
    """` (_helpers.py, line 3)`, where `error` comes from such a file that another one has imported; else nothing."""
    imported = {path for package in tuple(_packages.values()) for path in tuple(package.imported)}
    if isinstance(error, SyntaxError) and error.filename in imported:
        return f" ({Path(error.filename).name}, line {error.lineno})"
    frames = [frame for frame in extract_tb(error.__traceback__) if frame.filename in imported]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _package(folder: Path, kind: str) -> _Package:
    """The package of `folder`. After an edit it is another one: what still uses the one before keeps all of it."""
    folder = folder.resolve()
    package = _packages.get((kind, folder))
    if package is None or not package.is_current():
        package = _Package(f"{_PREFIX}{kind}_{next(_numbers)}", folder)
        module = ModuleType(package.name)
        module.__path__ = [str(folder)]
        sys.modules[package.name] = module
        _packages[kind, folder] = package
    if _finder not in sys.meta_path:
        # Before Python's own, which would write bytecode into the user's folder.
        sys.meta_path.insert(0, _finder)
    return package


class _Loader(SourceFileLoader):
    """Compiles each time: bytecode would be written beside the user's file, and be taken for newer than it is."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the caller's signature
        return self.source_to_code(self.get_data(self.path), self.path)


class _Beside(_Loader):
    """Notes what it loads."""

    def get_code(self, fullname: str) -> CodeType:
        """The code of the file. One that cannot be compiled is noted, too: its edit is waited for."""
        for package in tuple(_packages.values()):
            if fullname.startswith(f"{package.name}."):
                package.imported[self.path] = stamp(self.path)
        return super().get_code(fullname)


class _Finder(MetaPathFinder):
    """Finds what own modules import from their folder."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002 - as Python calls it
    ) -> ModuleSpec | None:
        """The spec of a file or folder in one of the folders of `path`; None for all that is not a user's own."""
        if not fullname.startswith(_PREFIX):
            return None
        # One that knows how the folder stood before would not see a file that was just made.
        specs = (FileFinder(each, (_Beside, [".py"])).find_spec(fullname) for each in path or ())
        return next((spec for spec in specs if spec is not None), None)


_finder = _Finder()
