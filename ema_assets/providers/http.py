"""GET over HTTP for every vendor: budget, retries, bounded answers, typed errors. What is asked for lives elsewhere.

A request becomes the body of a 200, or one error of the ProviderError tree. Keys travel in headers only, and are
cut out of whatever a vendor says before it is quoted.
"""

import asyncio
import email.utils
import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

import httpx
import msgspec
import tenacity

from ema_assets.model.errors import (
    Banned,
    ConfigurationError,
    MalformedAnswer,
    PermanentProviderError,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
    Unauthorized,
)

_log = logging.getLogger(__name__)

_QUOTE_CHARACTERS = 200
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BAN_SECONDS = 300.0  # when the vendor does not say for how long


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """How hard and how long to try.

    `requests_per_minute` counts every try in any 60 seconds. One try takes at most `connect_timeout_seconds` to
    connect and `answer_timeout_seconds` in all; a request is tried at most `attempts` times, with waits that double
    from `backoff_seconds` and together stay within `waiting_seconds`.
    """

    max_concurrency: int = 8
    requests_per_minute: int = 200
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
    """Who may ask a vendor when."""

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


class Fuse:
    """Stops the calls of one fetch that cannot succeed any more.

    It blows at once when the vendor cannot be reached, refuses the key or keeps saying 429, and at the second call in
    a row that ends in a 5xx or a time-out: one may be the call's own fault. `scope` is the part of the vendor that
    is concerned; None is all of it.
    """

    def __init__(self) -> None:
        self._blown: dict[str | None, ProviderError] = {}
        self._strikes: dict[str, int] = {}

    def error(self, scope: str) -> ProviderError | None:
        """Why calls to `scope` are pointless, or None."""
        return self._blown.get(None) or self._blown.get(scope)

    def answered(self, scope: str) -> None:
        """A call to `scope` succeeded."""
        self._strikes[scope] = 0

    def failed(self, scope: str, error: ProviderError) -> None:
        """A call to `scope` failed for good."""
        if isinstance(error, Unreachable | RateLimited):
            self._blown.setdefault(None, error)
        elif isinstance(error, Unauthorized):
            self._blown.setdefault(scope, error)
        elif isinstance(error, ProviderUnavailable):
            self._strikes[scope] = self._strikes.get(scope, 0) + 1
            if self._strikes[scope] >= 2:
                self._blown.setdefault(scope, error)


class Unreachable(ProviderUnavailable):
    """No connection could be made at all."""


class CutAnswer(MalformedAnswer):
    """The connection ended in the middle of an answer."""


# Turns a 4xx status and what the vendor said into an error of its own, or None for the usual one.
Explain = Callable[[int, str], ProviderError | None]


class _ErrorBody(msgspec.Struct):
    message: str


def _plain_message(body: bytes) -> str:
    return msgspec.json.decode(body, type=_ErrorBody).message


def _no_hold(_headers: Mapping[str, str]) -> float:
    return 0.0


class HttpSource:
    """One vendor's HTTP endpoint, with its connections and its budget. Serves one event loop.

    `says` reads an error body in the vendor's format and raises a DecodeError for any other. By the statuses in `bans`
    the vendor shuts us out: nothing is asked again until the ban is over. `hold_seconds` tells from the headers of any
    answer for how long nothing more may leave. `budget` is one that several processes share; by default it is our own.
    `transport` takes the place of the network.
    """

    def __init__(  # noqa: PLR0913 - what vendors differ in, all by name
        self,
        name: str,
        base_url: str,
        *,
        headers: Mapping[str, str],
        limits: HttpLimits,
        secrets: tuple[str, ...] = (),
        says: Callable[[bytes], str] = _plain_message,
        bans: tuple[int, ...] = (418,),
        hold_seconds: Callable[[Mapping[str, str]], float] = _no_hold,
        budget: Budget | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ConfigurationError(
                f"`base_url` of {name} must read http(s)://host[:port] without user, password or query"
            )
        self.name = name
        self.host = parts.netloc
        self.calls = 0
        self.limits = limits
        self._secrets = tuple(secret for secret in secrets if secret)
        self._says = says
        self._bans = bans
        self._hold_seconds = hold_seconds
        self._banned: Banned | None = None
        self._banned_until = 0.0
        self._budget: Budget = budget or RequestBudget(limits.requests_per_minute)
        self._slots = asyncio.Semaphore(limits.max_concurrency)
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            headers=dict(headers),
            timeout=httpx.Timeout(limits.answer_timeout_seconds, connect=limits.connect_timeout_seconds),
            limits=httpx.Limits(
                max_connections=limits.max_concurrency, max_keepalive_connections=limits.max_concurrency
            ),
            follow_redirects=False,
            transport=transport,
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

    async def get(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        scope: str,
        fuse: Fuse,
        explain: Explain,
    ) -> bytes:
        """Body of a 200, after as many tries as the limits allow.

        Raises:
            ProviderError: the last try's error, or the fuse's when it has blown meanwhile.
        """
        waited = pause = 0.0

        def worth_trying_again(error: BaseException) -> bool:
            nonlocal waited, pause
            if isinstance(error, Banned) or fuse.error(scope) is not None:
                return False
            if not isinstance(error, ProviderUnavailable | RateLimited | CutAnswer):
                return False
            # Jitter keeps the calls of one fetch from coming back together.
            pause = self.limits.backoff_seconds * 2 ** (retrying.statistics["attempt_number"] - 1)
            pause *= random.uniform(0.5, 1.5)  # noqa: S311 - not a secret
            if isinstance(error, RateLimited) and error.retry_after_seconds:
                pause = error.retry_after_seconds
            waited += pause
            return waited <= self.limits.waiting_seconds

        def say_so(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome is not None else None
            _log.warning("%s; trying again in %.1f seconds", error, pause)

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(worth_trying_again),
            wait=lambda _: pause,
            stop=tenacity.stop_after_attempt(self.limits.attempts),
            before_sleep=say_so,
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                return await self._try(path, params, scope, fuse, explain)
        raise AssertionError("the last attempt either returns or raises")

    async def _try(
        self,
        path: str,
        params: Mapping[str, str],
        scope: str,
        fuse: Fuse,
        explain: Explain,
    ) -> bytes:
        async with self._slots:
            # Before as well: a call that is not made takes nothing from the budget, and does not wait for it.
            self._check(scope, fuse)
            await self._budget.take()
            self._check(scope, fuse)
            self.calls += 1
            received = bytearray()
            status: int | None = None
            try:
                async with (
                    asyncio.timeout(self.limits.answer_timeout_seconds),
                    self._client.stream("GET", path, params=dict(params)) as response,
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
                    f"{self.name} cannot be reached at {self.host}: {_reason(error)}", provider=self.name
                ) from None
            except (httpx.TimeoutException, TimeoutError):
                raise ProviderUnavailable(
                    f"{self.name} did not answer within {self.limits.answer_timeout_seconds:g} seconds",
                    provider=self.name,
                ) from None
            except httpx.TransportError as error:
                if status == httpx.codes.OK:
                    raise CutAnswer(
                        f"{self.name} cut its answer off after {len(received)} bytes", provider=self.name
                    ) from None
                raise ProviderUnavailable(
                    f"{self.name} broke the connection: {_reason(error)}", provider=self.name
                ) from None
            except httpx.DecodingError:
                raise MalformedAnswer(f"{self.name} sent a body that cannot be unpacked", provider=self.name) from None
        self._budget.close_for(self._hold_seconds(response.headers))
        if status == httpx.codes.OK:
            return bytes(received)
        raise self._refusal(response, bytes(received[:4096]), explain)

    def _refusal(self, response: httpx.Response, body: bytes, explain: Explain) -> ProviderError:
        status = response.status_code
        said = self.without_secrets(_message(body, response.headers.get("content-type", ""), self._says))
        if status in self._bans:
            return self._shut_out(status, response.headers, said)
        if status == httpx.codes.TOO_MANY_REQUESTS:
            return self._rate_limited(response.headers, said)
        if 400 <= status < 500 and (explained := explain(status, said)) is not None:
            return explained
        kind: type[ProviderError]
        if status >= 500:
            kind, message = ProviderUnavailable, f"{self.name} answered {status}: {said}"
        elif status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            what = "the API key" if self._secrets else "access"
            kind, message = Unauthorized, f"{self.name} refused {what} ({status}): {said}"
        elif status == httpx.codes.UNAVAILABLE_FOR_LEGAL_REASONS:
            kind, message = Unauthorized, f"{self.name} does not serve this region (451): {said}"
        elif status >= 400:
            kind, message = RequestRefused, f"{self.name} refused the request ({status}): {said}"
        elif status >= 300:
            target = urlsplit(response.headers.get("location", "")).netloc or "a path of its own"
            kind = RequestRefused
            message = f"{self.name} answered {status}, a redirect to {target}, which is not followed: check `base_url`"
        else:
            kind, message = MalformedAnswer, f"{self.name} answered with the unexpected status {status}"
        return kind(self.without_secrets(message), provider=self.name)

    def _rate_limited(self, headers: Mapping[str, str], said: str) -> RateLimited:
        retry_after = _retry_after_seconds(headers)
        if retry_after is not None:
            self._budget.close_for(min(retry_after, self.limits.waiting_seconds))
        return RateLimited(
            f"{self.name} is rate limiting us (429): {said}", provider=self.name, retry_after_seconds=retry_after
        )

    def _shut_out(self, status: int, headers: Mapping[str, str], said: str) -> Banned:
        seconds = _retry_after_seconds(headers)
        length = "" if seconds is None else f" for {seconds:.0f} seconds"
        banned = Banned(
            f"{self.name} has shut us out{length} ({status}): {said}", provider=self.name, retry_after_seconds=seconds
        )
        self._banned, self._banned_until = banned, time.monotonic() + (seconds or _BAN_SECONDS)
        return banned

    def _check(self, scope: str, fuse: Fuse) -> None:
        ban = self._banned if time.monotonic() < self._banned_until else None
        if (blown := fuse.error(scope) or ban) is not None:
            raise Blown(blown)

    def without_secrets(self, text: str) -> str:
        """`text` with every key replaced by `***`."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


class Blown(PermanentProviderError):
    """Carries the error for which a fuse has blown out of the retries; never leaves this package."""

    def __init__(self, error: ProviderError) -> None:
        super().__init__(str(error), provider=error.provider)
        self.error = error


def _reason(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text[:_QUOTE_CHARACTERS]


def _message(body: bytes, content_type: str, says: Callable[[bytes], str]) -> str:
    """What the vendor says in an error body, on one line and short; never raises."""
    try:
        text = says(body)
    except (msgspec.DecodeError, RecursionError):
        if "html" in content_type or body.lstrip()[:1] == b"<":
            return "an HTML page instead of a message"
        text = body.decode(errors="replace")
    text = " ".join(text.split())
    return text[:_QUOTE_CHARACTERS] if text else "no message"


def _retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `Retry-After` (a number or a date), else by `X-RateLimit-Reset` (unix time), else None."""
    text = headers.get("retry-after")
    if text is not None:
        try:
            seconds = float(text)
        except ValueError:
            seconds = _seconds_until_date(text)
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        seconds = float(headers.get("x-ratelimit-reset", "")) - time.time()
    except ValueError:
        return None
    # A reset beyond the budget's window is another unit or another clock.
    return max(0.0, seconds) if seconds <= 61 else None


def _seconds_until_date(text: str) -> float:
    try:
        moment: datetime = email.utils.parsedate_to_datetime(text)
        return moment.timestamp() - time.time()
    except (ValueError, TypeError):
        return math.nan
