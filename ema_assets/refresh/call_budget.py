"""The calls per minute of a provider, counted in the database, so that all runs and commands share one limit."""

import asyncio

from ema_assets.store import provider_state
from ema_assets.store.database import Database

# The vendor counts when calls arrive. One second more than its minute allows for delays on the way.
WINDOW_SECONDS = 61.0


class SharedBudget:
    """A `Budget` (`providers.http.budget`) in the tables of `database`, whose connection it uses. For one event loop.

    While the connection is busy storing answers, a call waits for its turn. The event loop is not blocked and goes on
    receiving answers.
    """

    def __init__(
        self, database: Database, provider: str, requests: int, window_seconds: float = WINDOW_SECONDS
    ) -> None:
        self._database = database
        self._provider = provider
        self._requests = requests
        self._window_seconds = window_seconds
        self._turn = asyncio.Lock()

    async def take(self) -> None:
        """Wait until one more request may be sent, counting the requests of all processes."""
        async with self._turn:
            while (wait := await asyncio.to_thread(self._take)) > 0:  # noqa: ASYNC110 - it waits for time to pass
                await asyncio.sleep(wait)

    def close_for(self, seconds: float) -> None:
        """Stop the requests of all processes for `seconds`, because the vendor demanded it."""
        if seconds > 0:
            with self._database.transaction() as transaction:
                provider_state.hold_calls(transaction, self._provider, seconds)

    def _take(self) -> float:
        with self._database.transaction() as transaction:
            return provider_state.take_call(transaction, self._provider, self._requests, self._window_seconds)
