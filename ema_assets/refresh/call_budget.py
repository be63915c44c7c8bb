"""The calls per minute of a provider, counted in the database: all runs and commands together stay within them."""

import asyncio

from ema_assets.store import provider_state
from ema_assets.store.database import Database

# A call that leaves a moment late arrives a moment late: a second more than the vendor's minute covers that.
WINDOW_SECONDS = 61.0


class SharedBudget:
    """A `Budget` (`providers.http.budget`) in the tables of `database`, whose connection it uses. For one event loop.

    The connection may be busy with storing what has come. A call then waits for its turn, and the loop does not:
    answers go on coming in.
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
        """Return when one more request may leave, of those of all processes."""
        async with self._turn:
            while (wait := await asyncio.to_thread(self._take)) > 0:  # noqa: ASYNC110 - it waits for time to pass
                await asyncio.sleep(wait)

    def close_for(self, seconds: float) -> None:
        """Let nothing leave for `seconds`, from no process, because the vendor asked for it."""
        if seconds > 0:
            with self._database.transaction() as transaction:
                provider_state.hold_calls(transaction, self._provider, seconds)

    def _take(self) -> float:
        with self._database.transaction() as transaction:
            return provider_state.take_call(transaction, self._provider, self._requests, self._window_seconds)
