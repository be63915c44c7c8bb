"""A transport of the HTTP client that uses curl and looks exactly like a browser. It needs an extra.

Some networks refuse a caller that calls itself a browser but does not begin its TLS as this browser does. The libcurl
of the package curl_cffi does, so it sets the headers of a browser, and only `Accept` is passed on.
"""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from typing import Any

import httpx

from ema_assets.model.errors import ConfigurationError
from ema_assets.providers.http.budget import HttpLimits
from ema_assets.providers.http.refusals import reason

_BROWSER = "chrome"
# Headers that describe the body as it was sent. curl has already decoded it.
_OF_THE_WIRE = ("content-encoding", "content-length", "transfer-encoding")
# libcurl's error numbers (curl.se/libcurl/c/libcurl-errors.html): a time-out, an error in the encoding of the body, and
# the errors that end an established connection. All others prevent a connection.
_TIMED_OUT, _BAD_ENCODING = 28, 61
_AFTER_CONNECTING = frozenset({1, 3, 8, 16, 18, 22, 23, 47, 52, 55, 56, 92, 95, 96})


class CurlTransport(httpx.AsyncBaseTransport):
    """A transport by curl: up to `connections` at a time, up to `max_body_bytes` per answer. For one event loop."""

    def __init__(self, connections: int, max_body_bytes: int = HttpLimits().max_body_bytes) -> None:
        """Import the package; connect later.

        Raises:
            ConfigurationError: when the package is missing.
        """
        try:
            self._curl: Any = import_module("curl_cffi.requests")
        except ImportError as error:
            raise ConfigurationError(
                f"the transport curl_cffi needs a package ({reason(error)}): pip install 'ema-assets[curl_cffi]'"
            ) from None
        self._connections = connections
        self._max_body_bytes = max_body_bytes
        self._session: Any = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return the answer.

        The answer is read before it is returned, because a streamed one could not be abandoned when it takes too long.

        Raises:
            httpx.TransportError: as the HTTP client's own transport does.
        """
        if self._session is None:
            # Created here and not earlier, because it belongs to the running event loop.
            self._session = self._curl.AsyncSession(
                max_clients=self._connections, impersonate=_BROWSER, allow_redirects=False, discard_cookies=True
            )
        timeout = request.extensions.get("timeout", {})
        body = _Body(self._max_body_bytes)
        sending = asyncio.ensure_future(
            self._session.request(
                request.method,
                str(request.url),
                headers={"Accept": request.headers.get("accept", "*/*")},
                timeout=(timeout.get("connect"), timeout.get("read")),
                # A proxy in the environment must not see calls to this machine.
                proxies={"all": ""} if _is_loopback(request.url.host) else None,
                quote=False,
                content_callback=body.take,
            )
        )
        body.when_full = sending.cancel
        try:
            answer = await sending
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not body.is_full or (task is not None and task.cancelling()):
                raise
            # The reader finds that the body is too long, whatever its status.
            return httpx.Response(httpx.codes.OK, stream=body)
        except self._curl.exceptions.RequestException as error:
            answer = error.response
            if not body.received or answer is None or not answer.status_code:
                raise _typed(error) from None
            # There is an answer, but its end is missing.
            body.failure = httpx.ReadError(reason(error))
        headers = [(name, value) for name, value in answer.headers.multi_items() if name.lower() not in _OF_THE_WIRE]
        return httpx.Response(answer.status_code, headers=headers, stream=body)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


class _Body(httpx.AsyncByteStream):
    """The body of an answer, and the failure that ended it, if any. At most one byte more than the limit is kept."""

    def __init__(self, most: int) -> None:
        self.received = bytearray()
        self.failure: httpx.ReadError | None = None
        self.when_full: Callable[[], object] = lambda: None
        self._most = most

    @property
    def is_full(self) -> bool:
        """Whether the body is longer than the limit."""
        return len(self.received) > self._most

    def take(self, piece: bytes) -> int:
        """Keep a piece; return its length, because curl warns if less was taken."""
        self.received += piece[: self._most + 1 - len(self.received)]
        if self.is_full:
            self.when_full()
        return len(piece)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield bytes(self.received)
        if self.failure is not None:
            raise self.failure


def _typed(error: Any) -> httpx.RequestError:
    """Return curl's error as an error of the HTTP client."""
    said, code = reason(error), int(error.code or 0)
    if code == _TIMED_OUT:
        return httpx.ConnectTimeout(said) if "onnection timed out" in said else httpx.ReadTimeout(said)
    if code == _BAD_ENCODING:
        return httpx.DecodingError(said)
    return httpx.ReadError(said) if code in _AFTER_CONNECTING else httpx.ConnectError(said)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
