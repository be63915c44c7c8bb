"""Calendars are built once for the whole room: the library takes a quarter of a second for each."""

from collections.abc import Iterator
from functools import cache

import pytest

from ema_assets.market.calendars import exchange_sessions
from ema_assets.operations import sync_watchlist


@pytest.fixture(scope="session", autouse=True)
def _calendars_are_kept() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sync_watchlist, "exchange_sessions", cache(exchange_sessions))
        yield
