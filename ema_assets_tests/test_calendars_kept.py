"""Tests of the cache of the calendar library: all workers of a run share it, and errors are not cached."""

from datetime import date
from pathlib import Path

import exchange_calendars
import polars as pl
import pytest

from ema_assets.market import exchanges
from ema_assets.model.errors import ConfigurationError
from ema_assets_tests.calendars import Kept

WEEK = (date(2026, 11, 23), date(2026, 11, 27))


class Library:
    """Records its calls. It knows only one calendar."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, date, date]] = []

    def __call__(self, calendar: str, first: date, last: date) -> pl.DataFrame:
        self.asked.append((calendar, first, last))
        if calendar != "XNYS":
            raise ValueError(calendar)
        return pl.DataFrame({"session": [first, last]})


def test_one_worker_calls_the_library_and_the_others_read_the_cache(tmp_path: Path) -> None:
    first, second = Library(), Library()
    one, other = Kept(first, tmp_path / "kept"), Kept(second, tmp_path / "kept")
    frames = [kept("XNYS", *WEEK) for kept in (one, one, other, other)]
    assert all(frame.equals(frames[0]) and frame.schema == frames[0].schema for frame in frames)
    assert (len(first.asked), len(second.asked)) == (1, 0)
    other("XNYS", WEEK[0], WEEK[0])
    assert len(second.asked) == 1


def test_a_calendar_that_was_refused_is_requested_again(tmp_path: Path) -> None:
    library = Library()
    kept = Kept(library, tmp_path)
    for _ in range(2):
        with pytest.raises(ValueError, match="no/such"):
            kept("no/such", *WEEK)
    assert len(library.asked) == 2


def test_a_test_that_replaces_the_library_does_not_use_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        raise NotImplementedError("not this one")

    assert not exchanges.exchange_sessions("XNYS", *WEEK).is_empty()
    monkeypatch.setattr(exchange_calendars, "get_calendar", broken)
    with pytest.raises(ConfigurationError, match="cannot be built"):
        exchanges.exchange_sessions("XNYS", *WEEK)
