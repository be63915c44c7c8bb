"""A transport of the HTTP client that goes by curl and looks like a browser to its last byte. Needs an extra.

Some networks refuse a caller that names itself a browser and does not begin its TLS as that browser does. libcurl, as
the package curl_cffi brings it, does; so the names of a browser are left to it, and only `Accept` is passed on.
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
# Headers of an answer that speak of its body as it was sent; curl has unpacked it.
_OF_THE_WIRE = ("content-encoding", "content-length", "transfer-encoding")
# libcurl's numbers of errors (curl.se/libcurl/c/libcurl-errors.html): a time-out, one of the body's encoding, and those
# that end a connection which had been made. All others keep one from being made.
_TIMED_OUT, _BAD_ENCODING = 28, 61
_AFTER_CONNECTING = frozenset({1, 3, 8, 16, 18, 22, 23, 47, 52, 55, 56, 92, 95, 96})


class CurlTransport(httpx.AsyncBaseTransport):
    """Sends requests by curl, up to `connections` at a time, and reads `max_body_bytes` each. Serves one event loop."""

    def __init__(self, connections: int, max_body_bytes: int = HttpLimits().max_body_bytes) -> None:
        """Find the package; connect later.

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
        """The answer to one request.

        It is read before it is returned: a streamed one cannot be left early, as a call that takes too long is.

        Raises:
            httpx.TransportError: as the transport of the HTTP client itself would.
        """
        if self._session is None:
            # Here and not before: it belongs to the running loop.
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
                # A proxy of the environment must not see calls to this machine.
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
            # Whoever reads it finds that it is too long, whatever its status.
            return httpx.Response(httpx.codes.OK, stream=body)
        except self._curl.exceptions.RequestException as error:
            answer = error.response
            if not body.received or answer is None or not answer.status_code:
                raise _typed(error) from None
            # There is an answer, and its end is missing.
            body.failure = httpx.ReadError(reason(error))
        headers = [(name, value) for name, value in answer.headers.multi_items() if name.lower() not in _OF_THE_WIRE]
        return httpx.Response(answer.status_code, headers=headers, stream=body)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


class _Body(httpx.AsyncByteStream):
    """The body of an answer, and how it ended if not well. No more than a byte over the limit is kept."""

    def __init__(self, most: int) -> None:
        self.received = bytearray()
        self.failure: httpx.ReadError | None = None
        self.when_full: Callable[[], object] = lambda: None
        self._most = most

    @property
    def is_full(self) -> bool:
        """True when there was more than is read."""
        return len(self.received) > self._most

    def take(self, piece: bytes) -> int:
        """Keep a piece; the answer tells curl to go on, for a smaller one is worth a warning to it."""
        self.received += piece[: self._most + 1 - len(self.received)]
        if self.is_full:
            self.when_full()
        return len(piece)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield bytes(self.received)
        if self.failure is not None:
            raise self.failure


def _typed(error: Any) -> httpx.RequestError:
    """Curl's error as the HTTP client's own."""
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
