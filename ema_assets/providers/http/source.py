"""GET at one vendor: over connections that are kept, within a budget, with retries and an end.

A request becomes the body of a 200, or one error of the ProviderError tree. What is asked for is the client's business.
"""

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx
import tenacity

from ema_assets.model.errors import (
    Banned,
    ConfigurationError,
    MalformedAnswer,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
)
from ema_assets.providers.http.budget import Budget, HttpLimits, RequestBudget
from ema_assets.providers.http.circuit_breaker import CircuitBreaker, CircuitOpen
from ema_assets.providers.http.refusals import (
    CutAnswer,
    Explain,
    Manners,
    NotTheApi,
    Refusal,
    Unreachable,
    reason,
    web_page,
)

_log = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BAN_SECONDS = 300.0  # when the vendor does not say for how long
_QUOTED_BYTES = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """How a client does its HTTP, where that is not the usual way.

    `budget` is one that several processes share; without it the client has its own. `transport` takes the place of the
    network.
    """

    budget: Budget | None = None
    limits: HttpLimits | None = None
    transport: httpx.AsyncBaseTransport | None = None


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One GET. `scope` is the part of the vendor that it concerns, for the circuit breaker."""

    path: str
    params: Mapping[str, str]
    scope: str
    explain: Explain


class HttpSource:
    """One vendor's HTTP endpoint, with its connections and its budget. Serves one event loop."""

    def __init__(
        self, name: str, base_url: str, manners: Manners, limits: HttpLimits, options: HttpOptions | None = None
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ConfigurationError(
                f"`base_url` of {name} must read http(s)://host[:port] without user, password or query"
            )
        options = options or HttpOptions()
        self.name = name
        self.host = parts.netloc
        self.calls = 0
        self.limits = options.limits or limits
        self._manners = manners
        self._ban: Banned | None = None
        self._banned_until = 0.0
        self._budget: Budget = options.budget or RequestBudget(self.limits.requests_per_minute)
        self._pace = RequestBudget(self.limits.requests_per_second, window_seconds=1.0)
        self._slots = asyncio.Semaphore(self.limits.max_concurrency)
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            headers=dict(manners.headers),
            timeout=httpx.Timeout(self.limits.answer_timeout_seconds, connect=self.limits.connect_timeout_seconds),
            limits=httpx.Limits(
                max_connections=self.limits.max_concurrency, max_keepalive_connections=self.limits.max_concurrency
            ),
            follow_redirects=False,
            transport=options.transport,
            # A proxy of the environment must not see calls to this machine.
            trust_env=parts.hostname not in _LOOPBACK,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def get(self, call: HttpCall, breaker: CircuitBreaker) -> bytes:
        """Body of a 200, after as many tries as the limits allow.

        Raises:
            ProviderError: the last try's error, or that for which `breaker` has opened meanwhile.
        """
        patience = _Patience(self.limits, breaker, call.scope)
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(patience.is_worth_another_try),
            wait=lambda _: patience.pause_seconds,
            stop=tenacity.stop_after_attempt(self.limits.attempts),
            before_sleep=patience.log,
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                return await self._try(call, breaker)
        raise AssertionError("the last attempt either returns or raises")

    async def _try(self, call: HttpCall, breaker: CircuitBreaker) -> bytes:
        async with self._slots:
            # Before as well: a call that is not made takes nothing from the budget, and does not wait for it.
            self._check(call.scope, breaker)
            await self._budget.take()
            await self._pace.take()
            self._check(call.scope, breaker)
            self.calls += 1
            status, headers, body = await self._receive(call)
        self._budget.close_for(self._manners.pause_seconds(headers))
        if status == httpx.codes.OK:
            if (page := web_page(self.name, headers, body)) is not None:
                raise page
            return body
        error = Refusal(status, headers, body[:_QUOTED_BYTES]).error(self.name, self._manners, call.explain)
        self._heed(error)
        raise error

    async def _receive(self, call: HttpCall) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of one answer, whatever its status."""
        received = bytearray()
        status: int | None = None
        try:
            async with (
                asyncio.timeout(self.limits.answer_timeout_seconds),
                self._client.stream("GET", call.path, params=dict(call.params)) as response,
            ):
                status = response.status_code
                async for piece in response.aiter_bytes():
                    received += piece
                    if len(received) > self.limits.max_body_bytes:
                        raise MalformedAnswer(
                            f"{self.name} sent more than {self.limits.max_body_bytes} bytes in one answer",
                            provider=self.name,
                        )
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(
                f"{self.name} cannot be reached at {self.host}: {reason(error)}", provider=self.name
            ) from None
        except (httpx.TimeoutException, TimeoutError):
            raise ProviderUnavailable(
                f"{self.name} did not answer within {self.limits.answer_timeout_seconds:g} seconds", provider=self.name
            ) from None
        except httpx.TransportError as error:
            if status == httpx.codes.OK:
                raise CutAnswer(
                    f"{self.name} cut its answer off after {len(received)} bytes", provider=self.name
                ) from None
            raise ProviderUnavailable(
                f"{self.name} broke the connection: {reason(error)}", provider=self.name
            ) from None
        except httpx.DecodingError:
            raise MalformedAnswer(f"{self.name} sent a body that cannot be unpacked", provider=self.name) from None
        return response.status_code, response.headers, bytes(received)

    def _heed(self, error: ProviderError) -> None:
        """Let nothing leave for as long as the vendor asks."""
        match error:
            case Banned(retry_after_seconds=seconds):
                self._ban, self._banned_until = error, time.monotonic() + (seconds or _BAN_SECONDS)
            case RateLimited(retry_after_seconds=float(seconds)):
                self._budget.close_for(min(seconds, self.limits.waiting_seconds))

    def _check(self, scope: str, breaker: CircuitBreaker) -> None:
        ban = self._ban if time.monotonic() < self._banned_until else None
        if (error := breaker.error(scope) or ban) is not None:
            raise CircuitOpen(error)

    def without_secrets(self, text: str) -> str:
        """`text` with every key replaced by `***`."""
        return self._manners.without_secrets(text)


class _Patience:
    """Whether one request is tried again, and after which pause."""

    def __init__(self, limits: HttpLimits, breaker: CircuitBreaker, scope: str) -> None:
        self.pause_seconds = 0.0
        self._limits = limits
        self._breaker = breaker
        self._scope = scope
        self._tries = 0
        self._waited_seconds = 0.0

    def is_worth_another_try(self, error: BaseException) -> bool:
        """True when trying again can help and does not take too long; it is told of every failed try."""
        if isinstance(error, Banned | NotTheApi) or self._breaker.error(self._scope) is not None:
            return False
        if not isinstance(error, ProviderUnavailable | RateLimited | CutAnswer):
            return False
        # Jitter keeps the calls of one fetch from coming back together.
        self.pause_seconds = self._limits.backoff_seconds * 2**self._tries * random.uniform(0.5, 1.5)  # noqa: S311
        if isinstance(error, RateLimited) and error.retry_after_seconds:
            self.pause_seconds = error.retry_after_seconds
        self._tries += 1
        self._waited_seconds += self.pause_seconds
        return self._waited_seconds <= self._limits.waiting_seconds

    def log(self, state: tenacity.RetryCallState) -> None:
        """Say what failed and when it is tried again."""
        error = state.outcome.exception() if state.outcome is not None else None
        _log.warning("%s; trying again in %.1f seconds", error, self.pause_seconds)
