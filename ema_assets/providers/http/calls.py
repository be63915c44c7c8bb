"""Makes calls to one vendor over any transport: concurrently, within a budget, with a limited number of retries.

Subclasses define what a call is and how it is sent; the clients decide what is requested.
"""

import asyncio
import logging
import random
import time
from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

import tenacity

from ema_assets.model.errors import Banned, ProviderError, ProviderUnavailable, RateLimited
from ema_assets.providers.http.budget import Budget, HttpLimits, RequestBudget
from ema_assets.providers.http.circuit_breaker import CircuitBreaker, CircuitOpen
from ema_assets.providers.http.refusals import CutAnswer, NotTheApi, TimedOut

_log = logging.getLogger(__name__)

BAN_SECONDS = 300.0  # if the vendor does not say how long the ban lasts
_JITTER = (0.5, 1.5)  # each pause is multiplied by a factor of this range, so that calls are not retried at once


class HasScope(Protocol):
    """A call. `scope` is the part of the vendor's API that it concerns, for the circuit breaker."""

    @property
    def scope(self) -> str:
        """The scope, such as an endpoint."""
        ...


Call = TypeVar("Call", bound=HasScope)
Answer = TypeVar("Answer")


class CallSource(ABC, Generic[Call, Answer]):
    """A source of answers of one vendor, for one event loop. `host` names the vendor's host in a repr.

    Without a `budget` that processes share, it has its own.
    """

    def __init__(self, name: str, host: str, limits: HttpLimits, budget: Budget | None) -> None:
        self.name = name
        self.host = host
        self.calls = 0
        self.limits = limits
        self._ban: Banned | None = None
        self._banned_until = 0.0
        self._budget: Budget = budget or RequestBudget(limits.requests_per_minute)
        self._pace = RequestBudget(limits.requests_per_second, window_seconds=1.0)
        self._slots = asyncio.Semaphore(limits.max_concurrency)

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections."""

    @abstractmethod
    async def _send(self, call: Call) -> Answer:
        """Send one call now and return its answer.

        Raises:
            ProviderError: when there is no answer, or a refusal.
        """

    async def get(self, call: Call, breaker: CircuitBreaker, attempts: int | None = None) -> Answer:
        """Return the answer to `call`, after as many tries as the limits allow, at most `attempts`.

        Raises:
            ProviderError: the error of the last try, or a CircuitOpen with the error that has opened `breaker`.
        """
        patience = _Patience(self.limits, breaker, call.scope)
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(patience.is_worth_another_try),
            wait=lambda _: patience.pause_seconds,
            stop=tenacity.stop_after_attempt(min(attempts or self.limits.attempts, self.limits.attempts)),
            before_sleep=patience.log,
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                return await self._try(call, breaker)
        raise AssertionError("the last attempt either returns or raises")

    async def _try(self, call: Call, breaker: CircuitBreaker) -> Answer:
        async with self._slots:
            # Also checked before, so that a call that is not made neither uses the budget nor waits for it.
            self._check(call.scope, breaker)
            await self._leave()
            self._check(call.scope, breaker)
            try:
                return await self._send(call)
            except ProviderError as error:
                self._heed(error)
                raise

    async def _leave(self) -> None:
        """Wait until one more request may be sent."""
        await self._budget.take()
        await self._pace.take()

    def _heed(self, error: ProviderError) -> None:
        """Stop all requests for as long as the vendor demands.

        A pause that is too long for a retry does not close the budget: the calls that wait for it would wait in vain,
        and the circuit breakers stop them.
        """
        match error:
            case Banned(retry_after_seconds=seconds):
                self._ban, self._banned_until = error, time.monotonic() + (seconds or BAN_SECONDS)
            case RateLimited(retry_after_seconds=float(seconds)) if seconds <= self.limits.waiting_seconds:
                self._budget.close_for(seconds)

    def _check(self, scope: str, breaker: CircuitBreaker) -> None:
        ban = self._ban if time.monotonic() < self._banned_until else None
        if (error := breaker.error(scope) or ban) is not None:
            raise CircuitOpen(error)


class _Patience:
    """The retries of one request: whether it is tried again, and after which pause."""

    def __init__(self, limits: HttpLimits, breaker: CircuitBreaker, scope: str) -> None:
        self.pause_seconds = 0.0
        self._limits = limits
        self._breaker = breaker
        self._scope = scope
        self._tries = 0
        self._waited_seconds = 0.0

    def is_worth_another_try(self, error: BaseException) -> bool:
        """Return whether a retry can help and does not take too long. It must be called after every failed try."""
        if isinstance(error, Banned | NotTheApi) or self._breaker.error(self._scope) is not None:
            return False
        if not isinstance(error, ProviderUnavailable | RateLimited | CutAnswer):
            return False
        self.pause_seconds = self._limits.backoff_seconds * 2**self._tries * random.uniform(*_JITTER)  # noqa: S311
        if error.retry_after_seconds:
            self.pause_seconds = error.retry_after_seconds
        self._tries += 1
        self._waited_seconds += self.pause_seconds
        if isinstance(error, TimedOut):
            # The bars of other symbols wait for this one.
            self._waited_seconds += self._limits.answer_timeout_seconds
        return self._waited_seconds <= self._limits.waiting_seconds

    def log(self, state: tenacity.RetryCallState) -> None:
        """Log what failed and when it is tried again."""
        error = state.outcome.exception() if state.outcome is not None else None
        _log.warning("%s; trying again in %.1f seconds", error, self.pause_seconds)
