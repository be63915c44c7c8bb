"""GET requests to one vendor over persistent connections. Budget and retries are in `calls`.

A request yields the body of a 200 or an error of the ProviderError tree. Clients decide what is requested.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

from ema_assets.model.errors import ConfigurationError, MalformedAnswer, ProviderUnavailable
from ema_assets.providers.http.budget import Budget, HttpLimits
from ema_assets.providers.http.calls import CallSource
from ema_assets.providers.http.proxies import way_to
from ema_assets.providers.http.refusals import (
    CutAnswer,
    Explain,
    Manners,
    Refusal,
    TimedOut,
    Unreachable,
    web_page,
)

_QUOTED_BYTES = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Options for a client's HTTP that replace the usual ones.

    `budget` is shared by several processes; without it the client has its own. `limits` replace the vendor's usual
    ones. `transport` replaces the network.
    """

    budget: Budget | None = None
    limits: HttpLimits | None = None
    transport: httpx.AsyncBaseTransport | None = None


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One GET. `scope` is the part of the vendor's API that it concerns, for the circuit breaker."""

    path: str
    params: Mapping[str, str]
    scope: str
    explain: Explain


class HttpSource(CallSource[HttpCall, bytes]):
    """One vendor's HTTP endpoint, with its connections and its budget. Serves one event loop."""

    def __init__(
        self, name: str, base_url: str, manners: Manners, limits: HttpLimits, options: HttpOptions | None = None
    ) -> None:
        try:
            parts = urlsplit(base_url)
            is_plain = parts.hostname and (parts.port or 0) >= 0 and not parts.username and not parts.query
        except ValueError:
            is_plain = False
        if not is_plain or parts.scheme not in ("http", "https"):
            raise ConfigurationError(
                f"`base_url` of {name} must read http(s)://host[:port] without user, password or query"
            )
        options = options or HttpOptions()
        way = way_to(base_url) if options.transport is None else None
        super().__init__(name, parts.netloc, options.limits or limits, options.budget)
        self._manners = manners
        self._proxy = way.proxy if way is not None else None
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            headers=dict(manners.headers),
            timeout=httpx.Timeout(self.limits.answer_timeout_seconds, connect=self.limits.connect_timeout_seconds),
            limits=httpx.Limits(
                max_connections=self.limits.max_concurrency, max_keepalive_connections=self.limits.max_concurrency
            ),
            follow_redirects=False,
            transport=options.transport,
            proxy=way.http_proxy if way is not None else None,
            verify=way.certificates if way is not None else True,
            trust_env=False,
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

    async def _send(self, call: HttpCall) -> bytes:
        """Send one call and return the body of a 200."""
        self.calls += 1
        status, headers, body = await self._receive(call)
        self._budget.close_for(self._manners.pause_seconds(headers))
        if status == httpx.codes.OK:
            if (page := web_page(self.name, headers, body)) is not None:
                raise page
            return body
        raise Refusal(status, headers, body[:_QUOTED_BYTES]).error(self.name, self._manners, call.explain)

    async def _receive(self, call: HttpCall) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body of one answer with any status."""
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
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            by = "" if self._proxy is None else f" by {self._proxy}"
            raise Unreachable(
                f"{self.name} cannot be reached at {self.host}{by}: {self._manners.reason(error)}", provider=self.name
            ) from None
        except (httpx.TimeoutException, TimeoutError):
            raise TimedOut(
                f"{self.name} did not answer within {self.limits.answer_timeout_seconds:g} seconds", provider=self.name
            ) from None
        except httpx.TransportError as error:
            if status == httpx.codes.OK:
                raise CutAnswer(
                    f"{self.name} cut its answer off after {len(received)} bytes", provider=self.name
                ) from None
            raise ProviderUnavailable(
                f"{self.name} broke the connection: {self._manners.reason(error)}", provider=self.name
            ) from None
        except httpx.DecodingError:
            raise MalformedAnswer(f"{self.name} sent a body that cannot be unpacked", provider=self.name) from None
        return response.status_code, response.headers, bytes(received)

    def without_secrets(self, text: str) -> str:
        """Return `text` with every key replaced by `***`."""
        return self._manners.without_secrets(text)
