"""Tests of kernels: plain Python as machine code, its cache, and the number of rows for which it is used."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import ema_assets
from ema_assets.model import kernels
from ema_assets.model.kernels import Kernel

SOURCE = """
SCALE = 2.0

def total(values):
    result = 0.0
    for value in values:
        result += _scaled(value)
    return result

def _scaled(value):
    return _half(value) * SCALE * 2.0

def _half(value):
    return value / 2.0
"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Any]:
    """A module with a kernel, in its own folder."""
    path = tmp_path / "package" / "totals.py"
    path.parent.mkdir()
    path.write_text(SOURCE, encoding="utf-8")
    module = ModuleType("kernel_of_a_test")
    sys.modules[module.__name__] = module
    # Python must not write bytecode into the folder in which the test looks for machine code.
    exec(compile(SOURCE, str(path), "exec"), module.__dict__)
    yield module
    del sys.modules[module.__name__]


@pytest.fixture(autouse=True)
def _no_setting_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from numba import config

    for name in ("NUMBA_CACHE_DIR", "NUMBA_OPT", "EMA_HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    yield
    monkeypatch.undo()
    config.reload_config()


VALUES = np.array([0.1, 0.7, 1e9])


def test_a_kernel_is_compiled_with_the_functions_of_its_module(module: Any) -> None:
    kernel = Kernel(module.total)
    assert kernel.machine_code(VALUES) == kernel.python(VALUES.tolist()) == module.total(VALUES)
    assert not hasattr(module._half, "signatures"), "the module itself stays plain Python"


def test_machine_code_is_cached_beside_the_bytecode(module: Any) -> None:
    Kernel(module.total).machine_code(VALUES)
    folder = Path(module.total.__code__.co_filename).parent / "__pycache__"
    assert {path.suffix for path in folder.iterdir()} == {".nbi", ".nbc"}
    again = Kernel(module.total).machine_code
    again(VALUES)
    assert sum(again.stats.cache_hits.values()) == 1  # type: ignore[attr-defined]


def test_machine_code_is_cached_in_the_home_folder_when_the_package_is_not_writable(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMA_HOME", str(tmp_path / "home"))
    (Path(module.total.__code__.co_filename).parent / "__pycache__").write_text("no folder")
    Kernel(module.total).machine_code(VALUES)
    assert {path.suffix for path in (tmp_path / "home" / "kernels").rglob("*.nb?")} == {".nbi", ".nbc"}


def test_a_kernel_is_compiled_even_without_a_cache_folder(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core.caching import CompileResultCacheImpl

    monkeypatch.setattr(CompileResultCacheImpl, "_locator_classes", [])
    assert Kernel(module.total).machine_code(VALUES) == module.total(VALUES)


def test_only_one_process_compiles_at_a_time_unless_no_folder_can_be_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_is_writable", lambda _: False)
    monkeypatch.setenv("EMA_HOME", str(tmp_path))
    with kernels.compiling() as first, kernels.compiling() as second:
        assert (first, second) == (True, False)
    with kernels.compiling() as again:
        assert again
    monkeypatch.setenv("EMA_HOME", str(tmp_path / "kernels" / "kernels.lock"))
    with kernels.compiling() as first, kernels.compiling() as second:
        assert (first, second) == (True, True), "there is no folder to share"


def test_few_rows_are_computed_in_python_until_machine_code_is_loaded(module: Any) -> None:
    kernel = Kernel(module.total)
    assert not kernel.is_worth_it(1)
    kernel.machine_code(VALUES)
    assert kernel.is_worth_it(1)


def test_compiling_needs_more_rows_than_loading_from_the_cache(module: Any) -> None:
    """All rows that a process has computed count, because a full recomputation comes in batches."""
    fresh = Kernel(module.total)
    assert not fresh.is_worth_it(kernels.WORTH_IMPORTING_ROWS)
    assert not fresh.is_worth_it(kernels.WORTH_COMPILING_ROWS - kernels.WORTH_IMPORTING_ROWS - 1)
    assert fresh.is_worth_it(1)
    fresh.machine_code(VALUES)
    cached = Kernel(module.total)
    assert not cached.is_worth_it(kernels.WORTH_IMPORTING_ROWS - 1)
    assert cached.is_worth_it(1)


@pytest.mark.broad
def test_no_module_imports_numba_at_its_top_level() -> None:
    """The import of numba takes a quarter of a CPU second, too long for commands and ticks that need no kernel."""
    for path in Path(ema_assets.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.partition(".")[0] == "numba" for name in names), path
