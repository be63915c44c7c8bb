"""Calendars are built once for the whole room: the library takes a quarter of a second for each."""

from collections.abc import Iterator
from datetime import date

import polars as pl
import pytest

from ema_assets.market import exchanges
from ema_assets.market.exchanges import exchange_sessions
from ema_assets.model.special_days import NO_SPECIAL_DAYS, SpecialDays

_KNOWN: dict[tuple[str, date, date, str], pl.DataFrame] = {}


def _remembered(calendar: str, start: date, end: date, special: SpecialDays = NO_SPECIAL_DAYS) -> pl.DataFrame:
    key = (calendar, start, end, str(special))
    if key not in _KNOWN:
        _KNOWN[key] = exchange_sessions(calendar, start, end, special)
    return _KNOWN[key]


@pytest.fixture(scope="session", autouse=True)
def _calendars_are_kept() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exchanges, "exchange_sessions", _remembered)
        yield
