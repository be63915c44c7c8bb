"""Sessions from the library of calendars, made once per run of the tests and read by all its workers.

The library takes a quarter of a second of processor time for each calendar, and the tests ask for some twenty, many of
them while they are collected, which each worker does for itself.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest

from ema_assets.market import exchanges

Make = Callable[[str, date, date], pl.DataFrame]


class Kept:
    """`make`, which asks the library, for each question once: by this process, and with a `folder` by all that share it."""

    def __init__(self, make: Make, folder: Path | None) -> None:
        self._make = make
        self._folder = folder
        self._frames: dict[tuple[str, date, date], pl.DataFrame] = {}

    def __call__(self, calendar: str, first: date, last: date) -> pl.DataFrame:
        import exchange_calendars

        if exchange_calendars.get_calendar.__module__ != "exchange_calendars.calendar_utils":
            return self._make(calendar, first, last)  # a test has put another library in its place
        key = (calendar, first, last)
        if key not in self._frames:
            self._frames[key] = self._shared(*key)
        return self._frames[key]

    def _shared(self, calendar: str, first: date, last: date) -> pl.DataFrame:
        if self._folder is None:
            return self._make(calendar, first, last)
        path = self._folder / f"{quote(calendar, safe='')} {first} {last}.arrow"
        try:
            self._folder.mkdir(exist_ok=True)
            with path.with_suffix(".lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists():
                    made = path.with_suffix(".partial")
                    self._make(calendar, first, last).write_ipc(made)
                    made.rename(path)
                return pl.read_ipc(path.read_bytes())
        except PermissionError:  # in a test that has become another user
            return self._make(calendar, first, last)


def keep_for_this_run(run: str | None) -> None:
    """From now on ask the library only once; `run` is the name of the run whose workers share what it says."""
    kept = Kept(exchanges._sessions_between, _folder_of(run) if run else None)
    pytest.MonkeyPatch().setattr(exchanges, "_sessions_between", kept)


def forget(run: str) -> None:
    """Delete what the workers of `run` shared."""
    shutil.rmtree(_folder_of(run), ignore_errors=True)


def _folder_of(run: str) -> Path:
    return Path(tempfile.gettempdir()) / f"ema_assets_tests_calendars_{os.getuid()}_{run}"
