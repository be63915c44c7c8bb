"""Runs loops of plain Python as machine code, with numba. What the loops compute is not known here.

A kernel is a function that goes through its rows one by one, in a module of plain functions. As machine code it takes a
hundredth of the time. But importing numba and reading its cache costs half a CPU second, and compiling costs more. So a
process with few rows runs the same function in Python. Both give the same bits: there is no `fastmath`.
"""

import fcntl
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from ema_assets.model.memory import keep_freed

Array = npt.NDArray[Any]

# Importing numba and reading its cache takes 0.5 s, compiling up to 3 s. In this time Python processes as many rows, at
# up to 10 µs per row.
WORTH_IMPORTING_ROWS = 50_000
WORTH_COMPILING_ROWS = 300_000

# With more rows than this, nulls are filled before the values become an array, which then takes a fifth of the time.
_FEW_ROWS = 10_000


class Kernel:
    """A function in Python and as machine code.

    The functions of its module that it calls are compiled with it. The module's constants become part of the code, and
    the cache on disk is renewed when the module's file changes. So everything that a kernel needs must be in its
    module, except constants that never change.
    """

    def __init__(self, python: Callable[..., Any]) -> None:
        self.python = python
        self._machine_code: Callable[..., Any] | None = None
        self._rows_in_python = 0

    def is_worth_it(self, rows: int) -> bool:
        """Return whether to use the machine code: it is loaded already, or pays for the rows so far and `rows`."""
        if self._machine_code is not None:
            return True
        self._rows_in_python += rows
        if self._rows_in_python < WORTH_IMPORTING_ROWS:
            return False
        return self._rows_in_python >= WORTH_COMPILING_ROWS or self._is_cached()

    def _is_cached(self) -> bool:
        """Return whether a cache seems to have the machine code. It may be from an older source."""
        assert isinstance(self.python, FunctionType)
        source = Path(self.python.__code__.co_filename)
        name = f"{source.stem}.{self.python.__name__}-*.nbi"
        own = Path(os.environ.get("NUMBA_CACHE_DIR", "") or _home() / "kernels")
        return any(_beside(source).glob(name)) or any(own.rglob(name))

    def fill(self, results: Sequence[Array], columns: Sequence[Array], *others: float) -> None:
        """Call the kernel with `columns`, `others` and `results`, which it fills; the first column has all rows."""
        if self.is_worth_it(len(columns[0])):
            self.compile(results, columns, *others)
            return
        lists = [result.tolist() for result in results]
        self.python(*(column.tolist() for column in columns), *others, *lists)
        for result, values in zip(results, lists, strict=True):
            result[:] = values

    def compile(self, results: Sequence[Array], columns: Sequence[Array], *others: float) -> None:
        """Call the machine code, compiling it if necessary; columns may be empty."""
        self.machine_code(*map(read_only, columns), *others, *results)

    @property
    def machine_code(self) -> Callable[..., Any]:
        """The function as machine code. The first call with arguments of new types compiles, or reads the cache.

        Arrays must be contiguous and of one dimension. The code releases the GIL and does not check array bounds.
        """
        if self._machine_code is None:
            self._machine_code = _compiled(self.python)
        return self._machine_code


def floats(column: pl.Series) -> npt.NDArray[np.float64]:
    """Return the values of `column` as float64, with NaN for null."""
    values = column.cast(pl.Float64)
    if len(values) > _FEW_ROWS and values.null_count():
        values = values.fill_null(float("nan"))
    return values.to_numpy()


def read_only(values: Array) -> Array:
    """Return a contiguous, read-only view, as polars gives them, so that all columns have one type for machine code."""
    view = np.ascontiguousarray(values).view()
    view.flags.writeable = False
    return view


def _compiled(python: Callable[..., Any]) -> Callable[..., Any]:
    assert isinstance(python, FunctionType)
    _choose_settings(Path(python.__code__.co_filename))
    # A process that uses machine code has many rows, batch after batch.
    keep_freed()
    from numba import config, njit

    config.reload_config()  # type: ignore[no-untyped-call]
    # Division by zero follows IEEE, as in numpy; kernels check divisors that may be zero. They allocate nothing, so no
    # references need to be counted, which took a third of the time in the event loop.
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
    # Copies of the module's functions whose globals contain the compiled versions of each other. Python calls only the
    # kernel itself.
    inner: dict[str, Any] = {**options, "forceinline": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    names = dict(vars(sys.modules[python.__module__]))
    for name, each in list(names.items()):
        if isinstance(each, FunctionType) and each.__module__ == python.__module__ and each is not python:
            names[name] = njit(**inner)(_with_names(each, names))
    own = _with_names(python, names)
    try:
        return cast("Callable[..., Any]", njit(cache=True, **options)(own))
    except RuntimeError:
        # There is no folder for a cache: each process compiles for itself.
        return cast("Callable[..., Any]", njit(**options)(own))


def _with_names(function: FunctionType, names: dict[str, Any]) -> FunctionType:
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    return copy


@contextmanager
def compiling() -> Iterator[bool]:
    """Yield True in one process at a time among those that share a cache; yield False while another one compiles.

    The other processes read what one of them has compiled, in a tenth of the time.
    """
    beside = _beside(Path(__file__))
    folder = beside if _is_writable(beside) else _home() / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "kernels.lock").open("ab")
    except OSError:
        yield True  # no folder to share
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _choose_settings(source: Path) -> None:
    """Set numba's options: compiled code is kept next to the bytecode of the package, or else under EMA_HOME."""
    if not _is_writable(_beside(source)):
        os.environ.setdefault("NUMBA_CACHE_DIR", str(_home() / "kernels"))
    # Level 1 compiles the simulator in 2.6 s, level 3 in 4.6 s. The machine code is equally fast.
    os.environ.setdefault("NUMBA_OPT", "1")


def _beside(source: Path) -> Path:
    return source.parent / "__pycache__"


def _is_writable(folder: Path) -> bool:
    return os.access(folder if folder.exists() else folder.parent, os.W_OK) and not folder.is_file()


def _home() -> Path:
    return Path(os.environ.get("EMA_HOME", "").strip() or ".ema").expanduser().absolute()
