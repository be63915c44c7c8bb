"""How far a provider is behind its exchange: as the ledger knows it, and as the provider says. Stores nothing."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import polars as pl

from ema_assets.providers.fetching.base import BarRequest

# The last trade of a delayed exchange is now and then some minutes older than its delay.
_SLACK_MINUTES = 3


class Delays:
    """The delay of each symbol that one provider is asked for at `now` (UTC)."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._known: dict[str, timedelta] = {}
        self._said: dict[BarRequest, datetime] = {}

    def know(self, plan: pl.DataFrame) -> None:
        """Take the delays from what is about to be asked for: symbol, delay_seconds."""
        rows = plan.select("symbol", "delay_seconds").iter_rows()
        self._known.update((symbol, timedelta(seconds=seconds)) for symbol, seconds in rows)

    def hear(self, complete_through: Mapping[BarRequest, datetime]) -> None:
        """Take up to when the provider says that its answers are complete, UTC."""
        self._said.update(complete_through)

    def complete_through(self, request: BarRequest) -> datetime:
        """What the provider said; where it said nothing, as far behind as it said the last time."""
        return self._said.get(request) or self._now - self._known[request.instrument.symbol]

    def learned(self, answered: Sequence[BarRequest]) -> dict[str, int]:
        """By how many seconds the provider turned out to be behind, of symbols for which that is new."""
        learned = {}
        for request in answered:
            if (said := self._said.get(request)) is not None:
                symbol = request.instrument.symbol
                minutes = max(math.ceil((self._now - said) / timedelta(minutes=1)), 0)
                known = self._known[symbol] // timedelta(minutes=1)
                if minutes > known or minutes < known - _SLACK_MINUTES or (minutes == 0) != (known == 0):
                    learned[symbol] = minutes * 60
        return learned
