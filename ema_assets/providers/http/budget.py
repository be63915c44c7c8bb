"""Decides when a request may be sent: limits of requests per minute, and the budget of one process."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ema_assets.model.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of requests, times and retries.

    `requests_per_minute` limits all tries in any 60 seconds, `requests_per_second` the tries of one process in any
    second: otherwise, a minute's calls would be sent as fast as answers are received. One try takes at most
    `connect_timeout_seconds` to connect and `answer_timeout_seconds` in total. A request is tried at most `attempts`
    times, with waits that double from `backoff_seconds` on. These, and the tries that ended in a time-out, stay within
    `waiting_seconds` in total.
    """

    max_concurrency: int = 8
    requests_per_minute: int = 200
    requests_per_second: int = 1_000
    connect_timeout_seconds: float = 5.0
    answer_timeout_seconds: float = 30.0
    attempts: int = 4
    backoff_seconds: float = 0.5
    waiting_seconds: float = 45.0
    max_body_bytes: int = 32 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ConfigurationError(f"`{name}` must be above 0, received {value!r}")


class Budget(Protocol):
    """The requests that a provider allows, which are taken one by one."""

    async def take(self) -> None:
        """Wait until one more request may be sent."""
        ...

    def close_for(self, seconds: float) -> None:
        """Stop all requests for `seconds`, because the vendor demanded it."""
        ...


class RequestBudget:
    """A budget of at most `requests` in any `window_seconds`, first come, first served. For one event loop.

    Leaky buckets such as aiolimiter's allow a full bucket and the refill after it in one window, which is twice what
    the vendor allows. This budget remembers when each request was sent.
    """

    def __init__(
        self, requests: int, window_seconds: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._requests = requests
        self._clock = clock
        self._window_seconds = window_seconds
        self._sent: deque[float] = deque()
        self._closed_until = 0.0
        self._turn = asyncio.Lock()

    async def take(self) -> None:
        """Wait until one more request may be sent."""
        async with self._turn:
            while (wait := self._wait_seconds(self._clock())) > 0:  # noqa: ASYNC110 - it waits for time to pass
                await asyncio.sleep(wait)  # in the meantime the vendor may close the budget again
            self._sent.append(self._clock())

    def close_for(self, seconds: float) -> None:
        """Stop all requests for `seconds`, because the vendor demanded it."""
        self._closed_until = max(self._closed_until, self._clock() + seconds)

    def _wait_seconds(self, now: float) -> float:
        while self._sent and self._sent[0] <= now - self._window_seconds:
            self._sent.popleft()
        full = self._sent[0] + self._window_seconds - now if len(self._sent) >= self._requests else 0.0
        return max(full, self._closed_until - now)
