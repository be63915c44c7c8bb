"""Who may send a request when: limits on requests per minute, and the budget of one process."""

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
    """How hard and how long to try.

    `requests_per_minute` counts every try in any 60 seconds, `requests_per_second` those of one process in any second:
    without it a minute's calls leave as fast as answers come. One try takes at most `connect_timeout_seconds` to
    connect and `answer_timeout_seconds` in all; a request is tried at most `attempts` times, with waits that double
    from `backoff_seconds` and together stay within `waiting_seconds`.
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
    """The requests that a provider allows, to be taken one by one."""

    async def take(self) -> None:
        """Return when one more request may leave."""
        ...

    def close_for(self, seconds: float) -> None:
        """Let nothing leave for `seconds`, because the vendor asked for it."""
        ...


class RequestBudget:
    """At most `requests` in any `window_seconds`, first come, first served. For one event loop.

    Leaky buckets such as aiolimiter's let a full bucket and the drip after it through in one window, which is twice
    what the vendor allows; this one remembers when each request left.
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
        """Return when one more request may leave."""
        async with self._turn:
            while (wait := self._wait_seconds(self._clock())) > 0:  # noqa: ASYNC110 - it waits for time to pass
                await asyncio.sleep(wait)  # the vendor may close the budget again meanwhile
            self._sent.append(self._clock())

    def close_for(self, seconds: float) -> None:
        """Let nothing leave for `seconds`, because the vendor asked for it."""
        self._closed_until = max(self._closed_until, self._clock() + seconds)

    def _wait_seconds(self, now: float) -> float:
        while self._sent and self._sent[0] <= now - self._window_seconds:
            self._sent.popleft()
        full = self._sent[0] + self._window_seconds - now if len(self._sent) >= self._requests else 0.0
        return max(full, self._closed_until - now)
