"""Headers of every answer of the board, and whom it refuses: foreign hosts and origins, other methods. No pages."""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Everything comes from the board itself, and nothing is written into its pages: no inline script, no inline style.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
_READING = ("GET", "HEAD")


class Protection:
    """Lets only reading requests through that name an allowed host, and that no page of another origin has sent.

    A page of somebody else can make a browser ask 127.0.0.1, also under a name of its own that it lets point there:
    the names in `Host` and `Origin` tell.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(map(_host_key, hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refused(scope)
        app = self._app if refused is None else refused

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await app(scope, receive, with_headers)

    def _refused(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host = _host_of(f"//{headers.get('host', '')}")
        if host not in self._hosts:
            said = f"the board does not answer to the host {host!r}; `ema-assets board --allow-host` allows a name\n"
            return PlainTextResponse(said, 421)
        origin = headers.get("origin")
        if origin is not None and (_host_of(origin) != host or _port_of(origin) != _port_of(f"//{headers['host']}")):
            return PlainTextResponse("a page of another origin may not ask the board\n", 403)
        if scope["method"] not in _READING:
            return PlainTextResponse("the board only reads\n", 405, {"Allow": ", ".join(_READING)})
        return None


def _host_of(url: str) -> str:
    try:
        return _host_key(urlsplit(url).hostname or "")
    except ValueError:
        return ""


def _port_of(url: str) -> int | None:
    try:
        parts = urlsplit(url)
        return parts.port or {"http": 80, "https": 443}.get(parts.scheme, 80)
    except ValueError:
        return None


def _host_key(host: str) -> str:
    """A host as it is compared: an address in its usual form, a name in small letters."""
    bare = host.strip("[]").lower().rstrip(".")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return bare
