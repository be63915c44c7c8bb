"""Makes a folder of a user's own modules a package, so that a file can import another by `from ._helpers import …`."""

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
    """One folder. `imported` has the stamps of the files that others have imported, by path."""

    name: str
    folder: Path
    imported: dict[str, Stamp] = field(default_factory=dict)

    def is_current(self) -> bool:
        """Return whether no imported file has changed."""
        known = tuple(self.imported.values())
        return stamps(path for path, *_ in known) == known


# Ticks load in their own threads, so copy this, and `imported` of a package, before iterating.
_packages: dict[tuple[str, Path], _Package] = {}


def module_of(path: Path, kind: str) -> ModuleType:
    """Execute the file `path` and return its module. Files that it imports from its folder run once per edit.

    Raises:
        BaseException: whatever its code raises.
    """
    package = _package(path.parent, kind)
    name = f"{package.name}.{path.stem.replace('.', '_')}"
    spec = ModuleSpec(name, _Loader(name, str(path)), origin=str(path))
    spec.has_location = True
    module = module_from_spec(spec)
    # Dataclasses look up their module there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def state_of(path: str | Path) -> tuple[Stamp, ...]:
    """Return stamps that differ after an edit of the file `path` or of an imported file in its folder."""
    folder = Path(path).parent.resolve()
    beside = {
        each for package in tuple(_packages.values()) if package.folder == folder for each in tuple(package.imported)
    }
    return stamps((str(path), *sorted(beside)))


def place_beside(error: BaseException) -> str:
    """Return ` (_helpers.py, line 3)` if `error` comes from an imported file of such a folder, else an empty text."""
    imported = {path for package in tuple(_packages.values()) for path in tuple(package.imported)}
    if isinstance(error, SyntaxError) and error.filename in imported:
        return f" ({Path(error.filename).name}, line {error.lineno})"
    frames = [frame for frame in extract_tb(error.__traceback__) if frame.filename in imported]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _package(folder: Path, kind: str) -> _Package:
    """Return the package of `folder`. After an edit it is a new one; users of the old one keep all of its modules."""
    folder = folder.resolve()
    package = _packages.get((kind, folder))
    if package is None or not package.is_current():
        package = _Package(f"{_PREFIX}{kind}_{next(_numbers)}", folder)
        module = ModuleType(package.name)
        module.__path__ = [str(folder)]
        sys.modules[package.name] = module
        _packages[kind, folder] = package
    if _finder not in sys.meta_path:
        # Before Python's own finders, which would write bytecode into the user's folder.
        sys.meta_path.insert(0, _finder)
    return package


class _Loader(SourceFileLoader):
    """A loader that compiles each time: bytecode would be written next to the user's file and could be out of date."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the caller's signature
        return self.source_to_code(self.get_data(self.path), self.path)


class _Beside(_Loader):
    """A loader that records which files it loads."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the file. A file that cannot be compiled is recorded, too, so that its edit is noticed."""
        for package in tuple(_packages.values()):
            if fullname.startswith(f"{package.name}."):
                package.imported[self.path] = stamp(self.path)
        return super().get_code(fullname)


class _Finder(MetaPathFinder):
    """A finder for modules that own modules import from their folder."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002 - as Python calls it
    ) -> ModuleSpec | None:
        """Return the spec of a file or folder in one of the folders of `path`; None for modules other than own ones."""
        if not fullname.startswith(_PREFIX):
            return None
        # New finders, because an existing one caches the folder and would not see a new file.
        specs = (FileFinder(each, (_Beside, [".py"])).find_spec(fullname) for each in path or ())
        return next((spec for spec in specs if spec is not None), None)


_finder = _Finder()
