"""How far a provider is behind its exchange, according to the ledger and to its answers. Stores nothing."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import polars as pl

from ema_assets.providers.fetching.base import BarRequest

# The last trade of a delayed exchange is sometimes a few minutes older than the delay.
_SLACK_MINUTES = 3


class Delays:
    """The delay of each symbol that is requested from one provider at `now` (UTC)."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._known: dict[str, timedelta] = {}
        self._said: dict[BarRequest, datetime] = {}

    def know(self, plan: pl.DataFrame) -> None:
        """Add the known delays of the series about to be requested: symbol, delay_seconds."""
        rows = plan.select("symbol", "delay_seconds").iter_rows()
        self._known.update((symbol, timedelta(seconds=seconds)) for symbol, seconds in rows)

    def hear(self, complete_through: Mapping[BarRequest, datetime]) -> None:
        """Add the times (UTC) through which the provider says that its answers are complete, by request."""
        self._said.update(complete_through)

    def complete_through(self, request: BarRequest) -> datetime:
        """Return the time (UTC) that the provider reported, or else `now` minus the last known delay."""
        return self._said.get(request) or self._now - self._known[request.instrument.symbol]

    def learned(self, answered: Sequence[BarRequest]) -> dict[str, int]:
        """Return the reported delays that differ from the known ones: by symbol, in seconds (whole minutes)."""
        learned = {}
        for request in answered:
            if (said := self._said.get(request)) is not None:
                symbol = request.instrument.symbol
                minutes = max(math.ceil((self._now - said) / timedelta(minutes=1)), 0)
                known = self._known[symbol] // timedelta(minutes=1)
                if minutes > known or minutes < known - _SLACK_MINUTES or (minutes == 0) != (known == 0):
                    learned[symbol] = minutes * 60
        return learned
