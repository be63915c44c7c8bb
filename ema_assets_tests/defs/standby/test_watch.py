"""Tests of how a process notices that its definitions are outdated. No process is started."""

import sys
from pathlib import Path
from types import MappingProxyType

import pytest

from ema_assets.defs import namespace
from ema_assets.defs.namespace import Namespace
from ema_assets.defs.standby.watch import Watch


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with two modules for a watch to look at, and a configuration."""
    folder = tmp_path / "watched_package"
    (folder / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/rules.py"):
        (folder / name).write_text("")
    monkeypatch.setenv("EMA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EMA_WATCHLIST", str(tmp_path / "watchlist.toml"))
    monkeypatch.setenv("EMA_SIGNALS_FOLDER", str(tmp_path / "signals"))
    (tmp_path / "signals").mkdir()
    (tmp_path / "watchlist.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return folder


def watching(package: Path) -> Watch:
    watch = Watch("watched_package.inner", str(package.parent))
    watch.note_configuration()
    watch.note_imports()
    assert watch.change() is None
    return watch


@pytest.mark.parametrize(
    "name",
    [
        "watched_package/inner/rules.py",
        "watched_package/new.py",
        "watched_package/inner/defs.yaml",
        "watchlist.toml",
        "signals/mine.py",
        ".env",
    ],
)
def test_a_changed_or_new_file_is_named(package: Path, name: str) -> None:
    watch = watching(package)
    path = package.parent / name
    path.write_text("# another one")
    assert watch.change() == f"{path} has changed"


def test_a_removed_file_is_named(package: Path) -> None:
    watch = watching(package)
    (package / "inner" / "rules.py").unlink()
    assert watch.change() == f"{package / 'inner' / 'rules.py'} has changed"


def test_an_imported_file_of_another_package_is_watched_too(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package.parent / "imported_beside.py").write_text("")
    monkeypatch.syspath_prepend(str(package.parent))
    __import__("imported_beside")
    watch = watching(package)
    (package.parent / "imported_beside.py").write_text("# another one")
    assert watch.change() == f"{package.parent / 'imported_beside.py'} has changed"
    del sys.modules["imported_beside"]


def test_the_file_of_a_location_with_one_module_is_watched(package: Path) -> None:
    (package.parent / "watched_alone.py").write_text("")
    watch = Watch("watched_alone", str(package.parent))
    assert watch.change() is None
    (package.parent / "watched_alone.py").write_text("# another one")
    assert watch.change() == f"{package.parent / 'watched_alone.py'} has changed"


def test_a_location_that_changes_its_folder_or_variables_while_it_is_loaded_has_not_changed(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package.parent / ".env").write_text("")
    watch = Watch("watched_package.inner", str(package.parent))
    watch.note_configuration()
    monkeypatch.chdir(package)
    monkeypatch.setenv("EMA_WATCHLIST", str(package / "another.toml"))
    watch.note_imports()
    assert watch.change() is None
    (package / "another.toml").write_text("")
    assert watch.change() == f"{package / 'another.toml'} has changed"


def test_the_watchlist_of_a_component_is_watched_once_it_is_loaded(package: Path) -> None:
    watch = Watch("watched_package.inner", str(package.parent))
    watch.note_configuration()
    variables = {"EMA_HOME": str(package / "eu"), "EMA_WATCHLIST": str(package / "eu.toml")}
    component = Namespace(("eu",), MappingProxyType(variables))
    namespace.register(component)
    watch.note_imports()
    assert watch.change() is None
    (package / "eu.toml").write_text("# another one")
    assert watch.change() == f"{package / 'eu.toml'} has changed"
