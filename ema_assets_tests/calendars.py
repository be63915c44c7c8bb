"""A cache of the sessions of the calendar library, which all workers of a test run share.

The library takes a quarter of a CPU second per calendar. The tests request about twenty calendars, many of them during
collection, which each worker does separately.
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
    """Calls `make` once for the same arguments: once in this process, or for all processes that share `folder`."""

    def __init__(self, make: Make, folder: Path | None) -> None:
        self._make = make
        self._folder = folder
        self._frames: dict[tuple[str, date, date], pl.DataFrame] = {}

    def __call__(self, calendar: str, first: date, last: date) -> pl.DataFrame:
        import exchange_calendars

        if exchange_calendars.get_calendar.__module__ != "exchange_calendars.calendar_utils":
            return self._make(calendar, first, last)  # a test has replaced the library
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
        except PermissionError:  # in a test that has changed to another user
            return self._make(calendar, first, last)


def keep_for_this_run(run: str | None) -> None:
    """Cache sessions from now on. `run` is the name of the test run whose workers share the cache, or None."""
    kept = Kept(exchanges._sessions_between.__wrapped__, _folder_of(run) if run else None)
    pytest.MonkeyPatch().setattr(exchanges, "_sessions_between", kept)


def forget(run: str) -> None:
    """Delete the cache that the workers of `run` shared."""
    shutil.rmtree(_folder_of(run), ignore_errors=True)


def _folder_of(run: str) -> Path:
    return Path(tempfile.gettempdir()) / f"ema_assets_tests_calendars_{os.getuid()}_{run}"
